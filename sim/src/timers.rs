//! A heap of timers that can be cancelled.
//!
//! Most time-outs are cancelled long before they are due. A cancelled one leaves a dead entry in the heap; when dead
//! entries outnumber live ones the heap is rebuilt, so its size stays within twice the number of live timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use slab::Slab;

use crate::time::SimTime;

/// Below this many entries a rebuild is not worth it.
const REBUILD_ENTRIES_MIN: usize = 64;

/// Names a timer until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: usize,
    sequence: u64,
}

/// Timers that carry a `T` each. Timers of one instant fire in the order in which they were set.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<(SimTime, u64, usize)>>,
    live: Slab<(u64, T)>,
    sequence: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), live: Slab::new(), sequence: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer.
    pub(crate) fn set(&mut self, at: SimTime, carried: T) -> TimerKey {
        self.sequence += 1;
        let slot = self.live.insert((self.sequence, carried));
        self.heap.push(Reverse((at, self.sequence, slot)));
        TimerKey { slot, sequence: self.sequence }
    }

    /// What a timer carries, while it is set.
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        self.live.get_mut(key.slot).filter(|(sequence, _)| *sequence == key.sequence).map(|(_, carried)| carried)
    }

    /// Cancels a timer; nothing happens if it has fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        self.get_mut(key)?;
        let (_, carried) = self.live.remove(key.slot);
        if self.heap.len() > REBUILD_ENTRIES_MIN && self.heap.len() > 2 * self.live.len() {
            let live = &self.live;
            self.heap.retain(|Reverse((_, sequence, slot))| live.get(*slot).is_some_and(|(of, _)| of == sequence));
        }
        Some(carried)
    }

    /// When the next timer is due.
    pub(crate) fn next_at(&mut self) -> Option<SimTime> {
        while let Some(Reverse((at, sequence, slot))) = self.heap.peek().copied() {
            if self.live.get(slot).is_some_and(|(of, _)| *of == sequence) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next timer that is due by `now`.
    pub(crate) fn take_due(&mut self, now: SimTime) -> Option<T> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, _, slot)) = self.heap.pop()?;
        Some(self.live.remove(slot).1)
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
    fn a_key_does_not_reach_the_slot_s_next_timer() {
        let mut timers = Timers::default();
        let old = timers.set(SimTime::from_millis(1), 1);
        timers.take_due(SimTime::from_millis(1));
        timers.set(SimTime::from_millis(2), 2);
        assert_eq!(timers.cancel(old), None);
    }

    #[test]
    fn cancelled_time_outs_do_not_pile_up() {
        let mut timers = Timers::default();
        for n in 0..100_000_u64 {
            let key = timers.set(SimTime::from_secs(60 + n), ());
            timers.cancel(key);
        }
        assert!(timers.heap.len() <= 2 * REBUILD_ENTRIES_MIN, "{} entries", timers.heap.len());
    }
}
