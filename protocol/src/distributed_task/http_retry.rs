//! The retry handler below every call of the agents: `VssHttpRetryMessageHandler` and `VssHttpRetryOptions`.

use std::time::Duration;

use http::{Method, StatusCode};
use rand::RngCore;

use crate::http::TransportError;
use crate::random::{self, Random};
use crate::retry::{Attempt, Decision, Outcome, RetryPolicy, asks_for_later};

/// When this header is in an answer, the host is known to be away and the status is not retried.
pub const HOST_OFFLINE: &str = "x-vss-hostofflineerror";

/// `MinBackoff` of `VssHttpRetryOptions`.
pub const MIN_BACKOFF: Duration = Duration::from_secs(10);
/// `MaxBackoff` of `VssHttpRetryOptions`.
pub const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// `BackoffCoefficient` of `VssHttpRetryOptions`.
pub const BACKOFF_COEFFICIENT: Duration = Duration::from_secs(1);
/// Retries of ordinary calls: `GITHUB_ACTIONS_RUNNER_HTTP_RETRY` and `HttpRetryCount` default to it (`VssUtil.cs`).
pub const RETRIES: u32 = 3;
/// Retries of the OAuth client: the default of `VssHttpRetryOptions`.
pub const TOKEN_RETRIES: u32 = 5;

/// Waits `min(10 s + (2^n - 1) * U[0.8, 1.2) s, 600 s)` after failed attempt `n`.
///
/// It looks at the status or the transport error only, never at the method: a POST is replayed like a GET. It knows no
/// Retry-After, and 429 is no reason to retry.
#[derive(Clone, Debug)]
pub struct VssHttpRetry {
    retries: u32,
    also: &'static [StatusCode],
}

impl VssHttpRetry {
    /// As connections of the runner and the agent use it: 4 attempts; 502, 503 and 504.
    pub const fn ordinary() -> Self {
        Self { retries: RETRIES, also: &[] }
    }

    /// As the OAuth client uses it: 6 attempts; 500 and 429 too (`VssOAuthTokenHttpClient.cs`).
    pub const fn token() -> Self {
        Self { retries: TOKEN_RETRIES, also: &[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS] }
    }

    /// With a number of retries, as the environment can set it. It is clamped to 3..=10.
    pub fn with_retries(retries: u32) -> Self {
        Self { retries: retries.clamp(RETRIES, 10), also: &[] }
    }

    fn retriable(&self, outcome: &Outcome<'_>) -> bool {
        match outcome {
            Outcome::Status { status, .. } => is_gateway_trouble(*status) || self.also.contains(status),
            Outcome::Transport(error) => is_retriable_transport(error),
            Outcome::TimedOut => false,
        }
    }
}

impl RetryPolicy for VssHttpRetry {
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        if attempt.number > self.retries || !self.retriable(&attempt.outcome) {
            return Decision::GiveUp;
        }
        Decision::Retry(exponential_backoff(attempt.number, MIN_BACKOFF, random))
    }
}

/// `BackoffTimerHelper.GetExponentialBackoff` with the default options but for the shortest wait.
pub(crate) fn exponential_backoff(failed: u32, shortest: Duration, random: &mut (impl RngCore + ?Sized)) -> Duration {
    let spread = random::uniform(random, BACKOFF_COEFFICIENT * 8 / 10..BACKOFF_COEFFICIENT * 12 / 10);
    let steps = 1u32.checked_shl(failed).map_or(u32::MAX, |power| power - 1);
    shortest.saturating_add(spread.saturating_mul(steps)).min(MAX_BACKOFF)
}

/// Exponential with full jitter, and it minds what the server asks for.
///
/// It also retries what certainly was not carried out (a refused connection) and 429, and waits at least Retry-After,
/// capped: a server's word is input, not an order.
#[derive(Clone, Debug)]
pub struct FullJitter {
    retries: u32,
}

/// First step of [`FullJitter`]: it spreads a fleet that lost its server in one instant.
const FULL_JITTER_BASE: Duration = Duration::from_secs(5);

