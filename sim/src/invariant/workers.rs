//! Worker processes: one for an attempt, one owner on a machine, and none that acts after its owner's end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, WorkerId};

use crate::time::SimTime;

use super::findings::Span;
use super::overlaps::{Overlap, Overlaps};
use super::running::Counts;
use super::{Findings, History, Rule};

/// An attempt of a job has at most one live worker process, even before either executes anything.
#[derive(Clone, Debug, Default)]
pub struct OneLiveWorker {
    /// Two at once for at most this long are no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for OneLiveWorker {
    const NAME: &'static str = "one-live-worker";
    const SUMMARY: &'static str = "An attempt of a job has at most one live worker process.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut live: Overlaps<(&Job, u32), &WorkerId> = Overlaps::new(1, self.grace);
        let mut begun: BTreeMap<&WorkerId, (&Job, u32)> = BTreeMap::new();
        let mut both: Vec<Overlap<(&Job, u32), &WorkerId>> = Vec::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::WorkerBegan { worker, job, attempt, .. } => {
                    begun.insert(worker, (job, *attempt));
                    live.enter((job, *attempt), worker, entry.at);
                }
                Fact::WorkerEnded { worker } => {
                    both.extend(begun.remove(worker).and_then(|of| live.leave(of, worker, entry.at)));
                }
                _ => {}
            }
        }
        both.extend(live.at_end(history.end));
        for Overlap { key: (job, attempt), holders, from, until } in both {
            let message = format_args!(
                "attempt {attempt} of {job} had two live workers, {} and {}, from {from} to {until}",
                holders[0], holders[1]
            );
            found.breach(job, from + self.grace, message);
        }
        found.subjects(live.keys());
    }
}

/// A machine has workers of one owner at a time.
///
/// A worker uses its machine from when it starts on a job: until then it may be waiting for leave. It uses it until it
/// ends, or has stopped the job and its report of that was accepted: from then on it may be waiting for an answer.
#[derive(Clone, Debug, Default)]
pub struct ExclusiveUse {
    /// Two owners at once for at most this long are no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for ExclusiveUse {
    const NAME: &'static str = "exclusive-use";
    const SUMMARY: &'static str = "A machine is used by workers of one owner at a time.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut used: Overlaps<&Agent, &Job> = Overlaps::new(1, self.grace);
        let mut workers: BTreeMap<&WorkerId, (&Agent, &Job)> = BTreeMap::new();
        let mut at_work: BTreeSet<&WorkerId> = BTreeSet::new();
        let mut stopped: BTreeMap<(&Job, u32), &WorkerId> = BTreeMap::new();
        let mut counts: Counts<(&Agent, &Job)> = Counts::default();
        let mut both: Vec<Overlap<&Agent, &Job>> = Vec::new();
        for entry in history.journal {
            let over = match &entry.fact {
                Fact::WorkerBegan { worker, agent, owner, .. } => {
                    workers.insert(worker, (agent, owner));
                    None
                }
                Fact::JobStarted { worker, .. } => {
                    if let Some((agent, owner)) = workers.get(worker).copied()
                        && at_work.insert(worker)
                        && counts.add((agent, owner))
                    {
                        used.enter(agent, owner, entry.at);
                    }
                    None
                }
                Fact::JobStopped { job, attempt, worker, .. } => {
                    stopped.insert((job, *attempt), worker);
                    None
                }
                Fact::JobReported { job, attempt, accepted: true, .. } => stopped.remove(&(job, *attempt)),
                Fact::WorkerEnded { worker } => Some(worker),
                _ => None,
            };
            if let Some(worker) = over
                && at_work.remove(worker)
                && let Some((agent, owner)) = workers.remove(worker)
                && counts.remove(&(agent, owner))
            {
                both.extend(used.leave(agent, owner, entry.at));
            }
        }
        both.extend(used.at_end(history.end));
        for Overlap { key: agent, holders, from, until } in both {
            let message =
                format_args!("{agent} was used by {} and by {} from {from} to {until}", holders[0], holders[1]);
            found.breach(agent, from + self.grace, message);
        }
        found.subjects(used.keys());
    }
}

