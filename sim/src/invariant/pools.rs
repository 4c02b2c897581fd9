//! Pools of agents that are created and removed as there is work: never too many, and not too few for long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, Pool, WorkerId};

use crate::time::SimTime;

use super::deadlines::Due;
use super::findings::Span;
use super::running::{Change, Running};
use super::{Findings, History, Rule};

/// No pool ever has more agents than somebody asked for when they were created, nor more than it has room for.
#[derive(Clone, Debug)]
pub struct PoolWithinCapacity {
    /// How many agents a pool has room for. Default: 10.
    pub agents: usize,
}

impl Default for PoolWithinCapacity {
    fn default() -> Self {
        Self { agents: 10 }
    }
}

impl Rule for PoolWithinCapacity {
    const NAME: &'static str = "pool-within-capacity";
    const SUMMARY: &'static str = "No agent is created in a pool that has as many as it is to have, or has room for.";
    const SUBJECT: &'static str = "pool";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut pools: BTreeMap<&Pool, State<'_>> = BTreeMap::new();
        for entry in history.journal {
            let Some((pool, state)) = State::follow(&mut pools, &entry.fact) else { continue };
            let present = state.agents.len();
            let most = state.target.min(self.agents);
            if matches!(entry.fact, Fact::PoolJoined { .. }) && present > most {
                let message = format_args!("{pool} has {present} agents at {}; {most} are the most", entry.at);
                found.breach(pool, entry.at, message);
            }
        }
        found.subjects(pools.len());
    }
}

/// A pool has as many agents as somebody asked for.
#[derive(Clone, Debug)]
pub struct PoolReachesTarget {
    /// How long it may have fewer. Default: 2 minutes.
    pub bound: Duration,
    /// How long after heal trouble may still be an excuse. Default: 10 minutes.
    pub settling: Duration,
}

impl Default for PoolReachesTarget {
    fn default() -> Self {
        Self { bound: Duration::from_secs(2 * 60), settling: Duration::from_secs(10 * 60) }
    }
}

impl Rule for PoolReachesTarget {
    const NAME: &'static str = "pool-reaches-target";
    const SUMMARY: &'static str = "A pool has as many agents as somebody asked for, or gets them in time.";
    const SUBJECT: &'static str = "pool";

    fn within(&self) -> Option<Duration> {
        Some(self.bound + self.settling)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let settled = history.heal_at + self.settling;
        let mut pools: BTreeMap<&Pool, State<'_>> = BTreeMap::new();
        let mut short: BTreeMap<&Pool, SimTime> = BTreeMap::new();
        let due = |since: SimTime, at: SimTime| {
            let deadline = since.max(settled) + self.bound;
            Due { since, deadline, missed: at > deadline }
        };
        let tell = |found: &mut Findings, pool: &Pool, due: Due| {
            if due.missed {
                let message = format_args!(
                    "{pool} had fewer agents than it was to have from {} to {} at least ({})",
                    due.since,
                    due.deadline,
                    Span(self.bound)
                );
                found.breach(pool, due.deadline, message);
            }
        };
        for entry in history.journal {
            let Some((pool, state)) = State::follow(&mut pools, &entry.fact) else { continue };
            // A target that was just set is one to be reached from now on.
            let changed = matches!(entry.fact, Fact::PoolTarget { .. });
            if (changed || state.agents.len() >= state.target)
                && let Some(since) = short.remove(pool)
            {
                tell(found, pool, due(since, entry.at));
            }
            if state.agents.len() < state.target {
                short.entry(pool).or_insert(entry.at);
            }
        }
        for (pool, since) in short {
            tell(found, pool, due(since, history.end));
        }
        found.subjects(pools.len());
    }
}

/// No agent is taken out of its pool while it executes a job.
#[derive(Clone, Debug, Default)]
pub struct WorkingAgentStays;

