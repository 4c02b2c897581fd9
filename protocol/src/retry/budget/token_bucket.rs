//! The token bucket that Marc Brooker describes.

use super::{Account, TOKEN, thousandths};
use crate::clock::Mono;
use crate::retry::Outcome;

pub(super) struct TokenBucket {
    most: u64,
    tokens: u64,
    ratio: u64,
}

impl TokenBucket {
    pub(super) fn new(tokens: u32, ratio: f64) -> Self {
        let most = u64::from(tokens) * TOKEN;
        Self { most, tokens: most, ratio: thousandths(ratio) }
    }
}

impl Account for TokenBucket {
    fn withdraw(&mut self, _: &Outcome<'_>, _: Mono) -> bool {
        let paid = self.tokens.checked_sub(TOKEN);
        self.tokens = paid.unwrap_or(self.tokens);
        paid.is_some()
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
    fn ten_successes_pay_for_a_retry() {
        let (mut budget, error) = (TokenBucket::new(5, 0.1), failed(1, 503).outcome);
        assert_eq!((0..9).filter(|_| budget.withdraw(&error, at(0))).count(), 5);
        (0..9).for_each(|_| budget.succeeded(1, at(0)));
        assert!(!budget.withdraw(&error, at(0)));
        budget.succeeded(1, at(0));
        assert!(budget.withdraw(&error, at(0)));
    }
}
