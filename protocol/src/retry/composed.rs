//! A policy's parts at work.

use std::time::Duration;

use super::breaker::Fuse;
use super::budget::Account;
use super::generator::Source;
use super::policy::{OnDeadline, Policy, Reset};
use super::throttle::Valve;
use super::wait::Waits;
use super::{Admission, Attempt, Decision, Outcome, RetryPolicy};
use crate::clock::Mono;
use crate::random::Random;

/// One client's state of a [`Policy`].
///
/// Its calls come one after another: what belongs to a call begins anew with attempt 1.
pub struct Composed {
    policy: Policy,
    waits: Waits,
    account: Option<Box<dyn Account>>,
    fuse: Option<Fuse>,
    valve: Option<Box<dyn Valve>>,
    now: Mono,
    /// How far waits have grown.
    grown: u32,
    refused: u64,
}

impl Composed {
    /// The state in which a client starts.
    pub fn new(policy: &Policy) -> Self {
        Self {
            waits: Waits::new(policy.wait.clone(), Source::new(policy.generator)),
            account: policy.budget.map(|budget| budget.open()),
            fuse: policy.breaker.map(Fuse::new),
            valve: policy.throttle.map(|throttle| throttle.open()),
            policy: policy.clone(),
            now: Mono::default(),
            grown: 0,
            refused: 0,
        }
    }

    fn note(&mut self, outcome: &Outcome<'_>) {
        if let Some(account) = &mut self.account {
            account.failed(self.now);
        }
        if let Some(fuse) = &mut self.fuse {
            fuse.failed(self.now);
        }
        if let Some(valve) = &mut self.valve {
            valve.failed(outcome, self.now);
        }
    }

    /// The wait before the next retry; `None` when the server forbids one.
    fn wait(&mut self, outcome: &Outcome<'_>, random: &mut Random) -> Option<Duration> {
        if self.policy.reset == Reset::OnConnect && matches!(outcome, Outcome::Status { .. }) {
            self.grown = 0;
        }
        let own = self.waits.wait(self.grown, random);
        self.grown = self.grown.saturating_add(1);
        let wait = self.policy.retry_after.applied(outcome, own, random)?;
        Some(self.valve.as_mut().map_or(wait, |valve| wait.max(valve.least_wait(self.now))))
    }

    fn is_too_late(&self, elapsed: Duration, wait: Duration) -> bool {
        let Policy { deadline, expected, on_deadline, .. } = &self.policy;
        let back = elapsed.saturating_add(wait).saturating_add(expected.0);
        *on_deadline == OnDeadline::GivesUp && deadline.is_some_and(|deadline| back >= deadline.0)
    }

    /// Do budget and breaker let a retry pass?
    fn is_affordable(&mut self, outcome: &Outcome<'_>) -> bool {
        let closed = self.fuse.as_mut().is_none_or(|fuse| fuse.lets_retry(self.now));
        let affordable = closed && self.account.as_mut().is_none_or(|account| account.withdraw(outcome, self.now));
        self.refused += u64::from(!affordable);
        affordable
    }

    fn retried(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Option<Duration> {
        let Attempt { number, outcome, elapsed } = attempt;
        let within = self.policy.retries.is_none_or(|retries| *number <= retries);
        if !within || !self.policy.retry_on.covers(outcome) {
            return None;
        }
        let wait = self.wait(outcome, random)?;
        (!self.is_too_late(*elapsed, wait) && self.is_affordable(outcome)).then_some(wait)
    }

    fn call_ends(&mut self) {
        if let Some(account) = &mut self.account {
            account.call_ends();
        }
    }
}

impl RetryPolicy for Composed {
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        self.note(&attempt.outcome);
        match self.retried(attempt, random) {
            Some(wait) => Decision::Retry(wait),
            None => {
                self.call_ends();
                Decision::GiveUp
            }
        }
    }

