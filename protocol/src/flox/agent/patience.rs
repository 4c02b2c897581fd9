//! How the repaired download tries again.

use std::time::Duration;

use crate::retry::heed::{Combine, RetryAfter};
use crate::retry::wait::{Exponential, Jitter, Wait};
use crate::retry::{Policy, Span};

/// How long a job tries to get a file, over everything.
pub const BUDGET: Duration = Duration::from_secs(40 * 60);
/// The first pause and the longest one, before jitter.
const PAUSES: (Span, Span) = (Span::secs(1), Span::secs(30));
/// The most that Retry-After can ask for.
const RETRY_AFTER_MAX: Span = Span::secs(60);

/// Again after whatever may pass, until [`BUDGET`] is used up, with a pause that doubles while nothing gets through.
/// Retry-After is minded, within reason.
pub(super) fn patience() -> Policy {
    let wait = Exponential::doubling(PAUSES.0, PAUSES.1).jittered(Jitter::Equal);
    Policy {
        retry_after: RetryAfter { combine: Combine::Longer, cap: Some(RETRY_AFTER_MAX), spread: Span::ZERO },
        deadline: Some(Span(BUDGET)),
        ..Policy::of(Wait::Exponential(wait))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::random::Random;
    use crate::retry::{Attempt, Decision, Outcome, RetryPolicy};

    fn after(policy: &mut dyn RetryPolicy, outcome: Outcome<'_>, elapsed_s: u64) -> Decision {
        let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(5));
        policy.decide(&Attempt { number: 99, outcome, elapsed: Duration::from_secs(elapsed_s) }, &mut random)
    }

    fn status(status: u16, retry_after_s: u64) -> Outcome<'static> {
        let status = StatusCode::from_u16(status).expect("a status");
        Outcome::Status { status, retry_after: Some(Duration::from_secs(retry_after_s)) }
    }

    #[test]
    fn pauses_grow_while_nothing_gets_through() {
        let mut policy = patience().start();
        let mut pause = || match after(&mut *policy, Outcome::TimedOut, 0) {
            Decision::Retry(pause) => pause.as_millis(),
            Decision::GiveUp => panic!("it is patient"),
        };
        let pauses: Vec<u128> = (0..8).map(|_| pause()).collect();
        assert!((500..1_000).contains(&pauses[0]) && (15_000..=30_000).contains(&pauses[7]), "{pauses:?}");
        policy.succeeded(1);
        let first = after(&mut *policy, Outcome::TimedOut, 0);
        assert!(matches!(first, Decision::Retry(pause) if pause < Duration::from_secs(1)), "{first:?}");
    }

    #[test]
    fn the_budget_is_the_end_and_so_is_a_wrong_address() {
        assert_eq!(after(&mut *patience().start(), Outcome::TimedOut, BUDGET.as_secs()), Decision::GiveUp);
        assert_eq!(after(&mut *patience().start(), status(404, 1), 0), Decision::GiveUp);
    }

    #[test]
    fn retry_after_is_minded_within_reason() {
        let asked = |seconds| after(&mut *patience().start(), status(503, seconds), 0);
        assert_eq!(asked(20), Decision::Retry(Duration::from_secs(20)));
        assert_eq!(asked(u64::MAX), Decision::Retry(RETRY_AFTER_MAX.0));
    }
}
