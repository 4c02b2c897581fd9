//! The count of a call's attempts, and what a policy makes of each.

use super::{Admission, Attempt, Decision, Outcome, RetryPolicy};
use crate::clock::Mono;
use crate::random::Random;

/// The attempts at one call. Whoever makes them tells what became of each, and asks its policy through this.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    began: Mono,
    made: u32,
}

impl Tries {
    /// None has been made of a call that began then.
    pub fn since(began: Mono) -> Self {
        Self { began, made: 0 }
    }

    /// How many attempts have ended.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// What the policy says to the next attempt, before it is sent.
    pub fn admit(&self, policy: &mut dyn RetryPolicy, now: Mono, random: &mut Random) -> Admission {
        policy.passes(now);
        policy.admit(self.made + 1, random)
    }

    /// An attempt has failed: which it was, and what comes next.
    pub fn failed<'o>(
        &mut self,
        policy: &mut dyn RetryPolicy,
        outcome: Outcome<'o>,
        now: Mono,
        random: &mut Random,
    ) -> (Attempt<'o>, Decision) {
        self.made += 1;
        policy.passes(now);
        let attempt = Attempt { number: self.made, outcome, elapsed: now.since(self.began) };
        let next = policy.decide(&attempt, random);
        (attempt, next)
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self, policy: &mut dyn RetryPolicy, now: Mono) {
        self.made += 1;
        policy.passes(now);
        policy.succeeded(self.made);
    }
}
