//! Sessions: one at a time, and never for long without one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Session, SessionEnd};

use crate::journal::Entry;
use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::overlaps::{Overlap, Overlaps};
use super::{Findings, History, Rule};

/// An agent has at most one live session.
#[derive(Clone, Debug, Default)]
pub struct OneLiveSession {
    /// Two at once for at most this long are no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for OneLiveSession {
    const NAME: &'static str = "one-live-session";
    const SUMMARY: &'static str = "An agent has at most one live session.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut live: Overlaps<&Agent, &Session> = Overlaps::new(1, self.grace);
        let tell = |found: &mut Findings, both: Overlap<&Agent, &Session>| {
            let (agent, first, second) = (both.key, both.holders[0], both.holders[1]);
            let message = format_args!(
                "sessions {first} and {second} of {agent} were both live from {} to {}",
                both.from, both.until
            );
            found.breach(agent, both.from + self.grace, message);
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::SessionOpened { session, agent } => live.enter(agent, session, entry.at),
                Fact::SessionClosed { session, agent, .. } => {
                    live.leave(agent, session, entry.at).into_iter().for_each(|both| tell(found, both));
                }
                _ => {}
            }
        }
        live.at_end(history.end).for_each(|both| tell(found, both));
        found.subjects(live.keys());
    }
}

/// The sessions that live, and whose they are.
#[derive(Default)]
struct Live<'a> {
    owners: BTreeMap<&'a Session, &'a Agent>,
    counts: BTreeMap<&'a Agent, usize>,
}

