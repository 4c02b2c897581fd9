//! Timers, in order of time, that can be cancelled.
//!
//! Most time-outs are cancelled long before they are due, so a cancelled one leaves nothing behind.

use std::collections::BTreeMap;

use crate::time::SimTime;

/// Names a timer until it fires or is cancelled. Timers sort by when they are due, then by when they were set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    at: SimTime,
    sequence: u64,
}

/// Timers that carry a `T` each. Timers of one instant fire in the order in which they were set.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    set: BTreeMap<TimerKey, T>,
    sequence: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { set: BTreeMap::new(), sequence: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer.
    pub(crate) fn set(&mut self, at: SimTime, carried: T) -> TimerKey {
        self.sequence += 1;
        let key = TimerKey { at, sequence: self.sequence };
        self.set.insert(key, carried);
        key
    }

    /// What a timer carries, while it is set.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        self.set.get_mut(&key)
    }

    /// Cancels a timer; nothing happens if it has fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.set.remove(&key)
    }

    /// When the next timer is due.
    pub(crate) fn next_at(&self) -> Option<SimTime> {
        self.set.first_key_value().map(|(key, _)| key.at)
    }

    /// Takes the next timer that is due by `now`.
    pub(crate) fn take_due(&mut self, now: SimTime) -> Option<T> {
        let next = self.set.first_entry()?;
        (next.key().at <= now).then(|| next.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_by_time_then_by_order_of_setting() {
        let mut timers = Timers::default();
        for (at, name) in [(5, "c"), (3, "a"), (5, "d"), (3, "b")] {
            timers.set(SimTime::from_millis(at), name);
        }
        let fired: Vec<_> = std::iter::from_fn(|| timers.take_due(SimTime::from_millis(9))).collect();
        assert_eq!(fired, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_cancelled_timer_neither_fires_nor_hides_the_next() {
        let mut timers = Timers::default();
        let first = timers.set(SimTime::from_millis(1), 1);
        timers.set(SimTime::from_millis(2), 2);
        assert_eq!(timers.cancel(first), Some(1));
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.next_at(), Some(SimTime::from_millis(2)));
        assert_eq!(timers.take_due(SimTime::from_millis(1)), None);
        assert_eq!(timers.take_due(SimTime::from_millis(2)), Some(2));
    }

    #[test]
    fn a_key_does_not_reach_another_timer_of_the_same_instant() {
        let mut timers = Timers::default();
        let old = timers.set(SimTime::from_millis(1), 1);
        timers.take_due(SimTime::from_millis(1));
        timers.set(SimTime::from_millis(1), 2);
        assert_eq!(timers.cancel(old), None);
    }

    #[test]
    fn cancelled_time_outs_do_not_pile_up() {
        let mut timers = Timers::default();
        for n in 0..1_000_u64 {
            let key = timers.set(SimTime::from_secs(60 + n), ());
            timers.cancel(key);
        }
        assert!(timers.set.is_empty());
    }
}
