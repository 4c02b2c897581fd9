//! The policy of `hashicorp/go-retryablehttp`, which the clients of `actions/scaleset` and many other Go programs use.

use std::time::Duration;

use http::StatusCode;

use super::{Attempt, Decision, Outcome, RetryPolicy};
use crate::random::{self, Random};

/// `RetryMax` of `actions/scaleset` v0.4.0 (`common_client.go`), and the library's own default: five attempts.
pub const RETRIES: u32 = 4;
/// `defaultRetryWaitMin` (`client.go` of the library).
pub const WAIT_MIN: Duration = Duration::from_secs(1);
/// `RetryWaitMax` of `actions/scaleset` v0.4.0 (`common_client.go`), and the library's own default.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// What is added to the waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Nothing: `DefaultBackoff`.
    None,
    /// Up to a microsecond: `time.Duration(rand.Intn(1000))` was meant to be milliseconds
    /// (`github/actions/client.go` of actions-runner-controller 0.13.1).
    Nanoseconds,
}

/// Waits `min(1 s * 2^n, 30 s)` before retry `n`, counted from 0, and looks neither at the method nor at the elapsed time.
///
/// It retries every transport error, 429, and 5xx but 501 (`DefaultRetryPolicy`). On 429 and 503 Retry-After takes the
/// place of the wait, however long it is (`DefaultBackoff`).
#[derive(Clone, Debug)]
pub struct RetryableHttp {
    retries: u32,
    wait_min: Duration,
    wait_max: Duration,
    jitter: Jitter,
    also: &'static [StatusCode],
}

impl RetryableHttp {
    /// As every call of `actions/scaleset` has it.
    pub const fn scaleset() -> Self {
        Self { retries: RETRIES, wait_min: WAIT_MIN, wait_max: WAIT_MAX, jitter: Jitter::None, also: &[] }
    }

    /// As the exchange of a registration token for an admin connection has it: 401 and 403 are retried, too
    /// (`getActionsServiceAdminConnectionRequest`).
    pub const fn registration() -> Self {
        Self { also: &[StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN], ..Self::scaleset() }
    }

    /// With another jitter.
    pub const fn with_jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    fn retriable(&self, outcome: &Outcome<'_>) -> bool {
        match outcome {
            Outcome::Status { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS
                    || (status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED)
                    || self.also.contains(status)
            }
            Outcome::Transport(_) | Outcome::TimedOut => true,
        }
    }
}

impl RetryPolicy for RetryableHttp {
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        if attempt.number > self.retries || !self.retriable(&attempt.outcome) {
            return Decision::GiveUp;
        }
        if let Outcome::Status {
            status: StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(asked),
        } = attempt.outcome
        {
            return Decision::Retry(asked);
        }
        let steps = 2u32.saturating_pow(attempt.number - 1);
        let wait = self.wait_min.saturating_mul(steps).min(self.wait_max);
        Decision::Retry(match self.jitter {
            Jitter::None => wait,
            Jitter::Nanoseconds => wait + random::uniform(random, Duration::ZERO..Duration::from_nanos(1_000)),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::http::TransportError;

    fn decide(policy: &mut RetryableHttp, number: u32, outcome: Outcome<'_>) -> Decision {
        let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(1));
        policy.decide(&Attempt { number, outcome, elapsed: Duration::ZERO }, &mut random)
    }

    fn status(status: u16, retry_after: Option<u64>) -> Outcome<'static> {
        let status = StatusCode::from_u16(status).unwrap();
        Outcome::Status { status, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn waits_double_without_jitter_and_the_fifth_attempt_is_the_last() {
        let mut policy = RetryableHttp::scaleset();
        let waits: Vec<_> = (1..=5).map(|number| decide(&mut policy, number, status(502, None))).collect();
        let seconds = |wait| Decision::Retry(Duration::from_secs(wait));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(4), seconds(8), Decision::GiveUp]);
    }

    #[test]
    fn it_looks_at_the_outcome_alone() {
        let mut policy = RetryableHttp::scaleset();
        for outcome in [Outcome::Transport(&TransportError::Refused), Outcome::TimedOut, status(429, None)] {
            assert!(matches!(decide(&mut policy, 1, outcome.clone()), Decision::Retry(_)), "{outcome:?}");
        }
        for code in [200, 400, 401, 403, 404, 409, 501] {
            assert_eq!(decide(&mut policy, 1, status(code, None)), Decision::GiveUp, "{code}");
        }
        assert!(matches!(decide(&mut RetryableHttp::registration(), 1, status(403, None)), Decision::Retry(_)));
    }

    #[test]
    fn retry_after_is_minded_on_429_and_503_however_long() {
        let mut policy = RetryableHttp::scaleset();
        let absurd = Decision::Retry(Duration::from_secs(31_536_000));
        assert_eq!(decide(&mut policy, 1, status(503, Some(31_536_000))), absurd);
        assert_eq!(decide(&mut policy, 1, status(429, Some(31_536_000))), absurd);
        assert_eq!(decide(&mut policy, 1, status(502, Some(60))), Decision::Retry(WAIT_MIN));
    }

    #[test]
    fn the_old_jitter_is_as_good_as_none() {
        let mut policy = RetryableHttp::scaleset().with_jitter(Jitter::Nanoseconds);
        let Decision::Retry(wait) = decide(&mut policy, 2, status(500, None)) else { panic!("gave up") };
        assert!(wait >= WAIT_MIN * 2 && wait < WAIT_MIN * 2 + Duration::from_micros(1), "{wait:?}");
    }
}
