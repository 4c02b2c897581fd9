//! The wait after a failed poll.

use std::ops::Range;
use std::time::Duration;

use http::StatusCode;

use crate::actions::choices::PollBackoff;
use crate::clock::Mono;
use crate::distributed_task::dotnet;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::line::{Line, seconds};
use crate::retry::generator::Generator;
use crate::retry::wait::{Exponential, Jitter, Stage, Wait};
use crate::retry::{Attempt, Decision, Outcome, Policy, Reset, RetryPolicy, Span, Timer, mutants};

/// Wait after each of the first five failed polls in a row, and after later ones (`MessageListener.cs:233-418`).
pub const FIRST_ERRORS_WAIT: Range<Duration> = seconds(15..30);
/// See [`FIRST_ERRORS_WAIT`].
pub const LATER_ERRORS_WAIT: Range<Duration> = seconds(30..60);
/// How many errors count as the first.
pub const FIRST_ERRORS: u32 = 5;

/// Waits after failed polls.
pub(super) struct Backoff {
    kind: Kind,
    /// The last wait: it is never reset.
    last: Duration,
}

enum Kind {
    /// In the ranges of the real runner.
    SeededByPrevious,
    Jittered,
    /// By a policy of another project, which any number of polls in a row may ask.
    By {
        policy: Box<dyn RetryPolicy>,
        timer: Timer,
        since: Option<Mono>,
    },
}

impl Backoff {
    pub(super) fn new(choice: PollBackoff) -> Self {
        let by = |policy: Policy| {
            let endless = Policy { retries: None, deadline: None, ..policy };
            Kind::By { policy: endless.start(), timer: endless.timer, since: None }
        };
        let kind = match choice {
            PollBackoff::SeededByPrevious => Kind::SeededByPrevious,
            PollBackoff::Jittered => Kind::Jittered,
            PollBackoff::SameSeed => by(Policy { generator: Generator::SameSeed, ..Policy::of(ranges()) }),
            PollBackoff::JitterBeforeCap => by(mutants::policy("mutant-jitter-before-cap")),
            PollBackoff::Overflow => by(mutants::policy("mutant-overflow")),
            PollBackoff::ResetOnConnect => {
                by(Policy { wait: reconnecting(), reset: Reset::OnConnect, ..mutants::sound() })
            }
            PollBackoff::WallTimer => by(Policy { timer: Timer::Wall, ..Policy::of(ranges()) }),
        };
        Self { kind, last: Duration::ZERO }
    }

    /// A poll has failed, for the so-manieth time in a row: how long to wait before the next one.
    pub(super) fn next(&mut self, errors: u32, failure: &Failure, line: &Line) -> Duration {
        let range = if errors <= FIRST_ERRORS { FIRST_ERRORS_WAIT } else { LATER_ERRORS_WAIT };
        self.last = match &mut self.kind {
            Kind::SeededByPrevious => dotnet::random_backoff(range.start, range.end, self.last),
            Kind::Jittered => line.random.uniform(range),
            Kind::By { policy, since, .. } => {
                let now = line.mono();
                policy.passes(now);
                let elapsed = now.since(*since.get_or_insert(now));
                let attempt = Attempt { number: errors, outcome: outcome(failure), elapsed };
                match line.random.with(|random| policy.decide(&attempt, random)) {
                    Decision::Retry(wait) => wait,
                    Decision::GiveUp => range.start,
                }
            }
        };
        self.last
    }

    /// Ends when the wait that was told last is over.
    pub(super) async fn wait(&self, line: &Line) {
        match &self.kind {
            Kind::By { timer, .. } => timer.sleep(&*line.clock, self.last).await,
            _ => line.clock.sleep(self.last).await,
        }
    }

    /// A poll was answered.
    pub(super) fn succeeded(&mut self) {
        if let Kind::By { policy, since, .. } = &mut self.kind {
            policy.succeeded(1);
            *since = None;
        }
    }
}

