//! The token quota of AWS clients.

use super::Account;
use crate::clock::Mono;
use crate::retry::Outcome;

/// What a success without retries gives back.
const CLEAN_SUCCESS: u32 = 1;

pub(super) struct Quota {
    most: u32,
    left: u32,
    cost: u32,
    timeout_cost: u32,
    /// What the last retry of the present call took.
    last_cost: u32,
}

impl Quota {
    pub(super) fn new(tokens: u32, cost: u32, timeout_cost: u32) -> Self {
        Self { most: tokens, left: tokens, cost, timeout_cost, last_cost: 0 }
    }
}

impl Account for Quota {
    fn call_begins(&mut self, _: Mono) {
        self.last_cost = 0;
    }

    fn withdraw(&mut self, outcome: &Outcome<'_>, _: Mono) -> bool {
        let cost = if *outcome == Outcome::TimedOut { self.timeout_cost } else { self.cost };
        if cost > self.left {
            return false;
        }
        self.left -= cost;
        self.last_cost = cost;
        true
    }

    fn succeeded(&mut self, _: u32, _: Mono) {
        let gives = if self.last_cost == 0 { CLEAN_SUCCESS } else { self.last_cost };
        self.left = self.left.saturating_add(gives).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::{at, failed};

    #[test]
    fn five_hundred_tokens_pay_for_a_hundred_retries() {
        let (mut quota, error) = (Quota::new(500, 5, 10), failed(1, 503).outcome);
        let paid = (0..200).filter(|_| quota.withdraw(&error, at(0))).count();
        assert_eq!(paid, 100);
        quota.succeeded(2, at(0));
        assert_eq!(quota.left, 5, "a retried success gives its last cost back");
        quota.call_begins(at(0));
        quota.succeeded(1, at(0));
        assert_eq!(quota.left, 6, "a clean one gives one token");
    }

    #[test]
    fn a_time_out_costs_twice_as_much() {
        let mut quota = Quota::new(500, 5, 10);
        assert_eq!((0..200).filter(|_| quota.withdraw(&Outcome::TimedOut, at(0))).count(), 50);
    }
}