impl Rule for WorkingAgentStays {
    const NAME: &'static str = "working-agent-stays";
    const SUMMARY: &'static str = "No agent is taken out of its pool while it executes a job.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut workers: BTreeMap<&Agent, BTreeMap<&WorkerId, &Job>> = BTreeMap::new();
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => {
                    workers.entry(run.agent).or_default().insert(run.worker, run.job);
                }
                Some(Change::Stopped(run, _)) => {
                    workers.entry(run.agent).or_default().remove(run.worker);
                }
                None => {}
            }
            let Fact::PoolLeft { pool, agent } = &entry.fact else { continue };
            found.subject();
            if let Some((worker, job)) = workers.get(agent).and_then(|workers| workers.first_key_value()) {
                let message =
                    format_args!("{agent} was taken out of {pool} at {} while {worker} executed {job}", entry.at);
                found.breach(agent, entry.at, message);
            }
        }
    }
}

#[derive(Default)]
struct State<'a> {
    target: usize,
    agents: BTreeSet<&'a Agent>,
}

impl<'a> State<'a> {
    /// The pool that a fact is about, and its state after it.
    fn follow<'p>(pools: &'p mut BTreeMap<&'a Pool, Self>, fact: &'a Fact) -> Option<(&'a Pool, &'p mut Self)> {
        match fact {
            Fact::PoolTarget { pool, size } => {
                let state = pools.entry(pool).or_default();
                state.target = *size as usize;
                Some((pool, state))
            }
            Fact::PoolJoined { pool, agent } => {
                let state = pools.entry(pool).or_default();
                state.agents.insert(agent);
                Some((pool, state))
            }
            Fact::PoolLeft { pool, agent } => {
                let state = pools.entry(pool).or_default();
                state.agents.remove(agent);
                Some((pool, state))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn target(size: u32) -> Fact {
        Fact::PoolTarget { pool: "p".into(), size }
    }

    fn joined(agent: &str) -> Fact {
        Fact::PoolJoined { pool: "p".into(), agent: agent.into() }
    }

    fn left(agent: &str) -> Fact {
        Fact::PoolLeft { pool: "p".into(), agent: agent.into() }
    }

    #[test]
    fn a_pool_follows_its_target() {
        let facts = vec![
            (1, target(2)),
            (2, joined("a")),
            (2, joined("b")),
            (9, target(1)),
            (2_000, left("a")),
            (2_000, left("b")),
            (2_100, joined("c")),
        ];
        holds(&PoolWithinCapacity { agents: 2 }, 1, facts.clone());
        holds(&PoolReachesTarget::default(), 1, facts);
    }

    #[test]
    fn one_agent_too_many_is_a_breach() {
        let broken = (3, "p", "pool-within-capacity/pool");
        let facts = vec![(1, target(2)), (2, joined("a")), (3, joined("b"))];
        breaks(&PoolWithinCapacity { agents: 1 }, broken, &["2 agents", "1 are the most"], facts.clone());
        holds(&PoolWithinCapacity::default(), 1, facts);
        let facts = vec![(1, target(1)), (2, joined("a")), (3, joined("b"))];
        breaks(&PoolWithinCapacity::default(), broken, &[], facts);
    }

    #[test]
    fn an_agent_leaves_when_its_job_has_ended() {
        let facts = vec![(1, joined("a")), (2, started("j", 1, "a", "w1")), (3, left("b"))];
        let ended = vec![(8, stopped("j", 1, "w1")), (9, left("a"))];
        holds(&WorkingAgentStays, 2, [facts.clone(), ended].concat());
        let broken = (9, "a", "working-agent-stays/agent");
        let cut_off = vec![(9, left("a")), (9, stopped("j", 1, "w1"))];
        breaks(&WorkingAgentStays, broken, &["out of p", "w1 executed j"], [facts, cut_off].concat());
    }

    #[test]
    fn one_agent_too_few_for_long_is_a_breach() {
        let broken = (2_120, "p", "pool-reaches-target/pool");
        let facts = vec![(1, target(1)), (2, joined("a")), (2_000, left("a"))];
        breaks(&PoolReachesTarget::default(), broken, &["0:33:20", "2 min"], facts.clone());
        for late in [joined("b"), target(0)] {
            breaks(&PoolReachesTarget::default(), broken, &[], [facts.clone(), vec![(2_121, late)]].concat());
        }
        breaks(&PoolReachesTarget::default(), (1_720, "p", broken.2), &[], vec![(1, target(1))]);
    }
}
