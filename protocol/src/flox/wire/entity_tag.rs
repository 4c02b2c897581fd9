//! Entity tags (RFC 9110, 8.8.3).

use std::fmt;
use std::str::FromStr;

/// An entity tag: two representations with the same strong one are the same, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    opaque: String,
    weak: bool,
}

impl EntityTag {
    /// A strong one.
    pub fn strong(opaque: impl Into<String>) -> Self {
        Self { opaque: opaque.into(), weak: false }
    }

    /// A weak one: the representations mean the same, whatever their bytes.
    pub fn weak(opaque: impl Into<String>) -> Self {
        Self { opaque: opaque.into(), weak: true }
    }

    /// Can bytes be put together by it?
    pub fn is_strong(&self) -> bool {
        !self.weak
    }

    /// Strong comparison, as If-Range asks for.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_strong() && other.is_strong() && self.opaque == other.opaque
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}\"{}\"", if self.weak { "W/" } else { "" }, self.opaque)
    }
}

/// A text is no entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no entity tag")]
pub struct NoEntityTag;

impl FromStr for EntityTag {
    type Err = NoEntityTag;

    fn from_str(text: &str) -> Result<Self, NoEntityTag> {
        let text = text.trim();
        let (quoted, weak) = text.strip_prefix("W/").map_or((text, false), |rest| (rest, true));
        let opaque = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(NoEntityTag)?;
        let plain = opaque.bytes().all(|byte| byte > b' ' && byte != b'"' && byte != 0x7f);
        if plain { Ok(Self { opaque: opaque.to_owned(), weak }) } else { Err(NoEntityTag) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_the_wire_and_only_strong_ones_compare() {
        for tag in [EntityTag::strong("abc"), EntityTag::weak("abc")] {
            assert_eq!(tag.to_string().parse(), Ok(tag.clone()));
            assert_eq!(tag.is_same(&tag), tag.is_strong());
        }
        for junk in ["", "\"", "abc", "W/abc", "\"a\"b\"", "\"a b\""] {
            assert!(junk.parse::<EntityTag>().is_err(), "{junk:?}");
        }
    }
}