impl FullJitter {
    /// The largest wait, which is also the most that Retry-After can ask for.
    pub const CAP: Duration = Duration::from_secs(20);

    /// As many attempts as [`VssHttpRetry::ordinary`] makes.
    pub const fn ordinary() -> Self {
        Self { retries: RETRIES }
    }

    /// As many attempts as [`VssHttpRetry::token`] makes.
    pub const fn token() -> Self {
        Self { retries: TOKEN_RETRIES }
    }

    /// No retry at all: the layer above retries.
    pub const fn single() -> Self {
        Self { retries: 0 }
    }
}

impl RetryPolicy for FullJitter {
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        let asked = match &attempt.outcome {
            Outcome::Status { status, retry_after } if asks_for_later(*status) => {
                retry_after.unwrap_or_default().min(FullJitter::CAP)
            }
            Outcome::Transport(_) => Duration::ZERO,
            _ => return Decision::GiveUp,
        };
        if attempt.number > self.retries {
            return Decision::GiveUp;
        }
        let most = (FULL_JITTER_BASE * 2u32.saturating_pow(attempt.number - 1)).min(FullJitter::CAP);
        Decision::Retry(asked + random::uniform(random, Duration::ZERO..most))
    }
}

/// The statuses that `VssHttpRetryOptions` retries.
pub(crate) fn is_gateway_trouble(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// What `VssNetworkHelper.IsTransientNetworkException` takes for transient, mapped from socket errors.
///
/// A refused connection is absent from its list. An orderly end in the middle of a message is an `IOException` without
/// a socket error, and what HTTP/2 says has no mapping.
pub(crate) fn is_retriable_transport(error: &TransportError) -> bool {
    matches!(
        error,
        TransportError::Reset | TransportError::TimedOut | TransportError::Dns { .. } | TransportError::Unreachable
    )
}

/// Logs a failed attempt as the real handler does (`VssHttpEventSource`).
pub(crate) fn tell(method: &Method, url: &str, failed: &Attempt<'_>, next: Decision) {
    let (number, why) = (failed.number, reason(&failed.outcome));
    match (next, &failed.outcome) {
        (Decision::Retry(wait), _) => {
            let seconds = wait.as_secs_f32();
            tracing::warn!(
                "Attempt {number} of {method} request to {url} failed ({why}). The operation will be retried in {seconds} seconds."
            );
        }
        (Decision::GiveUp, Outcome::TimedOut) => tracing::warn!("{method} request to {url} timed out."),
        (Decision::GiveUp, outcome) if number > 1 && was_worth_retrying(outcome) => tracing::error!(
            "Attempt {number} of {method} request to {url} failed ({why}). The maximum number of attempts has been reached."
        ),
        (Decision::GiveUp, _) => tracing::error!("{method} request to {url} failed. {why}"),
    }
}

/// Would an attempt that ended so have been followed by another, had any been left?
fn was_worth_retrying(outcome: &Outcome<'_>) -> bool {
    match outcome {
        Outcome::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        Outcome::Transport(_) => true,
        Outcome::TimedOut => false,
    }
}

/// What came of an attempt, in the names that .NET has for statuses and socket errors.
fn reason(outcome: &Outcome<'_>) -> String {
    let socket_error = |name: &str| format!("Socket Error: {name}");
    match outcome {
        Outcome::Status { status, .. } => match status.canonical_reason() {
            Some(reason) => format!("HTTP Status: {}", reason.replace([' ', '-'], "")),
            None => format!("HTTP Status: {}", status.as_u16()),
        },
        Outcome::Transport(TransportError::Refused) => socket_error("ConnectionRefused"),
        Outcome::Transport(TransportError::Reset) => socket_error("ConnectionReset"),
        Outcome::Transport(TransportError::TimedOut) => socket_error("TimedOut"),
        Outcome::Transport(TransportError::Dns { .. }) => socket_error("HostNotFound"),
        Outcome::Transport(TransportError::Unreachable) => socket_error("HostUnreachable"),
        Outcome::Transport(error) => error.to_string(),
        Outcome::TimedOut => "timed out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn attempt(number: u32, status: u16) -> Attempt<'static> {
        let status = StatusCode::from_u16(status).unwrap();
        Attempt { number, outcome: Outcome::Status { status, retry_after: None }, elapsed: Duration::ZERO }
    }

    fn decide(policy: &mut impl RetryPolicy, attempt: Attempt<'_>, seed: u64) -> Decision {
        policy.decide(&attempt, &mut (Box::new(ChaCha8Rng::seed_from_u64(seed)) as Random))
    }

    #[test]
    fn waits_lie_in_the_ranges_of_the_formula() {
        let ranges = [(10_800, 11_200), (12_400, 13_600), (15_600, 18_400), (22_000, 28_000), (34_800, 47_200)];
        for seed in 0..200 {
            for (failed, (low, high)) in (1..).zip(ranges) {
                let Decision::Retry(wait) = decide(&mut VssHttpRetry::token(), attempt(failed, 503), seed) else {
                    panic!("gave up after attempt {failed}");
                };
                assert!((low..high).contains(&wait.as_millis()), "attempt {failed} waits {wait:?}");
            }
        }
    }

    #[test]
    fn fourth_attempt_is_the_last() {
        assert!(matches!(decide(&mut VssHttpRetry::ordinary(), attempt(3, 504), 0), Decision::Retry(_)));
        assert_eq!(decide(&mut VssHttpRetry::ordinary(), attempt(4, 504), 0), Decision::GiveUp);
        assert!(matches!(decide(&mut VssHttpRetry::token(), attempt(5, 429), 0), Decision::Retry(_)));
        assert_eq!(decide(&mut VssHttpRetry::token(), attempt(6, 429), 0), Decision::GiveUp);
    }

    #[test]
    fn ordinary_calls_retry_neither_500_nor_429_nor_refused() {
        for status in [500, 429, 408, 404] {
            assert_eq!(decide(&mut VssHttpRetry::ordinary(), attempt(1, status), 0), Decision::GiveUp, "{status}");
        }
        let refused =
            Attempt { number: 1, outcome: Outcome::Transport(&TransportError::Refused), elapsed: Duration::ZERO };
        assert_eq!(decide(&mut VssHttpRetry::ordinary(), refused.clone(), 0), Decision::GiveUp);
        assert!(matches!(decide(&mut FullJitter::ordinary(), refused, 0), Decision::Retry(_)));
    }

    #[test]
    fn failures_have_the_names_that_logs_of_the_agents_show() {
        let status = |code| reason(&attempt(1, code).outcome);
        assert_eq!(status(503), "HTTP Status: ServiceUnavailable");
        assert_eq!(status(409), "HTTP Status: Conflict");
        assert_eq!(status(400), "HTTP Status: BadRequest");
        assert_eq!(status(599), "HTTP Status: 599");
        assert_eq!(reason(&Outcome::Transport(&TransportError::Reset)), "Socket Error: ConnectionReset");
        assert_eq!(reason(&Outcome::Transport(&TransportError::Refused)), "Socket Error: ConnectionRefused");
    }

    #[test]
    fn backoff_grows_to_its_cap_and_never_overflows() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        assert_eq!(exponential_backoff(10, MIN_BACKOFF, &mut random), MAX_BACKOFF);
        assert_eq!(exponential_backoff(u32::MAX, MIN_BACKOFF, &mut random), MAX_BACKOFF);
    }

    #[test]
    fn absurd_retry_after_is_capped() {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let outcome = Outcome::Status { status, retry_after: Some(Duration::from_secs(1_000_000)) };
        let asked = Attempt { number: 1, outcome, elapsed: Duration::ZERO };
        let Decision::Retry(wait) = decide(&mut FullJitter::ordinary(), asked, 3) else { panic!("gave up") };
        assert!(wait >= FullJitter::CAP && wait < FullJitter::CAP + FULL_JITTER_BASE, "{wait:?}");
    }
}
