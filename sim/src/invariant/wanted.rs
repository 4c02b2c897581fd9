//! Ends that somebody asked for: to stop an agent, to update it, to have it no more.

use std::collections::{BTreeMap, BTreeSet};

use squall_protocol::Fact;
use squall_protocol::facts::Agent;

/// Which agents somebody wants to end.
#[derive(Default)]
pub(super) struct WantedEnds<'a> {
    stops: BTreeSet<&'a Agent>,
    dismissed: BTreeSet<&'a Agent>,
    /// An order to update waits for the agent whatever becomes of its processes, until one of them ends for it.
    updates: BTreeMap<&'a Agent, u32>,
}

impl<'a> WantedEnds<'a> {
    /// Follows a fact. If it tells of an agent's end, ask [`WantedEnds::of`] first.
    pub(super) fn follow(&mut self, fact: &'a Fact) {
        match fact {
            Fact::AgentStopRequested { agent } => drop(self.stops.insert(agent)),
            Fact::AgentDismissed { agent } => drop(self.dismissed.insert(agent)),
            Fact::AgentUpdateRequested { agent } => *self.updates.entry(agent).or_default() += 1,
            Fact::AgentUp { agent } => drop(self.stops.remove(agent)),
            Fact::AgentDown { agent, code: Some(_) } if !self.stops.contains(agent) => {
                if let Some(updates) = self.updates.get_mut(agent) {
                    *updates = updates.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    /// Does somebody want this agent to end?
    pub(super) fn of(&self, agent: &Agent) -> bool {
        let ordered = self.stops.contains(agent) || self.dismissed.contains(agent);
        ordered || self.updates.get(agent).is_some_and(|updates| *updates > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn wanted(facts: &[Fact]) -> bool {
        let mut ends = WantedEnds::default();
        facts.iter().for_each(|fact| ends.follow(fact));
        ends.of(&"a".into())
    }

    #[test]
    fn a_stop_is_over_when_the_agent_starts_again() {
        assert!(wanted(&[stop_requested("a"), exited("a", 0)]));
        assert!(!wanted(&[stop_requested("a"), exited("a", 0), up("a")]));
        assert!(!wanted(&[stop_requested("b")]));
    }

    #[test]
    fn a_dismissal_is_for_good() {
        assert!(wanted(&[dismissed("a")]));
        assert!(wanted(&[dismissed("a"), down("a"), up("a")]));
        assert!(!wanted(&[dismissed("b")]));
    }

    #[test]
    fn an_update_waits_until_the_agent_ends_by_itself() {
        assert!(wanted(&[update_requested("a"), down("a"), up("a")]));
        assert!(!wanted(&[update_requested("a"), exited("a", 3), up("a")]));
        assert!(wanted(&[update_requested("a"), update_requested("a"), exited("a", 3), up("a")]));
        assert!(wanted(&[update_requested("a"), stop_requested("a"), exited("a", 0), up("a")]));
    }
}
