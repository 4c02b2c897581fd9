//! How the attempts at a call and its policy go together.

use super::{Admission, Attempt, Decision, Outcome, RetryPolicy};
use crate::clock::Mono;
use crate::random::Random;

/// The attempts at one call, and the policy that judges them. Whoever makes the attempts tells what became of each.
#[derive(Clone, Debug)]
pub struct Tries<P> {
    policy: P,
    began: Mono,
    made: u32,
}

impl<P: RetryPolicy> Tries<P> {
    /// None has been made of a call that began then.
    pub fn new(policy: P, began: Mono) -> Self {
        Self { policy, began, made: 0 }
    }

    /// How many attempts have ended.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// What the policy says to the next attempt, before it is sent.
    pub fn admit(&mut self, now: Mono, random: &mut Random) -> Admission {
        self.policy.passes(now);
        self.policy.admit(self.made + 1, random)
    }

    /// An attempt has failed: which it was, and what comes next.
    pub fn failed<'o>(&mut self, outcome: Outcome<'o>, now: Mono, random: &mut Random) -> (Attempt<'o>, Decision) {
        self.made += 1;
        self.policy.passes(now);
        let attempt = Attempt { number: self.made, outcome, elapsed: now.since(self.began) };
        let next = self.policy.decide(&attempt, random);
        (attempt, next)
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self, now: Mono) {
        self.made += 1;
        self.policy.passes(now);
        self.policy.succeeded(self.made);
    }

    /// An attempt that goes on has brought something: if it fails now, that is another trouble than those before it.
    pub fn progressed(&mut self) {
        self.policy.succeeded(self.made);
    }
}
