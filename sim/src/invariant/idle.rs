//! Agents that are shown as idle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::Agent;

use crate::time::SimTime;
use crate::trace::NodeId;

use super::findings::Span;
use super::running::{Change, Counts, Running};
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// An agent that the server shows as online and idle executes nothing. A suspended machine executes nothing either.
#[derive(Clone, Debug)]
pub struct IdleAgentRunsNothing {
    /// How long a worker may live while its agent is shown as idle: until a start is told, and until a lost agent is
    /// noticed. Default: 2 minutes.
    pub bound: Duration,
}

impl Default for IdleAgentRunsNothing {
    fn default() -> Self {
        Self { bound: Duration::from_secs(2 * 60) }
    }
}

impl Rule for IdleAgentRunsNothing {
    const NAME: &'static str = "idle-agent-runs-nothing";
    const SUMMARY: &'static str = "An agent that the server shows as online and idle executes nothing.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut workers: Counts<&Agent> = Counts::default();
        let mut busy_since: BTreeMap<&Agent, (SimTime, NodeId)> = BTreeMap::new();
        let mut idle_since: BTreeMap<&Agent, SimTime> = BTreeMap::new();
        let mut shown: BTreeSet<&Agent> = BTreeSet::new();
        let suspensions = Suspensions::of(history);
        let mut tell = |agent: &Agent, busy: Option<(SimTime, NodeId)>, idle: Option<SimTime>, until: SimTime| {
            let (Some((busy, node)), Some(idle)) = (busy, idle) else { return };
            let from = busy.max(idle);
            if suspensions.awake(&[node], from, until) > self.bound {
                let message = format_args!(
                    "{agent} executed a job since {busy} and was shown as idle since {idle}, both until {until} ({})",
                    Span(until.since(from))
                );
                found.breach(agent, from + self.bound, message);
            }
        };
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => {
                    let first = workers.add(run.agent);
                    if first {
                        busy_since.insert(run.agent, (entry.at, run.node));
                    }
                }
                Some(Change::Stopped(run, _)) => {
                    let last = workers.remove(&run.agent);
                    if last {
                        let busy = busy_since.remove(run.agent);
                        tell(run.agent, busy, idle_since.get(run.agent).copied(), entry.at);
                    }
                }
                None => {}
            }
            let Fact::AgentShown { agent, online, busy } = &entry.fact else { continue };
            shown.insert(agent);
            if *online && !*busy {
                idle_since.entry(agent).or_insert(entry.at);
            } else {
                tell(agent, busy_since.get(agent).copied(), idle_since.remove(agent), entry.at);
            }
        }
        for (agent, busy) in busy_since {
            tell(agent, Some(busy), idle_since.get(agent).copied(), history.end);
        }
        found.subjects(shown.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_shown_state_may_lag_a_little() {
        let facts = vec![
            (1, shown_idle("a")),
            (100, started("j", 1, "a", "w1")),
            (220, shown_busy("a")),
            (900, shown_idle("a")),
            (1_020, stopped("j", 1, "w1")),
            (1_021, shown_offline("b")),
            (1_021, started("k", 1, "b", "w2")),
        ];
        holds(&IdleAgentRunsNothing::default(), 2, facts);
    }

    #[test]
    fn an_idle_agent_with_a_worker_is_a_breach() {
        let broken = (220, "a", "idle-agent-runs-nothing/agent");
        let facts = vec![(1, shown_idle("a")), (50, shown_idle("a")), (100, started("j", 1, "a", "w1"))];
        breaks(&IdleAgentRunsNothing::default(), broken, &["0:01:40", "0:00:01", "2:46:40"], facts.clone());
        for end in [stopped("j", 1, "w1"), shown_busy("a"), shown_offline("a")] {
            let facts = [facts.clone(), vec![(221, end)]].concat();
            breaks(&IdleAgentRunsNothing::default(), broken, &["2 min 1 s"], facts);
        }
    }
}
