//! The retry throttling of gRPC clients.

use super::{Account, TOKEN, thousandths};
use crate::clock::Mono;
use crate::retry::Outcome;

pub(super) struct Throttling {
    most: u64,
    tokens: u64,
    ratio: u64,
}

impl Throttling {
    pub(super) fn new(tokens: u32, ratio: f64) -> Self {
        let most = u64::from(tokens) * TOKEN;
        Self { most, tokens: most, ratio: thousandths(ratio) }
    }
}

impl Account for Throttling {
    fn failed(&mut self, _: Mono) {
        self.tokens = self.tokens.saturating_sub(TOKEN);
    }

    fn withdraw(&mut self, _: &Outcome<'_>, _: Mono) -> bool {
        self.tokens > self.most / 2
    }

    fn succeeded(&mut self, _: u32, _: Mono) {
        self.tokens = (self.tokens + self.ratio).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::{at, failed};

    #[test]
    fn there_are_no_retries_at_half_of_the_tokens() {
        let (mut budget, error) = (Throttling::new(10, 0.1), failed(1, 503).outcome);
        let mut may = || {
            budget.failed(at(0));
            budget.withdraw(&error, at(0))
        };
        assert_eq!([may(), may(), may(), may(), may(), may()], [true, true, true, true, false, false]);
        // From 4.0 tokens eleven successes lead just above the half.
        for _ in 0..10 {
            budget.succeeded(1, at(0));
        }
        assert!(!budget.withdraw(&error, at(0)));
        budget.succeeded(1, at(0));
        assert!(budget.withdraw(&error, at(0)));
    }
}
