//! Making calls with a policy.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, Either};
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{Policy, Timer};
use super::span::Span;
use super::{Admission, Decision, Outcome, RetryPolicy, Tries};
use crate::clock::Clock;
use crate::http::TransportError;
use crate::random::Random;

/// Copies of a request that is slow to be answered (Dean and Barroso, "The Tail at Scale").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hedge {
    /// How long without an answer before the next copy is sent.
    pub after: Span,
    /// Requests under way at most, the first included.
    #[serde(default = "two")]
    pub copies: u32,
}

fn two() -> u32 {
    2
}

/// Calls one after another with a policy, over a clock.
pub struct Caller {
    policy: Box<dyn RetryPolicy>,
    timer: Timer,
    hedge: Option<Hedge>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// With this status and Retry-After.
    Status {
        /// The status.
        status: StatusCode,
        /// What Retry-After asks for.
        retry_after: Option<Duration>,
    },
    /// Below HTTP.
    Transport(TransportError),
    /// The attempt's own time-out ended it.
    TimedOut,
}

impl Tried {
    fn outcome(&self) -> Outcome<'_> {
        match self {
            Tried::Status { status, retry_after } => Outcome::Status { status: *status, retry_after: *retry_after },
            Tried::Transport(error) => Outcome::Transport(error),
            Tried::TimedOut => Outcome::TimedOut,
        }
    }
}

/// A call that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended<T> {
    /// What it came to.
    pub value: T,
    /// How many attempts it took.
    pub attempts: u32,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GaveUp {
    /// What became of the last attempt; `None` when the policy let none be sent.
    pub last: Option<Tried>,
    /// How many attempts were made.
    pub attempts: u32,
}

impl Caller {
    /// With a policy that is data.
    pub fn new(policy: &Policy) -> Self {
        Self { policy: policy.start(), timer: policy.timer, hedge: policy.hedge }
    }

    /// With a policy that is code.
    pub fn with(policy: Box<dyn RetryPolicy>) -> Self {
        Self { policy, timer: Timer::Monotonic, hedge: None }
    }

    /// The policy's state.
    pub fn policy(&self) -> &dyn RetryPolicy {
        &*self.policy
    }

    /// Makes attempts until one succeeds or the policy gives up. `attempt` is handed the number of each, from 1; copies
    /// of a hedged request have the number of what they are copies of.
    ///
    /// # Errors
    /// [`GaveUp`] with the last failure.
    pub async fn call<T, F>(
        &mut self,
        clock: &dyn Clock,
        random: &mut Random,
        mut attempt: impl FnMut(u32) -> F,
    ) -> Result<Ended<T>, GaveUp>
    where
        F: Future<Output = Result<T, Tried>>,
    {
        let mut tries = Tries::since(clock.mono());
        let mut last = None;
        for number in 1u32.. {
            match tries.admit(&mut *self.policy, clock.mono(), random) {
                Admission::Send => {}
                Admission::After(wait) => clock.sleep(wait).await,
                Admission::Refuse => return Err(GaveUp { last, attempts: tries.made() }),
            }
            let tried = match hedged(self.hedge, clock, || attempt(number)).await {
                Ok(value) => {
                    tries.succeeded(&mut *self.policy, clock.mono());
                    return Ok(Ended { value, attempts: number });
                }
                Err(tried) => tried,
            };
            let (_, next) = tries.failed(&mut *self.policy, tried.outcome(), clock.mono(), random);
            match next {
                Decision::Retry(wait) => self.timer.sleep(clock, wait).await,
                Decision::GiveUp => return Err(GaveUp { last: Some(tried), attempts: number }),
            }
            last = Some(tried);
        }
        unreachable!("four thousand million attempts")
    }
}

/// An attempt, with copies of it as they fall due.
async fn hedged<T, F>(hedge: Option<Hedge>, clock: &dyn Clock, mut send: impl FnMut() -> F) -> Result<T, Tried>
where
    F: Future<Output = Result<T, Tried>>,
{
    let Some(Hedge { after, copies }) = hedge else { return send().await };
    let mut under_way = FuturesUnordered::from_iter([send()]);
    for _ in 1..copies {
        match future::select(under_way.next(), pin!(clock.sleep(after.0))).await {
            Either::Left((ended, _)) => return ended.expect("one is under way"),
            Either::Right(_) => under_way.push(send()),
        }
    }
    under_way.next().await.expect("one is under way")
}

