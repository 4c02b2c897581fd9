//! How long agents take to stop.

use std::collections::BTreeSet;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::Agent;

use crate::time::SimTime;
use crate::trace::NodeId;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// An agent that is asked to stop ends in time. The time for which its machine is suspended does not count.
#[derive(Clone, Debug)]
pub struct ShutdownInTime {
    /// How long it may take, faults or not. Less than the grace period after which it would be killed. Default: 25
    /// seconds.
    pub bound: Duration,
}

impl Default for ShutdownInTime {
    fn default() -> Self {
        Self { bound: Duration::from_secs(25) }
    }
}

impl Rule for ShutdownInTime {
    const NAME: &'static str = "shutdown-in-time";
    const SUMMARY: &'static str = "An agent that is asked to stop ends before it would be killed.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut up: BTreeSet<&Agent> = BTreeSet::new();
        let mut stopping: Deadlines<(&Agent, NodeId)> = Deadlines::despite_faults(self.bound);
        let suspensions = Suspensions::of(history);
        let tell = |found: &mut Findings, (agent, node): (&Agent, NodeId), due: Due, until: SimTime| {
            found.subject();
            if due.missed && suspensions.awake(&[node], due.since, until) > self.bound {
                let message = format_args!(
                    "{agent} was asked to stop at {} and had not ended by {} ({})",
                    due.since,
                    due.deadline,
                    Span(self.bound)
                );
                found.breach(agent, due.deadline, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::AgentUp { agent } => drop(up.insert(agent)),
                Fact::AgentStopRequested { agent } if up.contains(agent) => {
                    stopping.arise((agent, entry.node), entry.at)
                }
                Fact::AgentDown { agent, .. } => {
                    up.remove(agent);
                    let asked = (agent, entry.node);
                    let due = stopping.settle(&asked, entry.at);
                    due.into_iter().for_each(|due| tell(found, asked, due, entry.at));
                }
                _ => {}
            }
        }
        stopping.missed(history.end).for_each(|(asked, due)| tell(found, asked, due, history.end));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_shutdown_in_time_is_fine() {
        let facts = vec![
            (1, stop_requested("not up")),
            (1, up("a")),
            (50, stop_requested("a")),
            (75, exited("a", 0)),
            (80, up("a")),
            (900, down("a")),
        ];
        holds(&ShutdownInTime::default(), 1, facts);
    }

    #[test]
    fn a_machine_that_sleeps_does_not_shut_down() {
        let asleep = |until| {
            vec![
                (1, up("a")),
                (50, stop_requested("a")),
                (60, Fact::MachineSuspended { machine: "a".into() }),
                (100, Fact::MachineResumed { machine: "a".into() }),
                (until, down("a")),
            ]
        };
        let waking = super::super::suspensions::WAKING.as_secs();
        holds(&ShutdownInTime::default(), 1, asleep(115 + waking));
        breaks(&ShutdownInTime::default(), (75, "a", "shutdown-in-time/agent"), &[], asleep(116 + waking));
    }

    #[test]
    fn a_slow_shutdown_is_a_breach() {
        let broken = (75, "a", "shutdown-in-time/agent");
        let facts = vec![(1, up("a")), (50, stop_requested("a"))];
        breaks(&ShutdownInTime::default(), broken, &["0:00:50", "25 s"], facts.clone());
        breaks(&ShutdownInTime::default(), broken, &[], [facts, vec![(80, down("a"))]].concat());
    }
}
