//! Times and spans as .NET writes them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// An instant in the round-trip ("O") format of .NET: UTC with seven fractional digits.
pub fn format_instant(instant: Timestamp) -> String {
    let civil = Offset::UTC.to_datetime(instant);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:07}Z",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        civil.subsec_nanosecond() / 100,
    )
}

/// An ISO 8601 instant; without an offset it is UTC.
pub fn parse_instant(text: &str) -> Option<Timestamp> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    // Something that names an offset or a zone and is no instant is not to be read as a time without one.
    if text.bytes().skip(10).any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-' | b'[')) {
        return None;
    }
    Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()
}

/// A span in the constant ("c") format of .NET: `[d.]hh:mm:ss[.fffffff]`.
pub fn format_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days}.") } else { String::new() };
    let ticks = span.subsec_nanos() / 100;
    let fraction = if ticks > 0 { format!(".{ticks:07}") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{:02}{fraction}", seconds % 60)
}

/// Reads what [`format_span`] writes; `None` for negative spans and other text.
pub fn parse_span(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) if clock.contains(':') => (days.parse::<u64>().ok()?, clock),
        _ => (0, text),
    };
    let mut parts = clock.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let (seconds, fraction) = match parts.next()? {
        last if parts.next().is_some() || last.is_empty() => return None,
        last => last.split_once('.').unwrap_or((last, "0")),
    };
    let seconds: u64 = seconds.parse().ok()?;
    if hours > 23 || minutes > 59 || seconds > 59 || fraction.is_empty() || fraction.len() > 7 {
        return None;
    }
    let ticks: u32 = format!("{fraction:0<7}").parse().ok()?;
    let whole = days.checked_mul(86_400)?.checked_add(hours * 3_600 + minutes * 60 + seconds)?;
    Some(Duration::new(whole, ticks * 100))
}

/// Serde of an optional instant. The default of .NET, year 1, is read as none.
pub mod instant_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::*;

    /// Writes it in the "O" format.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(instant: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        instant.map(format_instant).serialize(to)
    }

    /// Reads it with or without an offset.
    ///
    /// # Errors
    /// Text that is no instant.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        match Option::<String>::deserialize(from)? {
            None => Ok(None),
            Some(text) if text.is_empty() || text.starts_with("0001-01-01T00:00:00") => Ok(None),
            Some(text) => match parse_instant(&text) {
                Some(instant) => Ok(Some(instant)),
                None => Err(serde::de::Error::custom(format_args!("no instant: {text:?}"))),
            },
        }
    }
}

/// Serde of a span.
pub mod span {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::*;

    /// Writes it in the "c" format.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        format_span(*span).serialize(to)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Text that is no span.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse_span(&text).ok_or_else(|| serde::de::Error::custom(format_args!("no span: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_have_seven_digits() {
        let instant: Timestamp = "2026-01-02T03:04:05.1234567Z".parse().unwrap();
        assert_eq!(format_instant(instant), "2026-01-02T03:04:05.1234567Z");
        assert_eq!(format_instant("2026-01-02T03:04:05Z".parse().unwrap()), "2026-01-02T03:04:05.0000000Z");
    }

    #[test]
    fn instants_without_an_offset_are_utc() {
        let meant: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(parse_instant("2026-01-02T03:04:05"), Some(meant));
        assert_eq!(parse_instant("2026-01-02T05:04:05+02:00"), Some(meant));
        assert_eq!(parse_instant("soon"), None);
        assert_eq!(parse_instant("2026-01-02T05:04:05+99:00"), None);
    }

    #[test]
    fn spans_are_those_of_dotnet() {
        assert_eq!(format_span(Duration::from_secs(300)), "00:05:00");
        assert_eq!(format_span(Duration::new(90_061, 500_000_000)), "1.01:01:01.5000000");
        assert_eq!(parse_span("00:05:00"), Some(Duration::from_secs(300)));
        assert_eq!(parse_span("1.01:01:01.5"), Some(Duration::new(90_061, 500_000_000)));
        for wrong in ["", "5", "00:05", "-00:05:00", "00:61:00", "00:00:00:00", "x:0:0", "00:00:0."] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn spans_come_back(ticks in 0u64..1 << 50) {
            let span = Duration::from_nanos(ticks * 100);
            prop_assert_eq!(parse_span(&format_span(span)), Some(span));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,40}") {
            let _ = (parse_span(&text), parse_instant(&text));
        }
    }
}
