//! A monitor of stages: it knows when each began and says which take longer than they may.
//!
//! The advice of the incident's own users. It belongs to whoever runs the agents, and asks none of them.

use std::time::Duration;

use jiff::Timestamp;

use crate::deadlines::{Deadlines, after};
use crate::facts::{Job, Stage};

/// Watches stages.
#[derive(Debug, Default)]
pub struct StageMonitor {
    running: Deadlines<(Job, Stage)>,
}

impl StageMonitor {
    /// A stage began at `now` and may take as long as `bound`.
    pub fn began(&mut self, job: Job, stage: Stage, bound: Duration, now: Timestamp) {
        self.running.set((job, stage), after(now, bound));
    }

    /// A stage ended, however it did.
    pub fn ended(&mut self, job: Job, stage: Stage) {
        self.running.clear(&(job, stage));
    }

    /// The instant at which the next running stage will have taken too long.
    pub fn next(&self) -> Option<Timestamp> {
        self.running.next()
    }

    /// Takes out a stage that has taken too long by `now`. Each is said once.
    pub fn take_slow(&mut self, now: Timestamp) -> Option<(Job, Stage)> {
        self.running.take_due(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_what_runs_for_too_long_is_slow_and_only_once() {
        let mut monitor = StageMonitor::default();
        let bound = Duration::from_secs(60);
        monitor.began("j".into(), "checkout".into(), bound, at(0));
        monitor.began("k".into(), "checkout".into(), bound, at(10));
        assert_eq!(monitor.next(), Some(at(60)));
        monitor.ended("j".into(), "checkout".into());
        assert_eq!(monitor.take_slow(at(69)), None);
        assert_eq!(monitor.take_slow(at(70)), Some(("k".into(), "checkout".into())));
        assert_eq!((monitor.take_slow(at(999)), monitor.next()), (None, None));
    }
}
