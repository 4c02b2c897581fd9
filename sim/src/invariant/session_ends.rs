//! How sessions end: by the process that opened them, and with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Session, SessionEnd};

use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::live_sessions::LiveSessions;
use super::{Findings, History, Rule};

/// A session is deleted by the process that opened it, at its end, and by nobody else.
///
/// What an earlier process of the agent sent late must not end the session of the present one.
#[derive(Clone, Debug)]
pub struct LiveSessionNotDeleted {
    /// How long a process may go on after its session was deleted. Default: 1 minute.
    pub bound: Duration,
}

impl Default for LiveSessionNotDeleted {
    fn default() -> Self {
        Self { bound: Duration::from_secs(60) }
    }
}

impl Rule for LiveSessionNotDeleted {
    const NAME: &'static str = "live-session-not-deleted";
    const SUMMARY: &'static str = "No session is deleted while the process that opened it goes on.";
    const SUBJECT: &'static str = "session";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut up: BTreeSet<&Agent> = BTreeSet::new();
        // The sessions of processes that are still up.
        let mut own: BTreeSet<&Session> = BTreeSet::new();
        let mut owners: BTreeMap<&Session, &Agent> = BTreeMap::new();
        let mut deleted: Deadlines<(&Agent, &Session)> = Deadlines::despite_faults(self.bound);
        let tell = |found: &mut Findings, (agent, session): (&Agent, &Session), due: Due| {
            if due.missed {
                let message = format_args!(
                    "session {session} of {agent} was deleted at {}, and the process that had opened it went on until \
                     {} at least",
                    due.since, due.deadline
                );
                found.breach(session, due.deadline, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::AgentUp { agent } => drop(up.insert(agent)),
                Fact::SessionOpened { session, agent } => {
                    owners.insert(session, agent);
                    if up.contains(agent) {
                        own.insert(session);
                    }
                }
                Fact::SessionClosed { session, agent, why: SessionEnd::Deleted } if own.contains(session) => {
                    deleted.arise((agent, session), entry.at);
                }
                Fact::AgentDown { agent, .. } => {
                    up.remove(agent);
                    own.retain(|session| owners.get(session) != Some(&agent));
                    for gone in deleted.open(|(of, _)| *of == agent) {
                        deleted.settle(&gone, entry.at).into_iter().for_each(|due| tell(found, gone, due));
                    }
                }
                _ => {}
            }
        }
        deleted.missed(history.end).for_each(|(gone, due)| tell(found, gone, due));
        found.subjects(owners.len());
    }
}

/// An agent that ends because it was asked to ends its session, when nothing hinders it.
///
/// It is judged from heal on, with some time for what faults have left behind.
#[derive(Clone, Debug)]
pub struct StoppedAgentLeavesNoSession {
    /// How long after heal trouble may still be an excuse. Default: 10 minutes.
    pub settling: Duration,
}

impl Default for StoppedAgentLeavesNoSession {
    fn default() -> Self {
        Self { settling: Duration::from_secs(10 * 60) }
    }
}

impl Rule for StoppedAgentLeavesNoSession {
    const NAME: &'static str = "stopped-agent-leaves-no-session";
    const SUMMARY: &'static str = "An agent that ends because it was asked to, and undisturbed, ends its session.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut live = LiveSessions::default();
        let mut asked: BTreeMap<&Agent, SimTime> = BTreeMap::new();
        for entry in history.journal {
            live.follow(entry);
            match &entry.fact {
                Fact::AgentUp { agent } => drop(asked.remove(agent)),
                Fact::AgentStopRequested { agent } => drop(asked.entry(agent).or_insert(entry.at)),
                Fact::AgentDown { agent, code: Some(_) } => {
                    let Some(at) = asked.remove(agent).filter(|at| *at > history.heal_at + self.settling) else {
                        continue;
                    };
                    found.subject();
                    if live.has_one(agent) {
                        let message = format_args!(
                            "{agent} was asked to stop at {at} and ended at {}, and left its session behind",
                            entry.at
                        );
                        found.breach(agent, entry.at, message);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::SessionEnd::Deleted;

    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_process_deletes_its_session_at_its_end() {
        let facts = vec![
            (1, up("a")),
            (2, opened("s1", "a")),
            (50, closed("s1", "a", SessionEnd::Deleted)),
            (60, exited("a", 0)),
            (61, up("a")),
            (62, opened("s2", "a")),
            (70, down("a")),
            (71, up("a")),
            (72, closed("s2", "a", SessionEnd::Deleted)),
            (73, opened("s3", "a")),
            (900, closed("s3", "a", SessionEnd::Expired)),
        ];
        holds(&LiveSessionNotDeleted::default(), 3, facts);
    }

    #[test]
    fn a_session_that_is_deleted_under_its_process_is_a_breach() {
        let facts = vec![(1, up("a")), (2, opened("s1", "a")), (50, closed("s1", "a", SessionEnd::Deleted))];
        let broken = (110, "s1", "live-session-not-deleted/session");
        breaks(&LiveSessionNotDeleted::default(), broken, &["0:00:50"], facts.clone());
        breaks(&LiveSessionNotDeleted::default(), broken, &[], [facts, vec![(111, down("a"))]].concat());
    }

    #[test]
    fn a_clean_end_is_fine() {
        let facts = vec![
            (1, up("a")),
            (5, opened("s1", "a")),
            (1_200, stop_requested("a")),
            (1_201, exited("a", 1)),
            (1_300, up("a")),
            (2_000, stop_requested("a")),
            (2_001, closed("s1", "a", Deleted)),
            (2_002, exited("a", 1)),
        ];
        holds(&StoppedAgentLeavesNoSession::default(), 1, facts);
    }

    #[test]
    fn a_session_that_is_left_behind_is_a_breach() {
        let facts = vec![(1, up("a")), (5, opened("s1", "a")), (2_000, stop_requested("a")), (2_002, exited("a", 1))];
        let broken = (2_002, "a", "stopped-agent-leaves-no-session/agent");
        breaks(&StoppedAgentLeavesNoSession::default(), broken, &["0:33:20"], facts);
    }
}