/// Once an owner's result is accepted, none of its workers has an effect, unless it is queued again.
#[derive(Clone, Debug, Default)]
pub struct NoEffectAfterEnd {
    /// An effect at most this long after the end is no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for NoEffectAfterEnd {
    const NAME: &'static str = "no-effect-after-end";
    const SUMMARY: &'static str = "Nothing that belongs to a piece of work has an effect after that work has ended.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut owners: BTreeMap<&WorkerId, &Job> = BTreeMap::new();
        let mut ended: BTreeMap<&Job, SimTime> = BTreeMap::new();
        let mut subjects = 0;
        for entry in history.journal {
            match &entry.fact {
                Fact::WorkerBegan { worker, owner, .. } => drop(owners.insert(worker, owner)),
                Fact::JobQueued { job } => drop(ended.remove(job)),
                Fact::JobReported { job, accepted: true, .. } | Fact::JobGivenUp { job, .. } => {
                    subjects += usize::from(owners.values().any(|owner| *owner == job));
                    ended.entry(job).or_insert(entry.at);
                }
                Fact::JobEffect { job, attempt, worker } => {
                    let Some(owner) = owners.get(worker) else { continue };
                    let Some(end) = ended.get(owner).filter(|end| entry.at.since(**end) > self.grace) else { continue };
                    let message = format_args!(
                        "{worker} had an effect for attempt {attempt} of {job} at {}, {} after {owner} had ended",
                        entry.at,
                        Span(entry.at.since(*end))
                    );
                    found.breach(owner, entry.at, message);
                }
                _ => {}
            }
        }
        found.subjects(subjects);
    }
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::Outcome;

    use super::super::testing::*;
    use super::*;

    fn began(worker: &str, agent: &str, job: &str, attempt: u32) -> Fact {
        let owner = job.split('/').next().unwrap().into();
        Fact::WorkerBegan { worker: worker.into(), agent: agent.into(), job: job.into(), attempt, owner }
    }

    fn ended(worker: &str) -> Fact {
        Fact::WorkerEnded { worker: worker.into() }
    }

    #[test]
    fn an_attempt_has_one_worker_after_another() {
        let facts = vec![
            (1, began("w1", "a", "b/1", 1)),
            (2, began("w2", "a", "b/1", 2)),
            (5, ended("w1")),
            (5, began("w3", "a", "b/1", 1)),
        ];
        holds(&OneLiveWorker::default(), 2, facts);
    }

    #[test]
    fn two_live_workers_of_an_attempt_are_a_breach() {
        let facts = vec![(1, began("w1", "a", "b/1", 1)), (5, began("w2", "c", "b/1", 1)), (9, ended("w1"))];
        let broken = (5, "b/1", "one-live-worker/job");
        breaks(&OneLiveWorker::default(), broken, &["w1", "w2", "0:00:05", "0:00:09"], facts.clone());
        holds(&OneLiveWorker { grace: Duration::from_secs(4) }, 1, facts);
    }

    #[test]
    fn one_owner_may_have_two_workers_on_a_machine() {
        let facts = vec![
            (1, began("w1", "a", "b/1", 1)),
            (1, started("b/1", 1, "a", "w1")),
            (2, began("w2", "a", "b/2", 1)),
            (2, started("b/2", 1, "a", "w2")),
            (3, ended("w1")),
            (4, ended("w2")),
            (4, began("w3", "a", "c/1", 1)),
            (4, started("c/1", 1, "a", "w3")),
        ];
        holds(&ExclusiveUse::default(), 1, facts);
    }

    #[test]
    fn a_worker_that_waits_for_leave_does_not_use_its_machine() {
        let facts = vec![
            (1, began("w1", "a", "b/1", 1)),
            (2, began("w2", "a", "c/1", 1)),
            (2, started("c/1", 1, "a", "w2")),
            (6, ended("w1")),
        ];
        holds(&ExclusiveUse::default(), 1, facts);
    }

    #[test]
    fn a_worker_whose_report_was_accepted_may_wait_for_the_answer() {
        let facts = |end: Vec<(u64, Fact)>| {
            let first = vec![(1, began("w1", "a", "b/1", 1)), (1, started("b/1", 1, "a", "w1"))];
            let second = vec![(4, began("w2", "a", "c/1", 1)), (4, started("c/1", 1, "a", "w2")), (6, ended("w1"))];
            [first, end, second].concat()
        };
        let done = (3, reported("b/1", 1, Outcome::Succeeded));
        holds(&ExclusiveUse::default(), 1, facts(vec![(2, stopped("b/1", 1, "w1")), done.clone()]));
        // Somebody else may say so of one that is at work.
        for end in [vec![done], vec![(2, stopped("b/1", 1, "w1")), (3, refused("b/1", 1, Outcome::Succeeded))]] {
            breaks(&ExclusiveUse::default(), (4, "a", "exclusive-use/agent"), &["by b and by c"], facts(end));
        }
    }

    #[test]
    fn two_owners_on_a_machine_are_a_breach() {
        let facts = vec![
            (1, began("w1", "a", "b/1", 1)),
            (1, started("b/1", 1, "a", "w1")),
            (2, began("w2", "a", "b/2", 1)),
            (2, started("b/2", 1, "a", "w2")),
            (3, ended("w1")),
            (4, began("w3", "a", "c/1", 1)),
            (4, started("c/1", 1, "a", "w3")),
            (6, ended("w2")),
        ];
        let broken = (4, "a", "exclusive-use/agent");
        breaks(&ExclusiveUse::default(), broken, &["by b and by c", "0:00:04", "0:00:06"], facts.clone());
        holds(&ExclusiveUse { grace: Duration::from_secs(2) }, 1, facts);
    }

    #[test]
    fn what_has_ended_has_no_more_effects() {
        let facts = vec![
            (1, began("w1", "a", "b/1", 1)),
            (2, effect("b/1", 1, "w1")),
            (5, reported("b", 1, Outcome::Failed)),
            (9, queued("b")),
            (9, effect("b/1", 1, "w1")),
        ];
        holds(&NoEffectAfterEnd::default(), 1, facts);
        let facts =
            vec![(1, began("w1", "a", "b/1", 1)), (5, reported("b", 1, Outcome::Failed)), (9, effect("b/1", 1, "w1"))];
        let broken = (9, "b", "no-effect-after-end/job");
        breaks(&NoEffectAfterEnd::default(), broken, &["w1", "4 s after b"], facts.clone());
        holds(&NoEffectAfterEnd { grace: Duration::from_secs(4) }, 1, facts);
    }
}