    fn succeeded(&mut self, attempts: u32) {
        self.grown = 0;
        if let Some(account) = &mut self.account {
            account.succeeded(attempts, self.now);
        }
        if let Some(fuse) = &mut self.fuse {
            fuse.succeeded(self.now);
        }
        if let Some(valve) = &mut self.valve {
            valve.succeeded(self.now);
        }
        self.call_ends();
    }

    fn admit(&mut self, number: u32, random: &mut Random) -> Admission {
        if number == 1 {
            self.waits.call_begins();
            if self.policy.reset == Reset::EachCall {
                self.grown = 0;
            }
            if let Some(account) = &mut self.account {
                account.call_begins(self.now);
            }
        }
        let lets = number > 1 || self.fuse.as_mut().is_none_or(|fuse| fuse.lets_call(self.now));
        let admission = match &mut self.valve {
            _ if !lets => Admission::Refuse,
            Some(valve) => valve.admit(self.now, random),
            None => Admission::Send,
        };
        if admission == Admission::Refuse {
            self.refused += 1;
            self.call_ends();
        }
        admission
    }

    fn passes(&mut self, now: Mono) {
        self.now = now;
    }

    fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::{Breaker, Stops};
    use super::super::span::Span;
    use super::super::testing::{at, failed, random, waits_of};
    use super::super::wait::{Exponential, Wait};
    use super::*;

    fn doubling() -> Policy {
        Policy::of(Wait::Exponential(Exponential::doubling(Span::secs(1), Span::secs(60))))
    }

    /// The wait after a failed first attempt of each of three calls, in seconds.
    fn first_waits(reset: Reset, status: u16) -> Vec<u64> {
        let (mut policy, mut random) = (Composed::new(&Policy { reset, ..doubling() }), random(0));
        let mut wait = || {
            policy.admit(1, &mut random);
            match policy.decide(&failed(1, status), &mut random) {
                Decision::Retry(wait) => wait.as_secs(),
                Decision::GiveUp => panic!("gave up"),
            }
        };
        (0..3).map(|_| wait()).collect()
    }

    #[test]
    fn waits_grow_until_something_resets_them() {
        assert_eq!(first_waits(Reset::OnSuccess, 503), [1, 2, 4]);
        assert_eq!(first_waits(Reset::EachCall, 503), [1, 1, 1]);
        assert_eq!(first_waits(Reset::OnConnect, 503), [1, 1, 1]);
        let mut policy = Composed::new(&doubling());
        assert_eq!(waits_of(&mut policy, 0, 3), [1_000, 2_000, 4_000]);
        policy.succeeded(4);
        assert_eq!(waits_of(&mut policy, 0, 1), [1_000]);
    }

    #[test]
    fn no_retry_comes_after_the_deadline() {
        let within = Policy { deadline: Some(Span::secs(10)), expected: Span::secs(2), ..doubling() };
        let decide = |policy: &Policy, elapsed| {
            let attempt = Attempt { elapsed: Duration::from_secs(elapsed), ..failed(1, 503) };
            Composed::new(policy).decide(&attempt, &mut random(0))
        };
        assert_eq!(decide(&within, 6), Decision::Retry(Duration::from_secs(1)));
        assert_eq!(decide(&within, 7), Decision::GiveUp);
        let heedless = Policy { on_deadline: OnDeadline::Ignored, ..within };
        assert_eq!(decide(&heedless, 7), Decision::Retry(Duration::from_secs(1)));
    }

    #[test]
    fn an_open_breaker_refuses_and_is_counted() {
        let breaker = Breaker { percent: 10, window: Span::secs(60), at_least: 1, stops: Stops::Calls };
        let (mut policy, mut random) = (Composed::new(&Policy { breaker: Some(breaker), ..doubling() }), random(0));
        policy.passes(at(1));
        assert_eq!(policy.admit(1, &mut random), Admission::Send);
        assert_eq!(policy.decide(&failed(1, 503), &mut random), Decision::GiveUp);
        assert_eq!(policy.admit(1, &mut random), Admission::Refuse);
        assert_eq!(policy.refused(), 2);
        policy.passes(at(61));
        assert_eq!(policy.admit(1, &mut random), Admission::Send);
    }
}
