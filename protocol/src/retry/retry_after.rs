//! What a server asks for in `Retry-After`.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::Timestamp;

/// Retry-After as a span: seconds, or a date seen from `now`, which is the machine's wall time; `None` for what is
/// neither.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = http_date(value)?;
    Some(date.duration_since(now).try_into().unwrap_or(Duration::ZERO))
}

/// A date as HTTP writes it (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seconds_or_a_date() {
        let mut headers = HeaderMap::new();
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after(&headers, now), None);
        for (text, seconds) in
            [("120", Some(120)), ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)), ("soon", None), ("-1", None)]
        {
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
