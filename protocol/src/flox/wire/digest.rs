//! SHA-256, as publishers write it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a file's content, 64 hexadecimal digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Of this content.
    pub fn of(content: &[u8]) -> Self {
        Self::of_pieces([content])
    }

    /// Of content that comes in pieces.
    pub fn of_pieces<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = P>) -> Self {
        let mut hash = Sha256::new();
        pieces.into_iter().for_each(|piece| hash.update(piece));
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// A text is not the digest of anything, for instance an error page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no SHA-256 but {0:?}")]
pub struct NoDigest(String);

impl FromStr for Digest {
    type Err = NoDigest;

    /// Takes what `sha256sum` prints as well: whatever follows the digits is ignored.
    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let first = text.split_whitespace().next().unwrap_or_default();
        if first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(first.to_ascii_lowercase()));
        }
        Err(NoDigest(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn it_is_sha_256() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        assert_eq!(Digest::of_pieces([b"ab", b"cd"]), Digest::of(b"abcd"));
    }

    #[test]
    fn only_digits_are_a_digest() {
        let upper = format!("{}  tailscale.tgz\n", EMPTY.to_ascii_uppercase());
        assert_eq!(upper.parse(), Ok(Digest::of(b"")));
        for junk in ["", "<html>", &EMPTY[1..], &format!("{EMPTY}0"), &format!("x{}", &EMPTY[1..])] {
            assert!(junk.parse::<Digest>().is_err(), "{junk:?}");
        }
    }
}
