//! Streams of randomness: one for each purpose, keyed by its name, so that no purpose ever shifts another's draws.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use xxhash_rust::xxh3::xxh3_64;

/// All streams of one seed.
#[derive(Clone, Debug)]
pub struct Streams {
    base: ChaCha8Rng,
}

impl Streams {
    /// The streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { base: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The stream of one purpose, from its beginning.
    pub fn stream(&self, purpose: &str) -> ChaCha8Rng {
        let mut stream = self.base.clone();
        stream.set_stream(xxh3_64(purpose.as_bytes()));
        stream
    }

    /// The `ordinal`-th decision of a purpose, whatever was drawn before it.
    pub fn decision(&self, purpose: &str, ordinal: u64) -> u64 {
        let mut stream = self.stream(purpose);
        stream.set_word_pos(u128::from(ordinal) * 2);
        stream.next_u64()
    }
}

/// Does a decision come out true that should do so `percent` times in a hundred?
pub fn chance(decision: u64, percent: u8) -> bool {
    decision % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_draws_the_same_whatever_others_draw() {
        let streams = Streams::new(7);
        let alone: Vec<u64> = {
            let mut link = streams.stream("link:a->b");
            (0..8).map(|_| link.next_u64()).collect()
        };
        let (mut other, mut link) = (streams.stream("faults"), streams.stream("link:a->b"));
        let beside: Vec<u64> = (0..8)
            .map(|_| {
                other.next_u64();
                link.next_u64()
            })
            .collect();
        assert_eq!(alone, beside);
    }

    #[test]
    fn names_and_seeds_part_the_streams() {
        let first = |seed: u64, name: &str| Streams::new(seed).stream(name).next_u64();
        assert_ne!(first(1, "faults"), first(1, "workload"));
        assert_ne!(first(1, "faults"), first(2, "faults"));
    }

    #[test]
    fn a_decision_depends_on_its_ordinal_alone() {
        let streams = Streams::new(3);
        let all: Vec<u64> = (0..5).map(|n| streams.decision("fault:1", n)).collect();
        assert_eq!(all[3], streams.decision("fault:1", 3));
        assert_ne!(all[3], all[4]);
    }
}
