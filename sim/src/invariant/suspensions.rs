//! When machines were suspended. Whoever slept cannot know at once what happened meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_protocol::Fact;

use super::History;
use crate::time::SimTime;
use crate::trace::NodeId;

/// How long a process may take, after its machine went on, to see that its time is over.
pub(super) const WAKING: Duration = Duration::from_secs(1);

/// The times at which each machine was suspended, or had just gone on.
pub(super) struct Suspensions {
    by_node: BTreeMap<NodeId, Vec<(SimTime, SimTime)>>,
}

impl Suspensions {
    pub(super) fn of(history: &History<'_>) -> Self {
        let mut by_node: BTreeMap<NodeId, Vec<(SimTime, SimTime)>> = BTreeMap::new();
        for entry in history.journal {
            let spells = match entry.fact {
                Fact::MachineSuspended { .. } | Fact::MachineResumed { .. } => by_node.entry(entry.node).or_default(),
                _ => continue,
            };
            match entry.fact {
                Fact::MachineSuspended { .. } => spells.push((entry.at, history.end)),
                _ => spells.iter_mut().rev().take(1).for_each(|(_, until)| *until = entry.at + WAKING),
            }
        }
        Self { by_node }
    }

    /// Was the machine suspended then, or waking?
    pub(super) fn excuse(&self, node: NodeId, at: SimTime) -> bool {
        self.spells(node).any(|(from, until)| from <= at && at <= until)
    }

    /// How much of that time all of these machines were awake for.
    pub(super) fn awake(&self, nodes: &[NodeId], from: SimTime, until: SimTime) -> Duration {
        let mut spells: Vec<(SimTime, SimTime)> = nodes.iter().flat_map(|node| self.spells(*node)).collect();
        spells.sort_unstable();
        let (mut awake, mut since) = (Duration::ZERO, from);
        for (asleep, again) in spells {
            awake += asleep.min(until).since(since);
            since = since.max(again);
        }
        awake + until.since(since)
    }

    fn spells(&self, node: NodeId) -> impl Iterator<Item = (SimTime, SimTime)> {
        self.by_node.get(&node).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Entry;

    fn at(secs: u64) -> SimTime {
        SimTime::from_secs(secs)
    }

    #[test]
    fn sleep_and_waking_are_excused_and_nothing_else() {
        let machine = || "m".into();
        let entry = |secs, node, fact| Entry { at: at(secs), node: NodeId(node), fact };
        let journal = [
            entry(10, 1, Fact::MachineSuspended { machine: machine() }),
            entry(20, 1, Fact::MachineResumed { machine: machine() }),
            entry(50, 2, Fact::MachineSuspended { machine: machine() }),
        ];
        let history = History { journal: &journal, heal_at: at(100), end: at(100) };
        let found = Suspensions::of(&history);
        let excused: Vec<u64> = (0..60).filter(|secs| found.excuse(NodeId(1), at(*secs))).collect();
        assert_eq!(excused, (10..=21).collect::<Vec<_>>());
        assert!(found.excuse(NodeId(2), at(99)));
        assert_eq!(found.awake(&[NodeId(1), NodeId(2)], at(5), at(60)), Duration::from_secs(5 + 29));
    }
}
