//! How a worker repeats its calls (`AbstractBuildResourceApi.kt`, `HttpRetryUtils`): each by the HTTP client itself, and
//! that as a whole by whoever calls.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use super::gateway::{CallFailure, Method, RawAnswer};
use crate::http::TransportError;
use crate::random::Random;
use crate::retry::{Attempt, Decision, Outcome, RetryPolicy};

/// How long a worker waits for an answer.
pub(super) const WORKER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a start, a claim and a completion are tried.
pub(super) const TRIES: u32 = 100;
/// How often the end of a job is reported.
pub(super) const END_TRIES: u32 = 5;

/// Sends a request five times, half a second apart, as the HTTP client does: after a gateway's trouble, without a
/// connection, and what only reads after a silence, too.
pub(super) struct Inner {
    pub(super) method: Method,
}

const INNER_TRIES: u32 = 5;
const INNER_PAUSE: Duration = Duration::from_millis(500);

impl RetryPolicy for Inner {
    fn decide(&mut self, attempt: &Attempt<'_>, _: &mut Random) -> Decision {
        let again = match &attempt.outcome {
            Outcome::Status { status, .. } => is_gateway_trouble(*status),
            Outcome::Transport(error) => {
                matches!(error, TransportError::Refused | TransportError::Dns { .. } | TransportError::Unreachable)
            }
            Outcome::TimedOut => self.method == Method::GET,
        };
        match again && attempt.number < INNER_TRIES {
            true => Decision::Retry(INNER_PAUSE),
            false => Decision::GiveUp,
        }
    }
}

fn is_gateway_trouble(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Makes a call so many times, whatever kept it from being answered.
pub(super) struct Outer {
    pub(super) tries: u32,
}

impl RetryPolicy for Outer {
    fn decide(&mut self, attempt: &Attempt<'_>, _: &mut Random) -> Decision {
        match attempt.number < self.tries {
            true => Decision::Retry(pause_after(attempt.number - 1)),
            false => Decision::GiveUp,
        }
    }
}

/// How long a worker waits after the n-th failure, n from 0.
fn pause_after(n: u32) -> Duration {
    Duration::from_millis(500) + Duration::from_secs(u64::from(n % 11))
}

/// Sends a heartbeat a hundred times, while the transport fails.
pub(super) struct Beats;

const BEAT_TRIES: u32 = 100;
const BEAT_PAUSE: Duration = Duration::from_secs(5);

impl RetryPolicy for Beats {
    fn decide(&mut self, attempt: &Attempt<'_>, _: &mut Random) -> Decision {
        match matches!(attempt.outcome, Outcome::Transport(_)) && attempt.number < BEAT_TRIES {
            true => Decision::Retry(BEAT_PAUSE),
            false => Decision::GiveUp,
        }
    }
}

/// What the HTTP client looks at: an answer of a gateway is trouble, any other one is for its caller.
pub(super) fn by_status(sent: &Result<RawAnswer, CallFailure>, now: Timestamp) -> Option<Outcome<'_>> {
    match sent {
        Ok(answer) if is_gateway_trouble(answer.status) => {
            Some(Outcome::Status { status: answer.status, retry_after: None })
        }
        sent => unanswered(sent, now),
    }
}

/// What a caller looks at: a refusal is an answer.
pub(super) fn unanswered<T>(sent: &Result<T, CallFailure>, _: Timestamp) -> Option<Outcome<'_>> {
    match sent {
        Ok(_) | Err(CallFailure::Refused { .. }) => None,
        Err(CallFailure::Transport(error)) => Some(Outcome::Transport(error)),
        Err(CallFailure::TimedOut(_)) => Some(Outcome::TimedOut),
        Err(CallFailure::NoAnswer { status, .. }) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Some(Outcome::Status { status, retry_after: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn decide(policy: &mut dyn RetryPolicy, number: u32, outcome: Outcome<'_>) -> Decision {
        let attempt = Attempt { number, outcome, elapsed: Duration::ZERO };
        let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(0));
        policy.decide(&attempt, &mut random)
    }

    #[test]
    fn a_hundred_tries_take_nine_minutes() {
        let waits = (1..TRIES).map(|number| decide(&mut Outer { tries: TRIES }, number, Outcome::TimedOut));
        let waited: Duration = waits
            .map(|next| match next {
                Decision::Retry(wait) => wait,
                Decision::GiveUp => panic!("gave up early"),
            })
            .sum();
        assert_eq!(waited + pause_after(TRIES - 1), Duration::from_secs(50 + 495));
        assert_eq!(decide(&mut Outer { tries: TRIES }, TRIES, Outcome::TimedOut), Decision::GiveUp);
    }

    #[test]
    fn only_reading_is_repeated_after_a_silence() {
        let again = Decision::Retry(INNER_PAUSE);
        let (mut reads, mut writes) = (Inner { method: Method::GET }, Inner { method: Method::POST });
        assert_eq!(decide(&mut reads, 1, Outcome::TimedOut), again);
        assert_eq!(decide(&mut writes, 1, Outcome::TimedOut), Decision::GiveUp);
        assert_eq!(decide(&mut reads, 5, Outcome::TimedOut), Decision::GiveUp);
        assert_eq!(decide(&mut writes, 1, Outcome::Transport(&TransportError::Refused)), again);
        assert_eq!(decide(&mut writes, 1, Outcome::Transport(&TransportError::Reset)), Decision::GiveUp);
    }

    #[test]
    fn a_heartbeat_is_sent_again_while_the_transport_fails() {
        let failed = Outcome::Transport(&TransportError::Reset);
        assert_eq!(decide(&mut Beats, 1, failed.clone()), Decision::Retry(BEAT_PAUSE));
        assert_eq!(decide(&mut Beats, 100, failed), Decision::GiveUp);
        assert_eq!(decide(&mut Beats, 1, Outcome::TimedOut), Decision::GiveUp);
    }
}
