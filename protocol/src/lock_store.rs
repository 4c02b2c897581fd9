//! Locks with a time to live, by value: what Redis makes of `SET key value NX EX ttl` and a compare-and-delete.
//!
//! A lock belongs to whoever knows its value. Each taking has a larger token than all before it, for those who fence
//! with it. A holder may renew its lock. A fail-over forgets what the replica had not been told yet, and a restart what
//! had not been written down.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::deadlines::{Deadlines, after};

/// A lock that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock<V> {
    /// What its holder knows it by.
    pub value: V,
    /// Larger than the token of every lock that was taken before it.
    pub token: u64,
    /// When it was taken.
    pub since: Timestamp,
    /// When its time to live ends.
    pub until: Timestamp,
}

/// A renewal, as long as a fail-over may forget it.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    at: Timestamp,
    /// When the lock would have ended without it.
    former_end: Timestamp,
}

/// What became of the wish for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryLock<V> {
    /// It is held now, with this token.
    Taken(u64),
    /// It was held with the same value before, with this token. Its time to live goes on as it was.
    ReEntered(u64),
    /// Another value holds it.
    Held(HeldLock<V>),
}

/// The locks of a store.
#[derive(Clone, Debug)]
pub struct LockStore<K, V> {
    locks: BTreeMap<K, HeldLock<V>>,
    ends: Deadlines<K>,
    /// The renewals of each lock that has any, the earliest first.
    renewals: BTreeMap<K, Vec<Renewal>>,
    last_token: u64,
}

impl<K: Ord + Clone, V> Default for LockStore<K, V> {
    fn default() -> Self {
        Self { locks: BTreeMap::new(), ends: Deadlines::default(), renewals: BTreeMap::new(), last_token: 0 }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> LockStore<K, V> {
    /// Takes a lock for `life` if nobody holds it. What has ended by `now` must have been taken out with
    /// [`LockStore::expire`].
    pub fn try_lock(&mut self, key: K, value: V, life: Duration, now: Timestamp) -> TryLock<V> {
        match self.locks.get(&key) {
            Some(held) if held.value == value => TryLock::ReEntered(held.token),
            Some(held) => TryLock::Held(held.clone()),
            None => {
                self.last_token += 1;
                let lock = HeldLock { value, token: self.last_token, since: now, until: after(now, life) };
                self.ends.set(key.clone(), lock.until);
                self.locks.insert(key, lock);
                TryLock::Taken(self.last_token)
            }
        }
    }

    /// Gives a lock back; whoever does not know its value gives nothing back.
    pub fn unlock(&mut self, key: &K, value: &V) -> Option<HeldLock<V>> {
        if self.locks.get(key)?.value != *value {
            return None;
        }
        self.ends.clear(key);
        self.renewals.remove(key);
        self.locks.remove(key)
    }

    /// Gives a lock `life` from `now` on, whatever it had left. Returns whether it is held with this value still.
    pub fn renew(&mut self, key: &K, value: &V, life: Duration, now: Timestamp) -> bool {
        let Some(lock) = self.locks.get_mut(key).filter(|lock| lock.value == *value) else { return false };
        self.renewals.entry(key.clone()).or_default().push(Renewal { at: now, former_end: lock.until });
        lock.until = after(now, life);
        self.ends.set(key.clone(), lock.until);
        true
    }

    /// Who holds a lock.
    pub fn get(&self, key: &K) -> Option<&HeldLock<V>> {
        self.locks.get(key)
    }

    /// Every lock that is held.
    pub fn held(&self) -> impl Iterator<Item = (&K, &HeldLock<V>)> {
        self.locks.iter()
    }

    /// Takes out one lock whose time to live is over; to be called until it says `None`.
    pub fn expire(&mut self, now: Timestamp) -> Option<(K, HeldLock<V>)> {
        let key = self.ends.take_due(now)?;
        self.renewals.remove(&key);
        let lock = self.locks.remove(&key)?;
        Some((key, lock))
    }

    /// When the next lock will end by itself.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.next()
    }

    /// Forgets every lock that was taken at `since` or later, as a fail-over to a replica that lags behind does. Renewals
    /// of that time are forgotten as well.
    pub fn forget_since(&mut self, since: Timestamp) -> Vec<(K, HeldLock<V>)> {
        let lost: Vec<K> =
            self.locks.iter().filter(|(_, lock)| lock.since >= since).map(|(key, _)| key.clone()).collect();
        let lost = lost
            .into_iter()
            .filter_map(|key| {
                self.ends.clear(&key);
                self.renewals.remove(&key);
                self.locks.remove_entry(&key)
            })
            .collect();
        self.forget_renewals_since(since);
        lost
    }

    fn forget_renewals_since(&mut self, since: Timestamp) {
        for (key, renewals) in &mut self.renewals {
            let known = renewals.iter().take_while(|renewal| renewal.at < since).count();
            if let Some(Renewal { former_end, .. }) = renewals.drain(known..).next()
                && let Some(lock) = self.locks.get_mut(key)
            {
                lock.until = former_end;
                self.ends.set(key.clone(), former_end);
            }
        }
        self.renewals.retain(|_, renewals| !renewals.is_empty());
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const LIFE: Duration = Duration::from_secs(10);

    #[test]
    fn a_lock_is_given_back_by_its_value_alone() {
        let mut store = LockStore::default();
        assert_eq!(store.try_lock("l", 1, LIFE, at(0)), TryLock::Taken(1));
        assert_eq!(store.try_lock("l", 1, LIFE, at(5)), TryLock::ReEntered(1));
        assert!(matches!(store.try_lock("l", 2, LIFE, at(5)), TryLock::Held(held) if held.value == 1));
        assert_eq!(store.unlock(&"l", &2), None);
        assert_eq!(store.unlock(&"l", &1).map(|lock| lock.token), Some(1));
        assert_eq!(store.try_lock("l", 2, LIFE, at(6)), TryLock::Taken(2));
    }

    #[test]
    fn re_entering_extends_nothing() {
        let mut store = LockStore::default();
        store.try_lock("l", 1, LIFE, at(0));
        store.try_lock("l", 1, LIFE, at(9));
        assert_eq!(store.next_end(), Some(at(10)));
        assert_eq!(store.expire(at(10)).map(|(key, _)| key), Some("l"));
    }

    #[test]
    fn a_renewed_lock_ends_later_unless_a_fail_over_forgets_that() {
        let mut store = LockStore::default();
        store.try_lock("l", 1, LIFE, at(0));
        assert!(!store.renew(&"l", &2, LIFE, at(1)));
        assert!(store.renew(&"l", &1, LIFE, at(6)));
        assert!(store.renew(&"l", &1, LIFE, at(8)));
        assert_eq!((store.expire(at(17)), store.next_end()), (None, Some(at(18))));
        assert_eq!(store.forget_since(at(7)), []);
        assert_eq!(store.next_end(), Some(at(16)));
        assert_eq!(store.expire(at(16)).map(|(key, _)| key), Some("l"));
        assert!(!store.renew(&"l", &1, LIFE, at(17)));
    }

    #[test]
    fn a_fail_over_forgets_the_latest() {
        let mut store = LockStore::default();
        store.try_lock("old", 1, LIFE, at(0));
        store.try_lock("new", 1, LIFE, at(5));
        assert_eq!(store.forget_since(at(4)).into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["new"]);
        assert_eq!(store.held().map(|(key, _)| *key).collect::<Vec<_>>(), ["old"]);
    }
}
