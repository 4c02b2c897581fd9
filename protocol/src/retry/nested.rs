//! Retries around retries.

use super::{Admission, Attempt, Decision, RetryPolicy};
use crate::clock::Mono;
use crate::random::Random;

/// A policy around another one: where the inner gives up the outer may begin it anew, so attempts multiply.
pub struct Nested<I, O> {
    inner: I,
    outer: O,
    /// Attempts of the inner rounds that are over.
    before: u32,
    rounds: u32,
}

impl<I: RetryPolicy, O: RetryPolicy> Nested<I, O> {
    /// `outer` around `inner`.
    pub fn new(inner: I, outer: O) -> Self {
        Self { inner, outer, before: 0, rounds: 0 }
    }
}

impl<I: RetryPolicy, O: RetryPolicy> RetryPolicy for Nested<I, O> {
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        if attempt.number == 1 {
            (self.before, self.rounds) = (0, 0);
        }
        let of_round = Attempt { number: attempt.number - self.before, ..attempt.clone() };
        if let Decision::Retry(wait) = self.inner.decide(&of_round, random) {
            return Decision::Retry(wait);
        }
        self.before = attempt.number;
        self.rounds += 1;
        self.outer.decide(&Attempt { number: self.rounds, ..attempt.clone() }, random)
    }

    fn succeeded(&mut self, attempts: u32) {
        self.inner.succeeded(attempts.saturating_sub(self.before));
        self.outer.succeeded(self.rounds + 1);
    }

    fn admit(&mut self, number: u32, random: &mut Random) -> Admission {
        if number == 1 {
            (self.before, self.rounds) = (0, 0);
        }
        let of_round = number - self.before;
        if of_round == 1 && self.outer.admit(self.rounds + 1, random) == Admission::Refuse {
            return Admission::Refuse;
        }
        self.inner.admit(of_round, random)
    }

    fn passes(&mut self, now: Mono) {
        self.inner.passes(now);
        self.outer.passes(now);
    }

    fn refused(&self) -> u64 {
        self.inner.refused() + self.outer.refused()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::super::span::Span;
    use super::super::testing::waits_of;
    use super::super::wait::Wait;

    #[test]
    fn attempts_of_layers_multiply() {
        let layer = Policy { retries: Some(2), ..Policy::of(Wait::Fixed { wait: Span::secs(1) }) };
        for (layers, attempts) in [(1, 3), (2, 9), (3, 27)] {
            let mut policy = Policy { layers, ..layer.clone() }.start();
            for call in 0..2 {
                assert_eq!(waits_of(&mut *policy, 0, 100).len() + 1, attempts, "{layers} layers, call {call}");
            }
        }
    }
}
