//! What has to come true in time: obligations that arise, are settled, or are missed.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::SimTime;

use super::History;

/// Open obligations by subject. Each has to be settled within a bound after it arose, or after heal if that is later.
pub(super) struct Deadlines<K> {
    bound: Duration,
    not_before: SimTime,
    open: BTreeMap<K, SimTime>,
}

/// An obligation that is settled, or whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// When it arose.
    pub(super) since: SimTime,
    /// When it had to be settled.
    pub(super) deadline: SimTime,
    /// Was it settled too late, or not at all?
    pub(super) missed: bool,
}

impl<K: Ord> Deadlines<K> {
    /// Time runs from heal on: what a fault delays is not late.
    pub(super) fn after_heal(history: &History<'_>, bound: Duration) -> Self {
        Self { bound, not_before: history.heal_at, open: BTreeMap::new() }
    }

    /// Time runs from the beginning: no fault is an excuse.
    pub(super) fn despite_faults(bound: Duration) -> Self {
        Self { bound, not_before: SimTime::ZERO, open: BTreeMap::new() }
    }

    /// An obligation arises. One that is open already stays as it is.
    pub(super) fn arise(&mut self, key: K, at: SimTime) {
        self.open.entry(key).or_insert(at);
    }

    /// An obligation is settled, or nobody asks for it any more. `None` if there was none.
    pub(super) fn settle<Q: Ord + ?Sized>(&mut self, key: &Q, at: SimTime) -> Option<Due>
    where
        K: Borrow<Q>,
    {
        let since = self.open.remove(key)?;
        Some(due(self.bound, self.not_before, since, at))
    }

    /// The open obligations that `wanted` names.
    pub(super) fn open(&self, wanted: impl Fn(&K) -> bool) -> Vec<K>
    where
        K: Clone,
    {
        self.open.keys().filter(|key| wanted(key)).cloned().collect()
    }

    /// What nobody settled although its time was over at `end`.
    pub(super) fn missed(self, end: SimTime) -> impl Iterator<Item = (K, Due)> {
        let (bound, not_before) = (self.bound, self.not_before);
        let due = self.open.into_iter().map(move |(key, since)| (key, due(bound, not_before, since, end)));
        due.filter(|(_, due)| due.missed)
    }
}

fn due(bound: Duration, not_before: SimTime, since: SimTime, at: SimTime) -> Due {
    let deadline = since.max(not_before) + bound;
    Due { since, deadline, missed: at > deadline }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn deadlines() -> Deadlines<&'static str> {
        Deadlines::after_heal(&History { journal: &[], heal_at: SimTime::from_secs(100), end: SimTime::MAX }, BOUND)
    }

    fn at(secs: u64) -> SimTime {
        SimTime::from_secs(secs)
    }

    #[test]
    fn time_runs_from_heal_on() {
        let mut open = deadlines();
        open.arise("early", at(5));
        open.arise("late", at(105));
        assert_eq!(open.settle(&"early", at(110)), Some(Due { since: at(5), deadline: at(110), missed: false }));
        assert_eq!(open.settle(&"late", at(116)), Some(Due { since: at(105), deadline: at(115), missed: true }));
        assert_eq!(open.settle(&"late", at(117)), None);
    }

    #[test]
    fn only_what_is_over_is_missed() {
        let mut open = deadlines();
        open.arise("over", at(5));
        open.arise("not yet", at(105));
        let missed: Vec<_> = open.missed(at(112)).map(|(key, due)| (key, due.deadline)).collect();
        assert_eq!(missed, [("over", at(110))]);
    }

    #[test]
    fn an_obligation_keeps_its_beginning() {
        let mut open = Deadlines::despite_faults(BOUND);
        open.arise("x", at(1));
        open.arise("x", at(8));
        assert!(open.settle(&"x", at(12)).is_some_and(|due| due.missed));
    }
}
