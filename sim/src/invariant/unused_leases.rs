//! Leases whose jobs nobody executes: not renewed, and not left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job};

use crate::time::SimTime;
use crate::trace::NodeId;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::running::{Change, Counts, Running};
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// A lease is renewed only while a worker executes its job.
///
/// An agent knows of a lease once the answer that grants it has arrived; where nothing tells of arrivals, from its grant
/// on. Its next process learns of it anew, and so does an agent that has let go of it, when the job arrives there again. A
/// suspended machine renews nothing.
#[derive(Clone, Debug)]
pub struct NoLeakedRenewal {
    /// How long a lease may be renewed after its worker has stopped: the report of its end. Default: 2 minutes.
    pub bound: Duration,
    /// How long a lease may be renewed before its worker starts, from when the agent knows of it. Default: 2 minutes.
    pub start_up: Duration,
    /// An agent that has not extended a lease for longer than this has let go of it. Default: 1 minute.
    pub let_go: Duration,
}

impl Default for NoLeakedRenewal {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self { bound: minutes(2), start_up: minutes(2), let_go: minutes(1) }
    }
}

/// A lease without a worker.
struct Unused<'a> {
    agent: &'a Agent,
    since: SimTime,
    why: WhyUnused,
    /// The last extension for the agent's present process, if there was one.
    extended: Option<SimTime>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WhyUnused {
    /// Its agent may not know of it.
    Granted,
    StartingUp,
    Stopped,
}

impl Rule for NoLeakedRenewal {
    const NAME: &'static str = "no-leaked-renewal";
    const SUMMARY: &'static str = "A lease is renewed only while a worker executes its job.";
    const SUBJECT: &'static str = "lease";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut workers: Counts<(&Job, u32)> = Counts::default();
        let mut unused: BTreeMap<(&Job, u32), Unused<'_>> = BTreeMap::new();
        let mut machines: BTreeMap<&Agent, NodeId> = BTreeMap::new();
        let mut renewed: BTreeSet<(&Job, u32)> = BTreeSet::new();
        let suspensions = Suspensions::of(history);
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => drop(workers.add((run.job, run.attempt))),
                Some(Change::Stopped(run, _)) => {
                    let last = workers.remove(&(run.job, run.attempt));
                    if last {
                        let (agent, since, why) = (run.agent, entry.at, WhyUnused::Stopped);
                        let stopped = Unused { agent, since, why, extended: None };
                        unused.insert((run.job, run.attempt), stopped);
                    }
                }
                None => {}
            }
            match &entry.fact {
                Fact::AgentUp { agent } => {
                    machines.insert(agent, entry.node);
                    for lease in unused.values_mut().filter(|l| l.agent == agent && l.why != WhyUnused::Stopped) {
                        (lease.since, lease.extended) = (entry.at, None);
                    }
                }
                Fact::LeaseGranted { job, attempt, agent, .. } => {
                    let (since, why, extended) = (entry.at, WhyUnused::Granted, Some(entry.at));
                    unused.insert((job, *attempt), Unused { agent, since, why, extended });
                }
                Fact::LeaseAnswered { job, attempt, .. } => {
                    if let Some(lease) = unused.get_mut(&(job, *attempt)).filter(|l| l.why == WhyUnused::Granted) {
                        (lease.since, lease.why) = (entry.at, WhyUnused::StartingUp);
                    }
                }
                Fact::JobArrived { job, attempt, .. } => {
                    if let Some(lease) = unused.get_mut(&(job, *attempt)).filter(|l| l.why != WhyUnused::Stopped)
                        && lease.extended.is_none_or(|extended| entry.at.since(extended) > self.let_go)
                    {
                        lease.since = entry.at;
                    }
                }
                Fact::LeaseRenewed { job, attempt, .. } => {
                    let lease = (job, *attempt);
                    renewed.insert(lease);
                    let Some(Unused { agent, since, why, extended }) =
                        unused.get_mut(&lease).filter(|_| !workers.any(&lease))
                    else {
                        continue;
                    };
                    *extended = Some(entry.at);
                    let nodes: Vec<NodeId> = machines.get(agent).copied().into_iter().collect();
                    let bound = if *why == WhyUnused::Stopped { self.bound } else { self.start_up };
                    if suspensions.awake(&nodes, *since, entry.at) > bound {
                        let message = format_args!(
                            "the lease on attempt {attempt} of {job} was extended at {}, and no worker had executed \
                             it since {since} ({})",
                            entry.at,
                            Span(entry.at.since(*since))
                        );
                        found.breach(name(lease), entry.at, message);
                    }
                }
                _ => {}
            }
        }
        found.subjects(renewed.len());
    }
}

