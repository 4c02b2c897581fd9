//! Circuit breakers: no retries, or no calls at all, while too many of them fail.

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::clock::Mono;

/// When a breaker opens, and what it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Breaker {
    /// It is open while more than so many in a hundred attempts fail.
    #[serde(default = "percent")]
    pub percent: u32,
    /// How long an attempt counts.
    #[serde(default = "window")]
    pub window: Span,
    /// Fewer attempts than this within the window say nothing.
    #[serde(default = "at_least")]
    pub at_least: u32,
    /// What it stops.
    #[serde(default)]
    pub stops: Stops,
}

/// What an open breaker stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stops {
    /// Retries; first attempts pass, and tell whether it may close (brooker.co.za, 2022-02-28).
    #[default]
    Retries,
    /// Everything, until the failures have left the window.
    Calls,
}

fn percent() -> u32 {
    10
}
fn window() -> Span {
    Span::secs(60)
}
fn at_least() -> u32 {
    1
}

/// A breaker's state: what the attempts of the last while came to.
pub(super) struct Fuse {
    breaker: Breaker,
    attempts: VecDeque<(Mono, bool)>,
    failures: usize,
}

impl Fuse {
    pub(super) fn new(breaker: Breaker) -> Self {
        Self { breaker, attempts: VecDeque::new(), failures: 0 }
    }

    pub(super) fn failed(&mut self, now: Mono) {
        self.failures += 1;
        self.attempts.push_back((now, true));
    }

    pub(super) fn succeeded(&mut self, now: Mono) {
        self.attempts.push_back((now, false));
    }

    /// May a retry be made?
    pub(super) fn lets_retry(&mut self, now: Mono) -> bool {
        !self.is_open(now)
    }

    /// May a first attempt be made?
    pub(super) fn lets_call(&mut self, now: Mono) -> bool {
        self.breaker.stops == Stops::Retries || !self.is_open(now)
    }

    fn is_open(&mut self, now: Mono) -> bool {
        self.forget(now, self.breaker.window.0);
        let all = self.attempts.len();
        all >= self.breaker.at_least as usize && self.failures * 100 > all * self.breaker.percent as usize
    }

    fn forget(&mut self, now: Mono, window: Duration) {
        while self.attempts.front().is_some_and(|(at, _)| now.since(*at) >= window) {
            let Some((_, failed)) = self.attempts.pop_front() else { return };
            self.failures -= usize::from(failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::at;

    fn fuse(stops: Stops) -> Fuse {
        Fuse::new(Breaker { percent: 10, window: Span::secs(60), at_least: 1, stops })
    }

    #[test]
    fn more_than_a_tenth_of_failures_stops_retries() {
        let mut fuse = fuse(Stops::Retries);
        (0..9).for_each(|_| fuse.succeeded(at(0)));
        fuse.failed(at(1));
        assert!(fuse.lets_retry(at(1)), "one in ten is not more than a tenth");
        fuse.failed(at(2));
        assert!(!fuse.lets_retry(at(2)) && fuse.lets_call(at(2)));
    }

    #[test]
    fn it_closes_when_the_failures_are_old() {
        let mut fuse = fuse(Stops::Calls);
        fuse.failed(at(0));
        assert!(!fuse.lets_call(at(59)));
        assert!(fuse.lets_call(at(60)));
    }
}
