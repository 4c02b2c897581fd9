//! What has arrived is heeded: an agent begins what it was handed, and a worker ends that was told to.
//!
//! Both are counted in answers that arrived whole, not in time: whoever hears nothing is excused for as long.

use std::collections::{BTreeMap, BTreeSet};

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job};

use super::running::{Change, Counts, Running};
use super::{Findings, History, Rule};

/// An agent begins a job that was handed to it.
///
/// A job is handed over again when its answer was lost, when a new process of its agent asks, and when it could not be
/// begun, because the disk is full or for a reason that the agent reports. A process that is handed the same attempt again
/// and again throws it away.
#[derive(Clone, Debug)]
pub struct ArrivedJobBegun {
    /// How often an attempt may arrive at one process of its agent before a worker begins or a report reaches the server.
    /// Default: 3, as reports may be lost.
    pub arrivals: usize,
}

impl Default for ArrivedJobBegun {
    fn default() -> Self {
        Self { arrivals: 3 }
    }
}

impl Rule for ArrivedJobBegun {
    const NAME: &'static str = "arrived-job-begun";
    const SUMMARY: &'static str = "An agent that a job has arrived at begins it, and is not handed it again and again.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut arrived: BTreeMap<(&Job, u32), (&Agent, usize)> = BTreeMap::new();
        let mut handed: BTreeSet<(&Job, u32)> = BTreeSet::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::JobArrived { job, attempt, agent } => {
                    handed.insert((job, *attempt));
                    let (at, times) = arrived.entry((job, *attempt)).or_insert((agent, 0));
                    if *at != agent {
                        (*at, *times) = (agent, 0);
                    }
                    *times += 1;
                    if *times > self.arrivals {
                        let message = format_args!(
                            "attempt {attempt} of {job} had arrived {times} times at one process of {agent} at {}, and \
                             no worker had begun on it",
                            entry.at
                        );
                        found.breach(job, entry.at, message);
                    }
                }
                Fact::WorkerBegan { job, attempt, .. } => drop(arrived.remove(&(job, *attempt))),
                // A new process knows nothing of what the former one was handed, and a full disk lets no worker begin.
                Fact::AgentUp { agent } | Fact::DiskFull { machine: agent } => {
                    arrived.retain(|_, (at, _)| *at != agent)
                }
                Fact::JobRequeued { job, .. } | Fact::JobReported { job, .. } | Fact::JobGivenUp { job, .. } => {
                    arrived.retain(|(of, _), _| *of != job)
                }
                _ => {}
            }
        }
        found.subjects(handed.len());
    }
}

/// A worker whose job's end was asked for ends once it hears the server.
#[derive(Clone, Debug)]
pub struct HeardCancelStops {
    /// How many answers may arrive at the worker, of a server that knows of the wish, while it goes on. Default: 10.
    pub answers: usize,
}

impl Default for HeardCancelStops {
    fn default() -> Self {
        Self { answers: 10 }
    }
}

impl Rule for HeardCancelStops {
    const NAME: &'static str = "heard-cancel-stops";
    const SUMMARY: &'static str =
        "A worker that hears a server which knows that its job's end was asked for stops executing it.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut workers: Counts<(&Job, u32)> = Counts::default();
        let mut heard: BTreeMap<(&Job, u32), usize> = BTreeMap::new();
        let mut subjects: BTreeSet<(&Job, u32)> = BTreeSet::new();
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => drop(workers.add((run.job, run.attempt))),
                Some(Change::Stopped(run, _)) => {
                    workers.remove(&(run.job, run.attempt));
                    heard.remove(&(run.job, run.attempt));
                }
                None => {}
            }
            let Fact::JobCancelAnswered { job, attempt } = &entry.fact else { continue };
            if !workers.any(&(job, *attempt)) {
                continue;
            }
            subjects.insert((job, *attempt));
            let answers = heard.entry((job, *attempt)).or_default();
            *answers += 1;
            if *answers > self.answers {
                let message = format_args!(
                    "attempt {attempt} of {job} was still executed at {}, when {answers} answers had arrived at its \
                     worker from a server that knew that its end was asked for",
                    entry.at
                );
                found.breach(job, entry.at, message);
            }
        }
        found.subjects(subjects.len());
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

    fn arrivals(from: u64, to: u64) -> Vec<(u64, Fact)> {
        (from..=to).map(|s| (s, arrived("j", 1, "a"))).collect()
    }

    #[test]
    fn a_job_may_arrive_again_at_whoever_does_not_have_it() {
        let rest = [
            began("w", "j"),
            up("a"),
            Fact::DiskFull { machine: "a".into() },
            requeued("j", 1),
            given_up("j", 1),
            reported("j", 1, Failed),
            refused("j", 1, Failed),
            arrived("j", 1, "b"),
        ];
        for why in rest {
            holds(&ArrivedJobBegun::default(), 1, [arrivals(1, 3), vec![(4, why)], arrivals(5, 6)].concat());
        }
    }

    #[test]
    fn a_job_that_arrives_again_and_again_is_a_breach() {
        let broken = (4, "j", "arrived-job-begun/job");
        breaks(&ArrivedJobBegun::default(), broken, &["of a", "4 times", "0:00:04"], arrivals(1, 4));
        holds(&ArrivedJobBegun { arrivals: 4 }, 1, arrivals(1, 4));
    }

    #[test]
    fn a_worker_that_hears_of_a_cancel_may_take_its_time() {
        let heard = |from: u64, to: u64| (from..to).map(|s| (s, cancel_answered("j", 1))).collect::<Vec<_>>();
        let start = vec![(1, started("j", 1, "a", "w")), (2, cancel("j"))];
        let facts = [start.clone(), heard(3, 13), vec![(13, stopped("j", 1, "w"))], heard(14, 40)].concat();
        holds(&HeardCancelStops::default(), 1, facts);
        // Two answers are no failure to heed them.
        holds(&HeardCancelStops::default(), 1, [start.clone(), heard(3, 5)].concat());
        breaks(
            &HeardCancelStops::default(),
            (13, "j", "heard-cancel-stops/job"),
            &["attempt 1", "11 answers", "0:00:13"],
            [start, heard(3, 14)].concat(),
        );
    }
}