/// A job that is leased to an agent which does not execute it does not wait for the lease's end.
#[derive(Clone, Debug)]
pub struct LeasedJobRuns {
    /// How long a lease may be without a worker, from heal on, before it is released: start-up, upload and report.
    /// Default: 5 minutes.
    pub bound: Duration,
}

impl Default for LeasedJobRuns {
    fn default() -> Self {
        Self { bound: Duration::from_secs(5 * 60) }
    }
}

impl Rule for LeasedJobRuns {
    const NAME: &'static str = "leased-job-runs";
    const SUMMARY: &'static str =
        "A job leased to a live agent is executed, reported or handed back before the lease runs out.";
    const SUBJECT: &'static str = "lease";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut workers: Counts<(&Job, u32)> = Counts::default();
        // The leases whose agents remember them.
        let mut leases: BTreeMap<(&Job, u32), &Agent> = BTreeMap::new();
        let mut unused: Deadlines<(&Job, u32)> = Deadlines::after_heal(history, self.bound);
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => {
                    workers.add((run.job, run.attempt));
                    settle_unused(&mut unused, (run.job, run.attempt), entry.at, found);
                }
                Some(Change::Stopped(run, _)) => {
                    let lease = (run.job, run.attempt);
                    if workers.remove(&lease) && leases.contains_key(&lease) {
                        unused.arise(lease, entry.at);
                    }
                }
                None => {}
            }
            match &entry.fact {
                Fact::LeaseGranted { job, attempt, agent, .. } => {
                    leases.insert((job, *attempt), agent);
                    if !workers.any(&(job, *attempt)) {
                        unused.arise((job, *attempt), entry.at);
                    }
                }
                Fact::LeaseExpired { job, attempt }
                | Fact::LeaseReleased { job, attempt }
                | Fact::JobReported { job, attempt, accepted: true, .. }
                | Fact::JobGivenUp { job, attempt }
                | Fact::JobRequeued { job, attempt } => {
                    leases.remove(&(job, *attempt));
                    settle_unused(&mut unused, (job, *attempt), entry.at, found);
                }
                // Its next process may never hear of the lease, or has to wait lest a worker has outlived this one: running
                // out is all that can be asked of it.
                Fact::AgentDown { agent, .. } => {
                    for lease in unused.open(|lease| leases.get(lease) == Some(&agent)) {
                        settle_unused(&mut unused, lease, entry.at, found);
                    }
                    leases.retain(|_, owner| *owner != agent);
                }
                _ => {}
            }
        }
        unused.missed(history.end).for_each(|(lease, due)| tell_unused(found, lease, due));
    }
}

fn settle_unused<'a>(unused: &mut Deadlines<(&'a Job, u32)>, lease: (&'a Job, u32), at: SimTime, found: &mut Findings) {
    unused.settle(&lease, at).into_iter().for_each(|due| tell_unused(found, lease, due));
}

fn tell_unused(found: &mut Findings, lease: (&Job, u32), due: Due) {
    found.subject();
    if due.missed {
        let (job, attempt) = lease;
        let message = format_args!(
            "attempt {attempt} of {job} was leased and without a worker since {}, and had been neither executed, \
             reported nor handed back by {}",
            due.since, due.deadline
        );
        found.breach(name(lease), due.deadline, message);
    }
}

