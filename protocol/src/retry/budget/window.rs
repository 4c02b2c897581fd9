//! The retry budget of Finagle and tower: a share of the requests of a sliding window.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Account, TOKEN, thousandths};
use crate::clock::Mono;
use crate::retry::Outcome;

pub(super) struct Window {
    window: Duration,
    /// What the window always allows.
    reserve: u64,
    share: u64,
    /// When a request or a retry was, and what it gives or takes.
    entries: VecDeque<(Mono, i64)>,
}

impl Window {
    pub(super) fn new(window: Duration, per_second: u32, share: f64) -> Self {
        let reserve = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).saturating_mul(u64::from(per_second));
        // Retries a second times milliseconds are thousandths of a retry, which is what tokens are counted in.
        Self { window, reserve, share: thousandths(share), entries: VecDeque::new() }
    }

    fn balance(&mut self, now: Mono) -> i64 {
        while self.entries.front().is_some_and(|(at, _)| now.since(*at) >= self.window) {
            self.entries.pop_front();
        }
        let sum: i64 = self.entries.iter().map(|(_, amount)| amount).sum();
        sum.saturating_add(i64::try_from(self.reserve).unwrap_or(i64::MAX))
    }
}

impl Account for Window {
    fn call_begins(&mut self, now: Mono) {
        self.entries.push_back((now, self.share as i64));
    }

    fn withdraw(&mut self, _: &Outcome<'_>, now: Mono) -> bool {
        if self.balance(now) < TOKEN as i64 {
            return false;
        }
        self.entries.push_back((now, -(TOKEN as i64)));
        true
    }

    fn succeeded(&mut self, _: u32, now: Mono) {
        self.balance(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::{at, failed};

    fn affords(budget: &mut Window, secs: u64) -> usize {
        (0..1_000).filter(|_| budget.withdraw(&failed(1, 503).outcome, at(secs))).count()
    }

    #[test]
    fn a_window_pays_its_reserve_and_a_fifth_of_the_requests() {
        let mut budget = Window::new(Duration::from_secs(10), 10, 0.2);
        assert_eq!(affords(&mut budget, 0), 100);
        (0..50).for_each(|_| budget.call_begins(at(1)));
        assert_eq!(affords(&mut budget, 1), 10);
        assert_eq!(affords(&mut budget, 9), 0);
        assert_eq!(affords(&mut budget, 10), 100, "retries of the start have left the window");
    }
}
