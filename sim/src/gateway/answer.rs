//! What a gateway answers in the server's place.

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use crate::fault::RetryAfter;

/// What the portal of a hotel answers to everything.
const LOGIN_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head>\n<body><form \
                          method=\"post\" action=\"/login\"><input name=\"user\"><input name=\"password\" \
                          type=\"password\"></form></body></html>\n";

/// A bare page with a status, as reverse proxies send it. `now` is the gateway's wall time.
pub(super) fn status(status: u16, retry_after: Option<&RetryAfter>, now: Timestamp) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let page = format!("<html>\n<head><title>{status}</title></head>\n<body>\n<h1>{status}</h1>\n</body>\n</html>\n");
    let mut response = html(status, page);
    if let Some(value) = retry_after.and_then(|after| retry_after_header(after, now)) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// A captive portal's page: 200, and not what was asked for.
pub(super) fn login_page() -> Response<Body> {
    html(StatusCode::OK, LOGIN_PAGE)
}

fn html(status: StatusCode, page: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(page.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

/// RFC 9110 section 10.2.3: a number of seconds or an HTTP date. `None` for what no header can hold.
fn retry_after_header(after: &RetryAfter, now: Timestamp) -> Option<HeaderValue> {
    match after {
        RetryAfter::Seconds(seconds) => Some(HeaderValue::from(*seconds)),
        RetryAfter::Date(seconds) => {
            let ahead = SignedDuration::from_secs(i64::try_from(*seconds).ok()?);
            let date = now.checked_add(ahead).ok()?;
            let printed = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).ok()?;
            HeaderValue::try_from(printed).ok()
        }
        RetryAfter::Absurd(text) => HeaderValue::try_from(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_comes_as_seconds_as_a_date_and_as_nonsense() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let header = |after| retry_after_header(&after, now).unwrap();
        assert_eq!(header(RetryAfter::Seconds(120)), "120");
        assert_eq!(header(RetryAfter::Date(90)), "Thu, 01 Jan 2026 00:01:30 GMT");
        assert_eq!(header(RetryAfter::Absurd("-1".to_owned())), "-1");
        assert_eq!(retry_after_header(&RetryAfter::Absurd("a\nb".to_owned()), now), None);
    }

    #[test]
    fn a_status_page_has_the_status_and_is_no_json() {
        let answer = status(502, Some(&RetryAfter::Seconds(3)), Timestamp::UNIX_EPOCH);
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.headers()[RETRY_AFTER], "3");
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/html");
        assert_eq!(login_page().status(), 200);
    }
}
