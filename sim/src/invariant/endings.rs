//! When an agent may end, and for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, Session};

use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::wanted::WantedEnds;
use super::{Findings, History, Rule};

/// No agent is stopped for good unless somebody who may do so dismissed it.
#[derive(Clone, Debug, Default)]
pub struct NoAgentStoppedForGood {
    /// How long somebody may take, from heal on, to start it again by other means. Default: zero.
    pub bound: Duration,
    /// The exit codes after which an agent has rightly ended for good. Default: none.
    pub rightful_exits: BTreeSet<i32>,
}

impl Rule for NoAgentStoppedForGood {
    const NAME: &'static str = "no-agent-stopped-for-good";
    const SUMMARY: &'static str = "No supervisor gives an agent up unless somebody who may do so dismissed it.";
    const SUBJECT: &'static str = "agent";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut exits: BTreeMap<&Agent, Option<i32>> = BTreeMap::new();
        let mut agents: BTreeSet<&Agent> = BTreeSet::new();
        let mut dismissed: BTreeSet<&Agent> = BTreeSet::new();
        let mut stopped: Deadlines<&Agent> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, agent: &Agent, exit: Option<&Option<i32>>, due: Due| {
            if due.missed {
                let how =
                    exit.copied().flatten().map_or("it was killed".to_owned(), |code| format!("exit code {code}"));
                let message = format_args!(
                    "the supervisor of {agent} gave it up at {} ({how}) although nobody had dismissed it, and it was \
                     not up again by {}",
                    due.since, due.deadline
                );
                found.breach(agent, due.deadline, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::AgentUp { agent } => {
                    agents.insert(agent);
                    let due = stopped.settle(agent, entry.at);
                    due.into_iter().for_each(|due| tell(found, agent, exits.get(agent), due));
                }
                Fact::AgentDown { agent, code } => drop(exits.insert(agent, *code)),
                Fact::AgentDismissed { agent } => drop(dismissed.insert(agent)),
                Fact::AgentStopped { agent } => {
                    let code = exits.get(agent).copied().flatten();
                    let rightful = code.is_some_and(|code| self.rightful_exits.contains(&code));
                    if !rightful && !dismissed.contains(agent) {
                        stopped.arise(agent, entry.at);
                    }
                }
                _ => {}
            }
        }
        stopped.missed(history.end).for_each(|(agent, due)| tell(found, agent, exits.get(agent), due));
        found.subjects(agents.len());
    }
}

/// An agent that hears its server goes on.
///
/// It hears it as long as answers to its polls arrive. One that is killed, asked to stop or to update itself, or dismissed
/// is excused.
#[derive(Clone, Debug)]
pub struct ConnectedAgentGoesOn {
    /// An agent may end by itself when the last answer is so long ago: something is wrong, and a fresh start may help.
    /// Default: 3 minutes.
    pub deaf_after: Duration,
}

impl Default for ConnectedAgentGoesOn {
    fn default() -> Self {
        Self { deaf_after: Duration::from_secs(3 * 60) }
    }
}

impl Rule for ConnectedAgentGoesOn {
    const NAME: &'static str = "connected-agent-goes-on";
    const SUMMARY: &'static str = "No agent ends by itself while it hears its server.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut owners: BTreeMap<&Session, &Agent> = BTreeMap::new();
        let mut answered: BTreeMap<&Agent, SimTime> = BTreeMap::new();
        let mut heard: BTreeSet<&Agent> = BTreeSet::new();
        let mut wanted_ends = WantedEnds::default();
        for entry in history.journal {
            match &entry.fact {
                Fact::SessionOpened { session, agent } => drop(owners.insert(session, agent)),
                Fact::SessionAnswered { session } => {
                    if let Some(agent) = owners.get(session) {
                        heard.insert(agent);
                        answered.insert(agent, entry.at);
                    }
                }
                Fact::AgentUp { agent } => drop(answered.remove(agent)),
                Fact::AgentDown { agent, code: Some(code) } if !wanted_ends.of(agent) => {
                    if let Some(last) = answered.get(agent).filter(|last| entry.at.since(**last) < self.deaf_after) {
                        let message = format_args!(
                            "{agent} ended by itself at {} (exit code {code}), {} after an answer from its server had \
                             arrived",
                            entry.at,
                            Span(entry.at.since(*last))
                        );
                        found.breach(agent, entry.at, message);
                    }
                }
                _ => {}
            }
            wanted_ends.follow(&entry.fact);
        }
        found.subjects(heard.len());
    }
}

/// An agent that was dismissed ends, once it has no lease, and for good.
///
/// Nobody gives it work again: a process of it that goes on looks healthy and takes the place of one that works. One that
/// ends and is started again has no more time than if it had gone on; one that was killed has to hear of it anew.
#[derive(Clone, Debug)]
pub struct DismissedAgentEnds {
    /// How long it may take, from heal on. Default: 10 minutes.
    pub bound: Duration,
}