/// The real runner's ranges.
fn ranges() -> Wait {
    let stage = |times, range: Range<Duration>| Stage { times, from: Span(range.start), to: Span(range.end) };
    Wait::Stages(vec![stage(FIRST_ERRORS, FIRST_ERRORS_WAIT), stage(u32::MAX, LATER_ERRORS_WAIT)])
}

/// As FoundationDB reconnects, with jitter.
fn reconnecting() -> Wait {
    Wait::Exponential(Exponential::doubling(Span::millis(100), Span::secs(30)).jittered(Jitter::Full))
}

/// What a policy is told: that a poll may be made again was found out before.
fn outcome(failure: &Failure) -> Outcome<'_> {
    match failure {
        Failure::Transport(error) => Outcome::Transport(error),
        Failure::TimedOut(_) => Outcome::TimedOut,
        _ => Outcome::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tower::util::BoxCloneSyncService;

    use super::*;
    use crate::http::{Body, TransportError};
    use crate::line::SharedRandom;
    use crate::virtual_clock::{VirtualClock, secs};

    fn line(seed: u64) -> Line {
        let nobody = tower::service_fn(|_: http::Request<Body>| std::future::ready(Err(TransportError::Refused)));
        Line {
            clock: Arc::new(VirtualClock::default()),
            http: BoxCloneSyncService::new(nobody),
            random: SharedRandom::new(Box::new(ChaCha8Rng::seed_from_u64(seed))),
        }
    }

    /// The waits of the machine of this seed after so many polls that were answered 503.
    fn waits(choice: PollBackoff, seed: u64, polls: u32) -> Vec<Duration> {
        let (mut backoff, line) = (Backoff::new(choice), line(seed));
        let busy = Failure::Status { status: StatusCode::SERVICE_UNAVAILABLE };
        (1..=polls).map(|errors| backoff.next(errors, &busy, &line)).collect()
    }

    #[test]
    fn the_repaired_runner_s_waits_are_its_own_and_in_the_real_ranges() {
        let own = waits(PollBackoff::Jittered, 1, 20);
        assert_ne!(own, waits(PollBackoff::Jittered, 2, 20));
        let in_range = |(n, wait): (usize, &Duration)| {
            if n < FIRST_ERRORS as usize { FIRST_ERRORS_WAIT.contains(wait) } else { LATER_ERRORS_WAIT.contains(wait) }
        };
        assert!(own.iter().enumerate().all(in_range), "{own:?}");
    }

    #[test]
    fn some_wounds_make_all_machines_wait_alike() {
        for choice in [PollBackoff::SeededByPrevious, PollBackoff::SameSeed, PollBackoff::JitterBeforeCap] {
            assert_eq!(waits(choice, 1, 20), waits(choice, 2, 20), "{choice:?}");
        }
        assert!(waits(PollBackoff::JitterBeforeCap, 1, 9).iter().all(|wait| *wait == secs(30)));
    }

    #[test]
    fn some_wounds_make_a_runner_rush() {
        assert!(waits(PollBackoff::Overflow, 1, 40)[32..].iter().all(Duration::is_zero));
        assert!(waits(PollBackoff::ResetOnConnect, 1, 40).iter().all(|wait| *wait < Duration::from_millis(100)));
        assert!(waits(PollBackoff::Overflow, 1, 10)[5..].iter().any(|wait| *wait > secs(1)));
    }

    #[test]
    fn an_answered_poll_begins_anew() {
        let (mut backoff, line) = (Backoff::new(PollBackoff::WallTimer), line(1));
        let refused = Failure::Transport(TransportError::Refused);
        let grown = (1..=12).map(|errors| backoff.next(errors, &refused, &line)).max();
        assert!(grown >= Some(secs(30)), "{grown:?}");
        backoff.succeeded();
        assert!(backoff.next(1, &refused, &line) < secs(30));
    }
}