impl<'a> Live<'a> {
    fn follow(&mut self, entry: &'a Entry) {
        match &entry.fact {
            Fact::SessionOpened { session, agent } => {
                let before = self.owners.insert(session, agent);
                if before.is_none() {
                    *self.counts.entry(agent).or_default() += 1;
                }
            }
            Fact::SessionClosed { session, .. } => {
                if let Some(count) = self.owners.remove(session).and_then(|owner| self.counts.get_mut(owner)) {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    fn owner(&self, session: &Session) -> Option<&'a Agent> {
        self.owners.get(session).copied()
    }

    fn has_one(&self, agent: &Agent) -> bool {
        self.counts.get(agent).is_some_and(|count| *count > 0)
    }
}

/// An agent is not locked out for long by a session of its own.
///
/// It is locked out from the first refusal until a session is opened for it or a message is delivered to it.
#[derive(Clone, Debug)]
pub struct NotLockedOut {
    /// How long its own session may keep an agent out, from heal on. Default: 2 minutes.
    pub bound: Duration,
}

impl Default for NotLockedOut {
    fn default() -> Self {
        Self { bound: Duration::from_secs(2 * 60) }
    }
}

impl Rule for NotLockedOut {
    const NAME: &'static str = "not-locked-out-by-own-session";
    const SUMMARY: &'static str = "An agent that is refused because of a session of its own gets in again in time.";
    const SUBJECT: &'static str = "agent";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut live = Live::default();
        let mut agents: BTreeSet<&Agent> = BTreeSet::new();
        let mut dismissed: BTreeSet<&Agent> = BTreeSet::new();
        let mut out: Deadlines<&Agent> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, agent: &Agent, due: Due| {
            if due.missed {
                let message = format_args!(
                    "{agent} was refused at {} because of a session of its own, and had no other by {} (heal \
                     was at {})",
                    due.since, due.deadline, history.heal_at
                );
                found.breach(agent, due.deadline, message);
            }
        };
        for entry in history.journal {
            live.follow(entry);
            if let Fact::AgentDismissed { agent } = &entry.fact {
                dismissed.insert(agent);
            }
            match &entry.fact {
                Fact::SessionConflict { agent, live: session }
                    if live.owner(session) == Some(agent) && !dismissed.contains(agent) =>
                {
                    out.arise(agent, entry.at);
                }
                Fact::SessionOpened { agent, .. } => {
                    agents.insert(agent);
                    out.settle(agent, entry.at).into_iter().for_each(|due| tell(found, agent, due));
                }
                Fact::MessageDelivered { agent, .. }
                | Fact::AgentStopped { agent }
                | Fact::AgentStopRequested { agent }
                | Fact::AgentDismissed { agent } => {
                    out.settle(agent, entry.at).into_iter().for_each(|due| tell(found, agent, due));
                }
                _ => {}
            }
        }
        out.missed(history.end).for_each(|(agent, due)| tell(found, agent, due));
        found.subjects(agents.len());
    }
}

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

/// Every agent in service regains its session.
///
/// An agent is in service from its first start until it is stopped or dismissed. It lacks a session from its process's
/// start or end, or from its session's end, until the server opens one for it or hears from the owner of one.
#[derive(Clone, Debug)]
pub struct SessionRegained {
    /// How long an agent may lack a session, from heal on: the life of the lost one and a restart. Default: 10 minutes.
    pub bound: Duration,
    /// Which agents are to have one. Default: those of a world in which sessions are spoken of.
    pub holders: Holders,
}

/// Which agents are to have a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holders {
    /// Every agent: their protocol knows sessions, and to hear of none is the failure.
    Every,
    /// Every agent, if any session was opened or refused at all. Where nobody speaks of sessions, nobody need have one.
    IfSpokenOf,
}

impl Default for SessionRegained {
    fn default() -> Self {
        Self { bound: Duration::from_secs(10 * 60), holders: Holders::IfSpokenOf }
    }
}

impl Rule for SessionRegained {
    const NAME: &'static str = "session-regained";
    const SUMMARY: &'static str = "Every agent in service has a session, or regains it in time.";
    const SUBJECT: &'static str = "agent";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let of_session = |fact: &Fact| matches!(fact, Fact::SessionOpened { .. } | Fact::SessionConflict { .. });
        if self.holders == Holders::IfSpokenOf && !history.journal.iter().any(|entry| of_session(&entry.fact)) {
            return;
        }
        let mut live = Live::default();
        let mut in_service: BTreeSet<&Agent> = BTreeSet::new();
        let mut dismissed: BTreeSet<&Agent> = BTreeSet::new();
        let mut agents: BTreeSet<&Agent> = BTreeSet::new();
        let mut without: Deadlines<&Agent> = Deadlines::after_heal(history, self.bound);
        let mut settle = |without: &mut Deadlines<&Agent>, agent: &Agent, entry: &Entry| {
            without.settle(agent, entry.at).into_iter().for_each(|due| tell_without(found, agent, due, self.bound));
        };
        for entry in history.journal {
            live.follow(entry);
            if let Fact::AgentDismissed { agent } = &entry.fact {
                dismissed.insert(agent);
            }
            match &entry.fact {
                Fact::AgentUp { agent } if !dismissed.contains(agent) => {
                    in_service.insert(agent);
                    agents.insert(agent);
                    without.arise(agent, entry.at);
                }
                Fact::AgentDown { agent, .. } if in_service.contains(agent) => without.arise(agent, entry.at),
                Fact::SessionClosed { agent, .. } if in_service.contains(agent) && !live.has_one(agent) => {
                    without.arise(agent, entry.at);
                }
                Fact::SessionOpened { agent, .. } => settle(&mut without, agent, entry),
                Fact::SessionRefreshed { session } => {
                    if let Some(agent) = live.owner(session) {
                        settle(&mut without, agent, entry);
                    }
                }
                Fact::AgentStopped { agent } | Fact::AgentStopRequested { agent } | Fact::AgentDismissed { agent } => {
                    in_service.remove(agent);
                    settle(&mut without, agent, entry);
                }
                _ => {}
            }
        }
        without.missed(history.end).for_each(|(agent, due)| tell_without(found, agent, due, self.bound));
        found.subjects(agents.len());
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
        let mut live = Live::default();
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

fn tell_without(found: &mut Findings, agent: &Agent, due: Due, bound: Duration) {
    if due.missed {
        let message = format_args!(
            "{agent} had no session since {} and had not regained one by {}, {} after that or after heal",
            due.since,
            due.deadline,
            Span(bound)
        );
        found.breach(agent, due.deadline, message);
    }
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::SessionEnd::{Deleted, Expired, Replaced};

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
    fn sessions_follow_one_another() {
        let facts = vec![
            (1, opened("s1", "a")),
            (1, opened("t1", "b")),
            (9, opened("s2", "a")),
            (9, closed("s1", "a", Replaced)),
            (20, closed("s2", "a", Deleted)),
            (21, opened("s3", "a")),
        ];
        holds(&OneLiveSession::default(), 2, facts);
    }

    #[test]
    fn two_live_sessions_are_a_breach() {
        let facts = vec![(1, opened("s1", "a")), (9, opened("s2", "a")), (15, closed("s1", "a", Expired))];
        let broken = (9, "a", "one-live-session/agent");
        breaks(&OneLiveSession::default(), broken, &["s1 and s2", "0:00:09", "0:00:15"], facts.clone());
        breaks(&OneLiveSession::default(), broken, &["2:46:40"], facts[..2].to_vec());
        holds(&OneLiveSession { grace: Duration::from_secs(6) }, 1, facts);
    }

    #[test]
    fn a_short_lock_out_is_fine() {
        let facts = vec![
            (1, opened("s1", "a")),
            (2_000, conflict("a", "s1")),
            (2_030, conflict("a", "s1")),
            (2_120, opened("s2", "a")),
            (3_000, opened("t1", "b")),
            (3_000, conflict("c", "t1")),
            (4_000, conflict("b", "t1")),
            (4_100, stopped_for_good("b")),
        ];
        holds(&NotLockedOut::default(), 2, facts);
    }

    #[test]
    fn a_long_lock_out_is_a_breach() {
        let broken = (2_120, "a", "not-locked-out-by-own-session/agent");
        let facts = vec![(1, opened("s1", "a")), (2_000, conflict("a", "s1"))];
        breaks(&NotLockedOut::default(), broken, &["0:33:20", "0:35:20", "0:16:40"], facts.clone());
        for end in [opened("s2", "a"), delivered("m", "a"), stopped_for_good("a"), stop_requested("a")] {
            breaks(&NotLockedOut::default(), broken, &[], [facts.clone(), vec![(2_121, end)]].concat());
        }
        let during_faults = vec![(1, opened("s1", "a")), (200, conflict("a", "s1"))];
        breaks(&NotLockedOut::default(), (1_120, broken.1, broken.2), &["0:03:20"], during_faults);
    }

    #[test]
    fn agents_regain_their_sessions_or_leave() {
        let facts = vec![
            (1, up("a")),
            (5, opened("s1", "a")),
            (3_000, closed("s1", "a", Expired)),
            (3_600, opened("s2", "a")),
            (4_000, down("a")),
            (4_300, up("a")),
            (4_600, refreshed("s2")),
            (4_700, opened("s3", "a")),
            (4_700, closed("s2", "a", Replaced)),
            (5_000, closed("s3", "a", Deleted)),
            (5_000, exited("a", 0)),
            (5_001, stopped_for_good("a")),
        ];
        holds(&SessionRegained::default(), 1, facts);
        let leaving = vec![
            (1, up("a")),
            (5, opened("s1", "a")),
            (3_000, stop_requested("a")),
            (3_001, closed("s1", "a", Deleted)),
            (3_002, exited("a", 0)),
        ];
        holds(&SessionRegained::default(), 1, leaving);
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

    #[test]
    fn an_agent_without_a_session_is_a_breach() {
        let facts = vec![(1, up("a")), (5, opened("s1", "a"))];
        let losses = [closed("s1", "a", Expired), down("a"), up("a")];
        for loss in losses {
            let facts = [facts.clone(), vec![(3_000, loss), (3_100, down("a")), (3_200, up("a"))]].concat();
            let broken = (3_600, "a", "session-regained/agent");
            breaks(&SessionRegained::default(), broken, &["0:50:00", "10 min"], facts.clone());
            for late in [opened("s2", "a"), dismissed("a")] {
                breaks(&SessionRegained::default(), broken, &[], [facts.clone(), vec![(3_601, late)]].concat());
            }
            holds(
                &SessionRegained::default(),
                1,
                [vec![facts[0].clone(), facts[1].clone(), (6, dismissed("a"))], facts[2..].to_vec()].concat(),
            );
        }
        let every = SessionRegained { holders: Holders::Every, ..SessionRegained::default() };
        breaks(&every, (1_600, "a", "session-regained/agent"), &["0:00:01"], vec![(1, up("a"))]);
        holds(&SessionRegained::default(), 0, vec![(1, up("a"))]);
    }
}