impl Default for DismissedAgentEnds {
    fn default() -> Self {
        Self { bound: Duration::from_secs(10 * 60) }
    }
}

impl Rule for DismissedAgentEnds {
    const NAME: &'static str = "dismissed-agent-ends";
    const SUMMARY: &'static str = "An agent that will get no more work ends, once it has done what it has.";
    const SUBJECT: &'static str = "agent";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut up: BTreeSet<&Agent> = BTreeSet::new();
        let mut dismissed: BTreeSet<&Agent> = BTreeSet::new();
        let mut leases: BTreeMap<(&Job, u32), &Agent> = BTreeMap::new();
        let mut useless_since: BTreeMap<&Agent, SimTime> = BTreeMap::new();
        let mut useless: Deadlines<&Agent> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, agent: &Agent, due: Due| {
            if due.missed {
                let message = format_args!(
                    "{agent} gets no more work and has had none since {}, and was still up at {} (heal was at {})",
                    due.since, due.deadline, history.heal_at
                );
                found.breach(agent, due.deadline, message);
            }
        };
        for entry in history.journal {
            let agent = match &entry.fact {
                Fact::AgentUp { agent } => {
                    up.insert(agent);
                    agent
                }
                Fact::AgentDown { agent, code } => {
                    up.remove(agent);
                    if code.is_none() {
                        useless_since.remove(agent);
                    }
                    agent
                }
                Fact::AgentDismissed { agent } => {
                    dismissed.insert(agent);
                    agent
                }
                Fact::LeaseGranted { job, attempt, agent, .. } => {
                    leases.insert((job, *attempt), agent);
                    agent
                }
                Fact::LeaseExpired { job, attempt } | Fact::LeaseReleased { job, attempt } => {
                    let Some(agent) = leases.remove(&(job, *attempt)) else { continue };
                    agent
                }
                _ => continue,
            };
            let works = leases.values().any(|holder| *holder == agent);
            if works {
                useless_since.remove(agent);
            }
            if dismissed.contains(agent) && up.contains(agent) && !works {
                useless.arise(agent, *useless_since.entry(agent).or_insert(entry.at));
            } else {
                useless.settle(agent, entry.at).into_iter().for_each(|due| tell(found, agent, due));
            }
        }
        useless.missed(history.end).for_each(|(agent, due)| tell(found, agent, due));
        found.subjects(dismissed.len());
    }
}

/// An agent gets over trouble: it ends when it is asked to, when it is killed, or because its own credentials are refused,
/// which only somebody else can replace. Ending otherwise costs whatever it holds, its session first of all.
#[derive(Clone, Debug)]
pub struct AgentOutlivesTrouble {
    /// How long after its credentials were refused an agent may end. Default: 2 minutes.
    pub resigns_within: Duration,
}

impl Default for AgentOutlivesTrouble {
    fn default() -> Self {
        Self { resigns_within: Duration::from_secs(2 * 60) }
    }
}

