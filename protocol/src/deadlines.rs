//! When things that end by themselves will end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

/// One instant for each key, and the earliest of them at hand.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    at: BTreeMap<K, Timestamp>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Sets the key's instant; an earlier setting is forgotten.
    pub fn set(&mut self, key: K, at: Timestamp) {
        if let Some(earlier) = self.at.insert(key.clone(), at) {
            self.order.remove(&(earlier, key.clone()));
        }
        self.order.insert((at, key));
    }

    /// Forgets the key.
    pub fn clear(&mut self, key: &K) {
        if let Some(at) = self.at.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// The key's instant.
    pub fn of(&self, key: &K) -> Option<Timestamp> {
        self.at.get(key).copied()
    }

    /// The earliest instant.
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out a key whose instant is `now` or earlier, the earliest first.
    pub fn take_due(&mut self, now: Timestamp) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}

/// The shortest wait: a sleep that rounds to nothing would spin.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// How long to sleep from `now` until `end`.
pub(crate) fn span_until(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_until(end)).unwrap_or_default().max(SHORTEST_WAIT)
}

/// `instant` and `span` added; the end of time when there is none.
pub(crate) fn after(instant: Timestamp, span: Duration) -> Timestamp {
    instant.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod model;
