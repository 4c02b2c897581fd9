//! How a worker repeats its calls (`AbstractBuildResourceApi.kt`, `HttpRetryUtils`).

use std::time::Duration;

use http::StatusCode;

use super::gateway::{CallFailure, Method, RawAnswer};
use crate::http::TransportError;

/// How long a worker waits for an answer.
pub(super) const WORKER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a start, a claim and a completion are tried.
pub(super) const TRIES: u32 = 100;
/// How often the end of a job is reported.
pub(super) const END_TRIES: u32 = 5;

/// How often the HTTP client itself sends a request.
const INNER_TRIES: u32 = 5;
const INNER_PAUSE: Duration = Duration::from_millis(500);

/// How long a worker waits after the n-th failure, n from 0.
pub(super) fn pause_after(n: u32) -> Duration {
    Duration::from_millis(500) + Duration::from_secs(u64::from(n % 11))
}

/// Does the HTTP client itself send the request again, after `sent` times?
pub(super) fn inner(method: &Method, sent: u32, outcome: &Result<RawAnswer, CallFailure>) -> Option<Duration> {
    let again = match outcome {
        Ok(answer) => matches!(
            answer.status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ),
        Err(CallFailure::Transport(
            TransportError::Refused | TransportError::Dns { .. } | TransportError::Unreachable,
        )) => true,
        Err(CallFailure::TimedOut(_)) => method == Method::GET,
        Err(_) => false,
    };
    (again && sent < INNER_TRIES).then_some(INNER_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_tries_take_nine_minutes() {
        let waits: Duration = (0..TRIES).map(pause_after).sum();
        assert_eq!(waits, Duration::from_secs(50 + 495));
    }

    #[test]
    fn only_reading_is_repeated_after_a_silence() {
        let silent = Err(CallFailure::TimedOut(WORKER_TIMEOUT));
        assert_eq!(inner(&Method::GET, 1, &silent), Some(INNER_PAUSE));
        assert_eq!(inner(&Method::POST, 1, &silent), None);
        assert_eq!(inner(&Method::GET, 5, &silent), None);
        let refused = Err(CallFailure::Transport(TransportError::Refused));
        assert_eq!(inner(&Method::POST, 1, &refused), Some(INNER_PAUSE));
        assert_eq!(inner(&Method::POST, 1, &Err(CallFailure::Transport(TransportError::Reset))), None);
    }
}