/// How often a timer on the wall clock looks at it.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

impl Timer {
    /// Ends when this clock says that `wait` is over.
    pub async fn sleep(self, clock: &dyn Clock, wait: Duration) {
        if self == Timer::Monotonic {
            return clock.sleep(wait).await;
        }
        let ends = clock.wall().saturating_add(wait).unwrap_or(jiff::Timestamp::MAX);
        loop {
            match Duration::try_from(ends.duration_since(clock.wall())) {
                Ok(left) if !left.is_zero() => clock.sleep(left.min(LOOKS_EVERY)).await,
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use jiff::Timestamp;

    use super::super::testing::random;
    use super::super::wait::Wait;
    use super::*;
    use crate::clock::Mono;

    /// A clock on which a sleep is over at once, and which may be set to jump at the first.
    #[derive(Default)]
    struct Instant(Mutex<(Duration, i64)>);

    impl Clock for Instant {
        fn wall(&self) -> Timestamp {
            let (mono, ahead_s) = *self.0.lock().unwrap();
            Timestamp::from_second(1_000_000 + mono.as_secs() as i64 + ahead_s).unwrap()
        }
        fn mono(&self) -> Mono {
            Mono::from_start(self.0.lock().unwrap().0)
        }
        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.0.lock().unwrap().0 += duration;
            future::ready(()).boxed()
        }
    }

    const BUSY: Tried = Tried::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };

    fn call(policy: &Policy, clock: &Instant, succeeds_at: u32) -> Result<Ended<()>, GaveUp> {
        let attempt = |number| future::ready(if number == succeeds_at { Ok(()) } else { Err(BUSY) });
        Caller::new(policy).call(clock, &mut random(0), attempt).now_or_never().expect("sleeps are over at once")
    }

    #[test]
    fn it_waits_between_attempts_and_tells_how_many() {
        let policy = Policy { retries: Some(3), ..Policy::of(Wait::Fixed { wait: Span::secs(5) }) };
        let clock = Instant::default();
        assert_eq!(call(&policy, &clock, 3), Ok(Ended { value: (), attempts: 3 }));
        assert_eq!(clock.mono(), Mono::from_start(Duration::from_secs(10)));
        assert_eq!(call(&policy, &clock, 5), Err(GaveUp { last: Some(BUSY), attempts: 4 }));
    }

    #[test]
    fn a_timer_on_the_wall_clock_follows_its_jumps() {
        let policy = Policy { timer: Timer::Wall, ..Policy::of(Wait::Fixed { wait: Span::secs(60) }) };
        let clock = Instant::default();
        let mut caller = Caller::new(&policy);
        let (mut random, mut tries) = (random(0), 0);
        let attempt = |number| {
            tries += 1;
            // The clock is set back by an hour while the first attempt is under way, and nobody notices but the timer.
            clock.0.lock().unwrap().1 = 0;
            future::ready(if number == 2 { Ok(()) } else { Err(BUSY) })
        };
        caller.call(&clock, &mut random, attempt).now_or_never().expect("ends").expect("succeeds");
        assert_eq!((tries, clock.mono()), (2, Mono::from_start(Duration::from_secs(60))));
    }

    #[test]
    fn a_copy_is_sent_when_the_first_is_slow() {
        let hedge = Hedge { after: Span::millis(50), copies: 2 };
        let policy = Policy { hedge: Some(hedge), ..Policy::of(Wait::None) };
        let clock = Instant::default();
        let mut sent = 0;
        let attempt = |_| {
            sent += 1;
            if sent == 1 { future::pending().boxed() } else { future::ready(Ok::<_, Tried>(sent)).boxed() }
        };
        let ended = Caller::new(&policy).call(&clock, &mut random(0), attempt).now_or_never().expect("ends");
        assert_eq!(ended, Ok(Ended { value: 2, attempts: 1 }));
    }
}