impl Rule for AgentOutlivesTrouble {
    const NAME: &'static str = "agent-outlives-trouble";
    const SUMMARY: &'static str =
        "An agent ends only when it is asked to, when it is killed, or because its own credentials are refused.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut wanted_ends = WantedEnds::default();
        let mut refused: BTreeMap<&Agent, SimTime> = BTreeMap::new();
        let mut agents: BTreeSet<&Agent> = BTreeSet::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::AgentUp { agent } => drop(agents.insert(agent)),
                Fact::CredentialsRefused { agent } => drop(refused.insert(agent, entry.at)),
                Fact::AgentDown { agent, code: Some(code) } if !wanted_ends.of(agent) => {
                    let resigned = refused.get(agent).is_some_and(|at| entry.at.since(*at) <= self.resigns_within);
                    if !resigned {
                        let message = format_args!(
                            "{agent} ended with exit code {code} at {} although nobody had asked it to and its \
                             credentials were good",
                            entry.at
                        );
                        found.breach(agent, entry.at, message);
                    }
                }
                _ => {}
            }
            wanted_ends.follow(&entry.fact);
        }
        found.subjects(agents.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn an_agent_may_stop_for_good_with_a_reason() {
        let facts = |code, reason: Vec<(u64, Fact)>| {
            [vec![(1, up("a"))], reason, vec![(50, exited("a", code)), (50, stopped_for_good("a"))]].concat()
        };
        holds(&NoAgentStoppedForGood::default(), 1, facts(0, vec![(40, dismissed("a"))]));
        let done = NoAgentStoppedForGood { rightful_exits: [0].into(), ..Default::default() };
        holds(&done, 1, facts(0, vec![]));
        holds(&NoAgentStoppedForGood::default(), 1, [facts(5, vec![]), vec![(600, up("a"))]].concat());
    }

    #[test]
    fn an_agent_that_is_given_up_is_a_breach() {
        let facts = vec![(1, up("a")), (2_000, exited("a", 5)), (2_000, stopped_for_good("a"))];
        let broken = (2_000, "a", "no-agent-stopped-for-good/agent");
        breaks(&NoAgentStoppedForGood::default(), broken, &["exit code 5", "0:33:20"], facts.clone());
        breaks(&NoAgentStoppedForGood::default(), broken, &[], [facts, vec![(2_100, up("a"))]].concat());
        let early = vec![(1, up("a")), (50, down("a")), (50, stopped_for_good("a"))];
        breaks(&NoAgentStoppedForGood::default(), (1_000, "a", broken.2), &["killed", "0:00:50"], early);
    }

    #[test]
    fn an_agent_may_end_when_it_is_told_to_or_hears_nothing() {
        let answered = |at, last: Vec<(u64, Fact)>| {
            let begin = vec![(1, up("a")), (2, opened("s", "a")), (at, answered("s"))];
            [begin, last].concat()
        };
        for last in [
            vec![(70, stop_requested("a")), (71, exited("a", 0))],
            vec![(70, dismissed("a")), (71, exited("a", 0))],
            vec![(71, down("a"))],
            vec![(71, down("a")), (76, up("a")), (77, exited("a", 1))],
            vec![(232, exited("a", 2))],
        ] {
            holds(&ConnectedAgentGoesOn::default(), 1, answered(52, last));
        }
    }

    #[test]
    fn an_agent_that_ends_although_it_hears_its_server_is_a_breach() {
        let facts = vec![(1, up("a")), (2, opened("s", "a")), (52, answered("s")), (231, exited("a", 2))];
        let broken = (231, "a", "connected-agent-goes-on/agent");
        breaks(&ConnectedAgentGoesOn::default(), broken, &["exit code 2", "2 min 59 s"], facts);
    }

    #[test]
    fn a_dismissed_agent_may_do_what_it_has_and_ends() {
        let facts = vec![
            (1, up("a")),
            (2_000, granted("j", 1, "a")),
            (2_000, dismissed("a")),
            (5_000, lease_released("j", 1)),
            (5_300, exited("a", 2)),
            (5_305, up("a")),
            (5_400, down("a")),
            (5_405, up("a")),
            (5_999, exited("a", 0)),
            (6_000, dismissed("b")),
        ];
        holds(&DismissedAgentEnds::default(), 2, facts);
    }

    #[test]
    fn a_dismissed_agent_that_goes_on_is_a_breach() {
        let broken = (5_600, "a", "dismissed-agent-ends/agent");
        let working = vec![(1, up("a")), (2_000, granted("j", 1, "a")), (2_000, dismissed("a"))];
        for end in [lease_released("j", 1), lease_expired("j", 1)] {
            let facts = [working.clone(), vec![(5_000, end)]].concat();
            breaks(&DismissedAgentEnds::default(), broken, &["1:23:20", "1:33:20"], facts.clone());
            breaks(&DismissedAgentEnds::default(), broken, &[], [facts, vec![(5_601, exited("a", 0))]].concat());
        }
        let again_and_again = [(5_000, lease_released("j", 1)), (5_400, exited("a", 2)), (5_405, up("a"))];
        breaks(&DismissedAgentEnds::default(), broken, &[], [working, again_and_again.to_vec()].concat());
        let idle = vec![(1, up("a")), (500, dismissed("a"))];
        breaks(&DismissedAgentEnds::default(), (1_600, broken.1, broken.2), &["0:08:20"], idle);
    }

    #[test]
    fn agents_may_end_with_a_reason() {
        let refused = Fact::CredentialsRefused { agent: "c".into() };
        let facts = vec![
            (1, up("a")),
            (10, down("a")),
            (20, up("a")),
            (30, stop_requested("a")),
            (31, exited("a", 1)),
            (40, up("c")),
            (50, refused),
            (51, exited("c", 1)),
        ];
        holds(&AgentOutlivesTrouble::default(), 2, facts);
    }

    #[test]
    fn an_agent_that_gives_up_is_a_breach() {
        let facts = vec![
            (1, up("a")),
            (5, Fact::CredentialsRefused { agent: "a".into() }),
            (30, stop_requested("a")),
            (31, exited("a", 1)),
            (40, up("a")),
            (200, exited("a", 1)),
        ];
        breaks(&AgentOutlivesTrouble::default(), (200, "a", "agent-outlives-trouble/agent"), &["exit code 1"], facts);
    }
}
