//! Agents: what the server shows of them is true, and they stay in service.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Session};

use crate::time::SimTime;
use crate::trace::NodeId;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::running::{Change, Counts, Running};
use super::suspensions::Suspensions;
use super::wanted::WantedEnds;
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

/// No agent is started over and over.
#[derive(Clone, Debug)]
pub struct RestartsBounded {
    /// How many starts are too few to mind. Default: 5.
    pub starts: usize,
    /// The time in which they are counted. Default: 10 minutes.
    pub window: Duration,
    /// Which starts are counted. Default: [`Counted::AfterHeal`].
    pub counted: Counted,
}

/// Which starts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Those after heal: faults may need any number.
    AfterHeal,
    /// All: whoever starts an agent over and over makes trouble worse.
    DespiteFaults,
}

impl Default for RestartsBounded {
    fn default() -> Self {
        Self { starts: 5, window: Duration::from_secs(10 * 60), counted: Counted::AfterHeal }
    }
}

impl Rule for RestartsBounded {
    const NAME: &'static str = "restarts-bounded";
    const SUMMARY: &'static str = "No agent is started more than so many times within so long.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut starts: BTreeMap<&Agent, VecDeque<SimTime>> = BTreeMap::new();
        for entry in history.journal {
            let Fact::AgentUp { agent } = &entry.fact else { continue };
            let recent = starts.entry(agent).or_default();
            if self.counted == Counted::AfterHeal && entry.at < history.heal_at {
                continue;
            }
            while recent.front().is_some_and(|first| entry.at.since(*first) > self.window) {
                recent.pop_front();
            }
            recent.push_back(entry.at);
            if recent.len() > self.starts {
                let message = format_args!(
                    "{agent} was started {} times from {} to {}; {} within {} are the most",
                    recent.len(),
                    recent[0],
                    entry.at,
                    self.starts,
                    Span(self.window)
                );
                found.breach(agent, entry.at, message);
            }
        }
        found.subjects(starts.len());
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
        let mut asked: BTreeSet<&Agent> = BTreeSet::new();
        let mut refused: BTreeMap<&Agent, SimTime> = BTreeMap::new();
        let mut agents: BTreeSet<&Agent> = BTreeSet::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::AgentUp { agent } => drop((agents.insert(agent), asked.remove(agent))),
                Fact::AgentStopRequested { agent } | Fact::AgentDismissed { agent } => drop(asked.insert(agent)),
                Fact::CredentialsRefused { agent } => drop(refused.insert(agent, entry.at)),
                Fact::AgentDown { agent, code: Some(code) } if !asked.contains(agent) => {
                    if refused.get(agent).is_some_and(|at| entry.at.since(*at) <= self.resigns_within) {
                        continue;
                    }
                    let message = format_args!(
                        "{agent} ended with exit code {code} at {} although nobody had asked it to and its credentials \
                         were good",
                        entry.at
                    );
                    found.breach(agent, entry.at, message);
                }
                _ => {}
            }
        }
        found.subjects(agents.len());
    }
}

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
    fn a_few_restarts_are_fine() {
        let early = (1..9).map(|s| (s * 10, up("a")));
        let late = (0..5).map(|n| (2_000 + n, up("a"))).chain((0..5).map(|n| (2_700 + n, up("a"))));
        holds(&RestartsBounded::default(), 1, early.chain(late).collect());
    }

    #[test]
    fn a_storm_of_restarts_is_a_breach() {
        let facts = (0..9).map(|n| (2_000 + 60 * n, up("a"))).collect();
        let broken = (2_300, "a", "restarts-bounded/agent");
        breaks(&RestartsBounded::default(), broken, &["6 times", "0:33:20", "0:38:20", "10 min"], facts);
    }

    #[test]
    fn a_storm_despite_faults_is_a_breach_if_it_counts() {
        let facts: Vec<_> = (0..9).map(|n| (100 + 60 * n, up("a"))).collect();
        holds(&RestartsBounded::default(), 1, facts.clone());
        let all = RestartsBounded { counted: Counted::DespiteFaults, ..RestartsBounded::default() };
        breaks(&all, (400, "a", "restarts-bounded/agent"), &["6 times", "0:01:40"], facts);
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
