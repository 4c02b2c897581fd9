//! Sessions: one at a time, and never for long without one.

use std::collections::BTreeSet;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Session};

use crate::journal::Entry;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::live_sessions::LiveSessions;
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
        let mut live = LiveSessions::default();
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
        let mut live = LiveSessions::default();
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
