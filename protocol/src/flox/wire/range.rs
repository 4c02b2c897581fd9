//! Byte ranges (RFC 9110, 14).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What a client asks for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From here to the end, or to a last byte.
    From(u64, Option<u64>),
    /// The last so many.
    Last(u64),
}

/// What there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// These bytes, the last one included.
    Bytes(RangeInclusive<u64>),
    /// None: 416.
    Nothing,
}

impl Range {
    /// What an object of this size has of it.
    pub fn of(self, size: u64) -> Requested {
        let (first, last) = match self {
            Range::From(first, last) => (first, last.unwrap_or(u64::MAX).min(size.saturating_sub(1))),
            Range::Last(0) => return Requested::Nothing,
            Range::Last(count) => (size.saturating_sub(count), size.saturating_sub(1)),
        };
        if first < size { Requested::Bytes(first..=last) } else { Requested::Nothing }
    }
}

/// A header says nothing that a server has to follow: it is malformed, or asks for several ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no single range of bytes")]
pub struct NoRange;

impl FromStr for Range {
    type Err = NoRange;

    fn from_str(header: &str) -> Result<Self, NoRange> {
        let asked = header.trim().strip_prefix("bytes=").ok_or(NoRange)?;
        let (first, last) = asked.split_once('-').ok_or(NoRange)?;
        match (number(first), number(last)) {
            (Ok(first), Ok(last)) if first <= last => Ok(Range::From(first, Some(last))),
            (Ok(first), Err(_)) if last.is_empty() => Ok(Range::From(first, None)),
            (Err(_), Ok(count)) if first.is_empty() => Ok(Range::Last(count)),
            _ => Err(NoRange),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range::From(first, Some(last)) => write!(to, "bytes={first}-{last}"),
            Range::From(first, None) => write!(to, "bytes={first}-"),
            Range::Last(count) => write!(to, "bytes=-{count}"),
        }
    }
}

/// What an answer has of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// These bytes, of an object of this size if that is known (206).
    Bytes {
        /// The first one.
        first: u64,
        /// The last one, included.
        last: u64,
        /// The object's size.
        size: Option<u64>,
    },
    /// Nothing of an object of this size (416).
    Unsatisfied {
        /// The object's size.
        size: u64,
    },
}

impl FromStr for ContentRange {
    type Err = NoRange;

    fn from_str(header: &str) -> Result<Self, NoRange> {
        let (range, size) =
            header.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).ok_or(NoRange)?;
        if range == "*" {
            return Ok(ContentRange::Unsatisfied { size: number(size)? });
        }
        let (first, last) = range.split_once('-').ok_or(NoRange)?;
        let (first, last) = (number(first)?, number(last)?);
        let size = if size == "*" { None } else { Some(number(size)?) };
        if first > last || size.is_some_and(|size| last >= size) {
            return Err(NoRange);
        }
        Ok(ContentRange::Bytes { first, last, size })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentRange::Bytes { first, last, size: Some(size) } => write!(to, "bytes {first}-{last}/{size}"),
            ContentRange::Bytes { first, last, size: None } => write!(to, "bytes {first}-{last}/*"),
            ContentRange::Unsatisfied { size } => write!(to, "bytes */{size}"),
        }
    }
}

/// Digits alone, as the grammar has it.
fn number(text: &str) -> Result<u64, NoRange> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().map_err(|_| NoRange) } else { Err(NoRange) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        let of = |header: &str| header.parse::<Range>().unwrap().of(100);
        assert_eq!(of("bytes=0-"), Requested::Bytes(0..=99));
        assert_eq!(of("bytes=40-49"), Requested::Bytes(40..=49));
        assert_eq!(of("bytes=40-4000"), Requested::Bytes(40..=99));
        assert_eq!(of("bytes=-10"), Requested::Bytes(90..=99));
        assert_eq!(of("bytes=-1000"), Requested::Bytes(0..=99));
        assert_eq!(of("bytes=100-"), Requested::Nothing);
        assert_eq!(of("bytes=-0"), Requested::Nothing);
        assert_eq!("bytes=0-".parse::<Range>().unwrap().of(0), Requested::Nothing);
    }

    #[test]
    fn what_is_no_single_range_is_none() {
        for header in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-", "bytes=a-"]
        {
            assert!(header.parse::<Range>().is_err(), "{header:?}");
        }
        for header in ["", "bytes */x", "bytes 0-9/5", "bytes 9-0/*", "bytes 0-9", "0-9/10"] {
            assert!(header.parse::<ContentRange>().is_err(), "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn they_survive_the_wire(first in 0..1_000_u64, more in 0..1_000_u64, known: bool) {
            let last = first + more;
            for range in [Range::From(first, Some(last)), Range::From(first, None), Range::Last(last)] {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
            }
            let size = known.then_some(last + 1);
            for range in [ContentRange::Bytes { first, last, size }, ContentRange::Unsatisfied { size: last }] {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
            }
        }

        #[test]
        fn garbage_is_refused_or_read_and_never_more(text in "\\PC{0,40}") {
            if let Ok(range) = text.parse::<Range>() {
                let _ = range.of(7);
            }
            let _ = text.parse::<ContentRange>();
        }
    }
}
