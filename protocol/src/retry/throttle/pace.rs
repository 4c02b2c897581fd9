//! A bucket of reservations: so many a second after a burst, as `golang.org/x/time/rate` reserves them.

use std::time::Duration;

use super::Valve;
use crate::clock::Mono;

pub(super) struct Pace {
    interval: Duration,
    /// How far the next reservation may lie ahead before one has to wait.
    slack: Duration,
    /// When the next reservation is due if all come evenly.
    due: Duration,
}

impl Pace {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, slack: interval * burst.saturating_sub(1), due: Duration::ZERO }
    }
}

impl Valve for Pace {
    fn least_wait(&mut self, now: Mono) -> Duration {
        let now = now.since_start();
        let due = self.due.max(now);
        self.due = due + self.interval;
        due.saturating_sub(now).saturating_sub(self.slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::at;

    #[test]
    fn a_hundred_at_once_then_ten_a_second() {
        let mut pace = Pace::new(10, 100);
        let waits: Vec<Duration> = (0..103).map(|_| pace.least_wait(at(5))).collect();
        assert!(waits[..100].iter().all(Duration::is_zero));
        assert_eq!(waits[100..], [100, 200, 300].map(Duration::from_millis));
        assert_eq!(pace.least_wait(at(60)), Duration::ZERO);
    }
}
