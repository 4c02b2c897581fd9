//! The retry budget of Envoy: a share of what is under way.

use super::{Account, TOKEN, thousandths};
use crate::clock::Mono;
use crate::retry::Outcome;

pub(super) struct Concurrency {
    share: u64,
    always: u64,
    calls: u64,
    /// Calls that are in a retry. Those of a client end one after another, so a call's end ends its retry.
    retrying: u64,
}

impl Concurrency {
    pub(super) fn new(share: f64, always: u32) -> Self {
        Self { share: thousandths(share), always: u64::from(always), calls: 0, retrying: 0 }
    }
}

impl Account for Concurrency {
    fn call_begins(&mut self, _: Mono) {
        self.calls += 1;
    }

    fn withdraw(&mut self, _: &Outcome<'_>, _: Mono) -> bool {
        let allowed = (self.calls * self.share / TOKEN).max(self.always);
        if self.retrying >= allowed {
            return false;
        }
        self.retrying = (self.retrying + 1).min(self.calls);
        true
    }

    fn succeeded(&mut self, _: u32, _: Mono) {}

    fn call_ends(&mut self) {
        self.calls = self.calls.saturating_sub(1);
        self.retrying = self.retrying.min(self.calls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::{at, failed};

    #[test]
    fn three_retries_at_once_or_a_fifth_of_the_calls() {
        let (mut budget, error) = (Concurrency::new(0.2, 3), failed(1, 503).outcome);
        (0..10).for_each(|_| budget.call_begins(at(0)));
        assert_eq!((0..10).filter(|_| budget.withdraw(&error, at(0))).count(), 3);
        (0..40).for_each(|_| budget.call_begins(at(0)));
        assert_eq!((0..50).filter(|_| budget.withdraw(&error, at(0))).count(), 7);
    }

    #[test]
    fn a_client_with_one_call_never_meets_it() {
        let (mut budget, error) = (Concurrency::new(0.2, 3), failed(1, 503).outcome);
        budget.call_begins(at(0));
        assert!((0..100).all(|_| budget.withdraw(&error, at(0))));
    }
}
