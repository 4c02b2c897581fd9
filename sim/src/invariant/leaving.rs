//! Workers that leave a job which waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, WorkerId};

use crate::time::SimTime;

use super::findings::Span;
use super::{Findings, History, Rule};

/// A worker that began for a job executes it, as long as the job waits for it.
///
/// A job waits for the workers of the attempt that it is offered in, until it is queued again, has ended, or somebody asks
/// for its end. A worker that dies with its machine has not left, nor has one whose agent does not run, as nobody can
/// tell then.
#[derive(Clone, Debug)]
pub struct WaitedForWorkerStays {
    /// After so long a worker may leave that was not let in. Default: 2 minutes.
    pub patience: Duration,
}

impl Default for WaitedForWorkerStays {
    fn default() -> Self {
        Self { patience: Duration::from_secs(2 * 60) }
    }
}

/// A worker that has not executed anything yet.
struct Idle<'a> {
    agent: &'a Agent,
    job: &'a Job,
    attempt: u32,
    since: SimTime,
}

impl Rule for WaitedForWorkerStays {
    const NAME: &'static str = "waited-for-worker-stays";
    const SUMMARY: &'static str =
        "A worker does not leave a job that waits for it before it has tried for long enough.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let downs: BTreeSet<(&Agent, SimTime)> = history
            .journal
            .iter()
            .filter_map(|entry| match &entry.fact {
                Fact::AgentDown { agent, .. } => Some((agent, entry.at)),
                _ => None,
            })
            .collect();
        let mut up: BTreeSet<&Agent> = BTreeSet::new();
        let mut idle: BTreeMap<&WorkerId, Idle<'_>> = BTreeMap::new();
        let mut offered: BTreeMap<&Job, (u32, SimTime)> = BTreeMap::new();
        let mut begun = 0;
        for entry in history.journal {
            match &entry.fact {
                Fact::AgentUp { agent } => drop(up.insert(agent)),
                Fact::AgentDown { agent, .. } => drop(up.remove(agent)),
                Fact::JobOffered { job, attempt, .. } => drop(offered.insert(job, (*attempt, entry.at))),
                Fact::JobQueued { job }
                | Fact::JobRequeued { job, .. }
                | Fact::JobCancelRequested { job }
                | Fact::JobReported { job, accepted: true, .. }
                | Fact::JobGivenUp { job, .. } => drop(offered.remove(job)),
                Fact::WorkerBegan { worker, agent, job, attempt, .. } => {
                    begun += 1;
                    idle.insert(worker, Idle { agent, job, attempt: *attempt, since: entry.at });
                }
                Fact::JobStarted { worker, .. } => drop(idle.remove(worker)),
                Fact::WorkerEnded { worker } => {
                    let Some(Idle { agent, job, attempt, since }) = idle.remove(worker) else { continue };
                    let waits = offered.get(job).is_some_and(|(of, at)| *of == attempt && *at <= since);
                    let alone = up.contains(agent) && !downs.contains(&(agent, entry.at));
                    let lived = entry.at.since(since);
                    if waits && alone && lived < self.patience {
                        let message = format_args!(
                            "{worker}, which began on {agent} for attempt {attempt} of {job} at {since}, left at {} \
                             after {} without executing it, though it waited for it",
                            entry.at,
                            Span(lived)
                        );
                        found.breach(job, entry.at, message);
                    }
                }
                _ => {}
            }
        }
        found.subjects(begun);
    }
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::Outcome::Failed;

    use super::super::testing::*;
    use super::*;

    fn began(worker: &str, job: &str) -> Fact {
        Fact::WorkerBegan { worker: worker.into(), agent: "a".into(), job: job.into(), attempt: 1, owner: job.into() }
    }

    fn ended(worker: &str) -> Fact {
        Fact::WorkerEnded { worker: worker.into() }
    }

    fn around(between: Vec<(u64, Fact)>) -> Vec<(u64, Fact)> {
        let before = vec![(1, up("a")), (2, queued("j")), (2, offered("j", 1, "a")), (10, began("w", "j"))];
        [before, between, vec![(20, ended("w"))]].concat()
    }

    #[test]
    fn a_worker_may_leave_what_it_did_and_what_nobody_wants_done() {
        for why in [
            started("j", 1, "a", "w"),
            cancel("j"),
            reported("j", 1, Failed),
            given_up("j", 1),
            requeued("j", 1),
            queued("j"),
            offered("j", 2, "b"),
            down("a"),
        ] {
            holds(&WaitedForWorkerStays::default(), 1, around(vec![(15, why)]));
        }
        holds(&WaitedForWorkerStays { patience: Duration::from_secs(10) }, 1, around(vec![]));
    }

    #[test]
    fn a_worker_that_dies_with_its_machine_has_not_left() {
        let crash = [around(vec![]), vec![(20, down("a"))]].concat();
        holds(&WaitedForWorkerStays::default(), 1, crash);
    }

    #[test]
    fn a_worker_that_leaves_a_waiting_job_is_a_breach() {
        let broken = (20, "j", "waited-for-worker-stays/job");
        breaks(&WaitedForWorkerStays::default(), broken, &["w,", "attempt 1", "0:00:10", "10 s"], around(vec![]));
        let other = around(vec![(15, down("b")), (16, reported("k", 1, Failed))]);
        breaks(&WaitedForWorkerStays::default(), broken, &[], other);
    }
}