fn name((job, attempt): (&Job, u32)) -> String {
    format!("{job}#{attempt}")
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::Outcome::Succeeded;

    use super::super::testing::*;
    use super::*;

    fn begun() -> Vec<(u64, Fact)> {
        vec![(1, granted("j", 1, "a")), (2, started("j", 1, "a", "w1"))]
    }

    #[test]
    fn a_lease_may_be_renewed_while_its_worker_lives() {
        let facts =
            vec![(60, renewed("j", 1)), (600, renewed("j", 1)), (601, stopped("j", 1, "w1")), (720, renewed("j", 1))];
        holds(&NoLeakedRenewal::default(), 1, [begun(), facts].concat());
    }

    #[test]
    fn a_lease_that_outlives_its_worker_is_a_breach() {
        let broken = (722, "j#1", "no-leaked-renewal/lease");
        let outlived = vec![(601, stopped("j", 1, "w1")), (661, renewed("j", 1)), (722, renewed("j", 1))];
        breaks(&NoLeakedRenewal::default(), broken, &["0:10:01", "2 min 1 s"], [begun(), outlived].concat());
        let unstarted = vec![(601, granted("j", 1, "a")), (661, renewed("j", 1)), (722, renewed("j", 1))];
        breaks(&NoLeakedRenewal::default(), broken, &["0:12:02"], unstarted.clone());
        let late = NoLeakedRenewal { bound: Duration::MAX, ..NoLeakedRenewal::default() };
        breaks(&late, broken, &["0:12:02"], unstarted);
    }

    #[test]
    fn start_up_begins_when_the_agent_knows_of_its_lease() {
        let facts = |answered| {
            let answers = vec![(answered, lease_answered("j", 1, 0)), (650, lease_answered("j", 1, 0))];
            let mut facts = [vec![(601, granted("j", 1, "a")), (722, renewed("j", 1))], answers].concat();
            facts.sort_by_key(|(at, _)| *at);
            facts
        };
        holds(&NoLeakedRenewal::default(), 1, facts(602));
        breaks(&NoLeakedRenewal::default(), (722, "j#1", "no-leaked-renewal/lease"), &["0:10:01"], facts(601));
    }

    #[test]
    fn the_next_process_of_an_agent_starts_up_anew() {
        let rule = NoLeakedRenewal::default();
        let again =
            |renewal| vec![(601, granted("j", 1, "a")), (650, down("a")), (700, up("a")), (renewal, renewed("j", 1))];
        holds(&rule, 1, again(820));
        breaks(&rule, (821, "j#1", "no-leaked-renewal/lease"), &["0:11:40"], again(821));
        let stopped = vec![(601, stopped("j", 1, "w1")), (700, up("a")), (722, renewed("j", 1))];
        breaks(&rule, (722, "j#1", "no-leaked-renewal/lease"), &["0:10:01"], [begun(), stopped].concat());
    }

    #[test]
    fn an_agent_that_has_let_go_starts_up_anew_when_the_job_arrives_again() {
        let rule = NoLeakedRenewal::default();
        let broken = |at| (at, "j#1", "no-leaked-renewal/lease");
        let again = |arrival, renewal| {
            let arrives = vec![(arrival, arrived("j", 1, "a")), (renewal, renewed("j", 1))];
            [vec![(601, granted("j", 1, "a")), (640, renewed("j", 1))], arrives].concat()
        };
        holds(&rule, 1, again(701, 821));
        breaks(&rule, broken(822), &["0:11:41"], again(701, 822));
        breaks(&rule, broken(722), &["0:10:01"], again(700, 722));
        let stopped = vec![(601, stopped("j", 1, "w1")), (700, arrived("j", 1, "a")), (722, renewed("j", 1))];
        breaks(&rule, broken(722), &["0:10:01"], [begun(), stopped].concat());
    }

    #[test]
    fn the_next_process_of_an_agent_starts_up_when_the_job_has_arrived() {
        let rule = NoLeakedRenewal::default();
        let next = |renewal| {
            let before = vec![(601, granted("j", 1, "a")), (640, renewed("j", 1)), (650, down("a")), (655, up("a"))];
            [before, vec![(690, arrived("j", 1, "a")), (renewal, renewed("j", 1))]].concat()
        };
        holds(&rule, 1, next(810));
        breaks(&rule, (811, "j#1", "no-leaked-renewal/lease"), &["0:11:30"], next(811));
    }

    #[test]
    fn a_leased_job_is_run_and_reported() {
        let facts = vec![
            (2_000, granted("j", 1, "a")),
            (2_300, started("j", 1, "a", "w1")),
            (5_000, stopped("j", 1, "w1")),
            (5_300, reported("j", 1, Succeeded)),
            (6_000, granted("k", 1, "a")),
            (6_300, lease_released("k", 1)),
        ];
        holds(&LeasedJobRuns::default(), 3, facts);
    }

    #[test]
    fn a_dead_agents_lease_may_run_out() {
        let facts = vec![
            (2_000, granted("i", 1, "a")),
            (2_000, granted("j", 1, "a")),
            (2_001, started("j", 1, "a", "w1")),
            (2_100, down("a")),
            (2_100, up("a")),
            (2_200, stopped("j", 1, "w1")),
            (2_600, lease_expired("i", 1)),
            (2_600, lease_expired("j", 1)),
        ];
        holds(&LeasedJobRuns::default(), 2, facts);
    }

    #[test]
    fn a_lease_that_nobody_uses_is_a_breach() {
        let broken = (2_300, "j#1", "leased-job-runs/lease");
        for facts in [vec![], vec![(2_600, lease_expired("j", 1))], vec![(2_400, down("a"))]] {
            let facts = [vec![(2_000, granted("j", 1, "a"))], facts].concat();
            breaks(&LeasedJobRuns::default(), broken, &["0:33:20", "0:38:20"], facts);
        }
        let left = vec![(10, granted("j", 1, "a")), (11, started("j", 1, "a", "w")), (2_000, stopped("j", 1, "w"))];
        breaks(&LeasedJobRuns::default(), broken, &["without a worker since 0:33:20"], left);
    }
}
