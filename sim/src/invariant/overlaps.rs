//! Who holds something at the same time as others.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::SimTime;

/// Holders by what they hold. More than there is room for, for longer than `grace`, is an overlap.
pub(super) struct Overlaps<K, H> {
    room: usize,
    grace: Duration,
    held: BTreeMap<K, Vec<(H, SimTime)>>,
}

/// More holders than there was room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlap<K, H> {
    /// What they held.
    pub(super) key: K,
    /// Those who held it longest: as many as there is room for, and one more.
    pub(super) holders: Vec<H>,
    /// When the one too many came.
    pub(super) from: SimTime,
    /// When one of all holders left, or the run ended.
    pub(super) until: SimTime,
}

impl<K: Ord + Copy, H: PartialEq + Copy> Overlaps<K, H> {
    pub(super) fn new(room: usize, grace: Duration) -> Self {
        Self { room, grace, held: BTreeMap::new() }
    }

    /// A holder comes. It counts once, however often it comes.
    pub(super) fn enter(&mut self, key: K, holder: H, at: SimTime) {
        let holders = self.held.entry(key).or_default();
        if !holders.iter().any(|(other, _)| *other == holder) {
            holders.push((holder, at));
        }
    }

    /// A holder leaves. If there were too many, it says for how long.
    pub(super) fn leave(&mut self, key: K, holder: H, at: SimTime) -> Option<Overlap<K, H>> {
        let holders = self.held.get_mut(&key)?;
        let place = holders.iter().position(|(other, _)| *other == holder)?;
        let overlap = overlap(key, holders, self.room, self.grace, at);
        holders.remove(place);
        overlap
    }

    /// How many things were ever held.
    pub(super) fn keys(&self) -> usize {
        self.held.len()
    }

    /// What is held by too many when the run ends.
    pub(super) fn at_end(&self, end: SimTime) -> impl Iterator<Item = Overlap<K, H>> {
        self.held.iter().filter_map(move |(key, holders)| overlap(*key, holders, self.room, self.grace, end))
    }
}

fn overlap<K, H: Copy>(
    key: K,
    holders: &[(H, SimTime)],
    room: usize,
    grace: Duration,
    until: SimTime,
) -> Option<Overlap<K, H>> {
    let (_, from) = *holders.get(room)?;
    let holders = holders[..=room].iter().map(|(holder, _)| *holder).collect();
    (until.since(from) > grace).then_some(Overlap { key, holders, from, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SimTime {
        SimTime::from_secs(secs)
    }

    #[test]
    fn a_hand_over_at_one_instant_is_no_overlap() {
        let mut held = Overlaps::new(1, Duration::ZERO);
        held.enter("x", 1, at(1));
        held.enter("x", 2, at(5));
        assert_eq!(held.leave("x", 1, at(5)), None);
        assert_eq!(held.leave("x", 2, at(9)), None);
    }

    #[test]
    fn one_too_many_is_an_overlap_unless_it_is_within_grace() {
        for (grace, found) in [(3, true), (4, false)] {
            let mut held = Overlaps::new(1, Duration::from_secs(grace));
            held.enter("x", 1, at(1));
            held.enter("x", 2, at(5));
            let expected = Overlap { key: "x", holders: vec![1, 2], from: at(5), until: at(9) };
            assert_eq!(held.leave("x", 2, at(9)), found.then_some(expected));
        }
    }

    #[test]
    fn room_for_two_is_room_for_two() {
        let mut held = Overlaps::new(2, Duration::ZERO);
        held.enter("x", 1, at(1));
        held.enter("x", 2, at(2));
        assert_eq!(held.at_end(at(9)).count(), 0);
        held.enter("x", 3, at(3));
        assert_eq!(held.at_end(at(9)).map(|it| it.holders).collect::<Vec<_>>(), [[1, 2, 3]]);
    }
}
