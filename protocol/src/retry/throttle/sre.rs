//! Adaptive throttling as the SRE book has it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Valve;
use crate::clock::Mono;
use crate::random::Random;
use crate::retry::Admission;

pub(super) struct Sre {
    /// In whole thousandths.
    k: u64,
    window: Duration,
    requests: VecDeque<Mono>,
    accepted: VecDeque<Mono>,
}

impl Sre {
    pub(super) fn new(k: f64, window: Duration) -> Self {
        let k = (k * 1_000.0).round() as u64;
        Self { k, window, requests: VecDeque::new(), accepted: VecDeque::new() }
    }

    /// How many in a million attempts are rejected.
    fn rejection_ppm(&self) -> u64 {
        let (requests, accepted) = (self.requests.len() as u64, self.accepted.len() as u64);
        let over = (requests * 1_000).saturating_sub(self.k * accepted);
        over * 1_000 / (requests + 1)
    }
}

impl Valve for Sre {
    fn admit(&mut self, now: Mono, random: &mut Random) -> Admission {
        for list in [&mut self.requests, &mut self.accepted] {
            while list.front().is_some_and(|at| now.since(*at) >= self.window) {
                list.pop_front();
            }
        }
        let rejected = random.next_u64() % 1_000_000 < self.rejection_ppm();
        // A request that is rejected here counts as one that the application made.
        self.requests.push_back(now);
        if rejected { Admission::Refuse } else { Admission::Send }
    }

    fn succeeded(&mut self, now: Mono) {
        self.accepted.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::{at, random};

    #[test]
    fn nothing_is_rejected_until_more_than_half_fails() {
        let mut sre = Sre::new(2.0, Duration::from_secs(120));
        for n in 0..100 {
            sre.requests.push_back(at(0));
            if n % 2 == 0 {
                sre.accepted.push_back(at(0));
            }
        }
        assert_eq!(sre.rejection_ppm(), 0);
        sre.accepted.clear();
        assert_eq!(sre.rejection_ppm(), 100 * 1_000_000 / 101);
    }

    #[test]
    fn what_is_old_no_longer_counts() {
        let (mut sre, mut random) = (Sre::new(2.0, Duration::from_secs(120)), random(1));
        let refused = (0..1_000).filter(|_| sre.admit(at(0), &mut random) == Admission::Refuse).count();
        assert!(refused > 900, "{refused}");
        assert_eq!(sre.admit(at(120), &mut random), Admission::Send);
    }
}
