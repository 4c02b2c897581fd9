//! The content of artefacts: cheap to make, different for each revision, and no part of it like another.

use bytes::Bytes;

use crate::flox::wire::Digest;

/// Content repeats after so many bytes: a prime, so that pieces of round sizes which come in the wrong place or twice
/// never look right.
const PERIOD: usize = 65_521;

/// A file's content.
#[derive(Clone, Debug)]
pub struct Content {
    block: Bytes,
    size: u64,
    digest: Digest,
}

impl Content {
    /// So many bytes that follow from `name` alone.
    pub fn of(name: &str, size: u64) -> Self {
        let block = block(name);
        let mut content = Self { block, size, digest: Digest::of(b"") };
        content.digest = Digest::of_pieces(content.pieces());
        content
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// So many bytes from a place on, or as many as there are.
    pub fn piece(&self, from: u64, count: u64) -> Bytes {
        let count = count.min(self.size.saturating_sub(from)) as usize;
        let start = (from % PERIOD as u64) as usize;
        if start + count <= PERIOD {
            return self.block.slice(start..start + count);
        }
        let mut piece = Vec::with_capacity(count);
        piece.extend_from_slice(&self.block[start..]);
        while piece.len() < count {
            let rest = (count - piece.len()).min(PERIOD);
            piece.extend_from_slice(&self.block[..rest]);
        }
        piece.into()
    }

    fn pieces(&self) -> impl Iterator<Item = Bytes> {
        (0..self.size).step_by(PERIOD).map(|from| self.piece(from, PERIOD as u64))
    }
}

/// Bytes that look like those of a compressed file: SplitMix64, seeded by the name.
fn block(name: &str) -> Bytes {
    // FNV-1a.
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut state = seed;
    let mut block = Vec::with_capacity(PERIOD + 8);
    while block.len() < PERIOD {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        block.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    block.truncate(PERIOD);
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_however_they_are_cut() {
        let content = Content::of("f#1", 200_000);
        let whole = content.piece(0, u64::MAX);
        assert_eq!((whole.len(), &Digest::of(&whole)), (200_000, content.digest()));
        for step in [1_000, 65_521, 100_000] {
            let cut: Vec<u8> = (0..200_000).step_by(step).flat_map(|from| content.piece(from, step as u64)).collect();
            assert_eq!(cut, whole);
        }
        assert_eq!(content.piece(200_000, 5), "");
    }

    #[test]
    fn revisions_and_places_differ() {
        let (one, two) = (Content::of("f#1", 100_000), Content::of("f#2", 100_000));
        assert_ne!(one.digest(), two.digest());
        assert_ne!(one.piece(0, 4_096), one.piece(4_096, 4_096));
    }
}
