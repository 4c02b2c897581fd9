//! What the exit codes of worker processes tell.

use std::collections::BTreeMap;

use squall_protocol::Fact;
use squall_protocol::facts::{Outcome, WorkerId};

use crate::time::SimTime;

use super::running::{Change, Run, Running};
use super::{Findings, History, Rule};

/// A worker process whose exit code tells an outcome tells the one with which it stopped executing its job.
///
/// What the server has heard of the job is not asked: who reads the logs of the machine, or has started the agent, has
/// nothing but the code.
#[derive(Clone, Debug)]
pub struct ExitCodeTellsOutcome {
    /// The outcome that an exit code tells, if it tells one. Default: 0 tells success, and no other code tells anything.
    pub tells: fn(i32) -> Option<Outcome>,
}

impl Default for ExitCodeTellsOutcome {
    fn default() -> Self {
        Self { tells: |code| (code == 0).then_some(Outcome::Succeeded) }
    }
}

impl Rule for ExitCodeTellsOutcome {
    const NAME: &'static str = "exit-code-tells-outcome";
    const SUMMARY: &'static str = "A worker process whose exit code tells how its job ended tells how it did end.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut done: BTreeMap<&WorkerId, (Run<'_>, Outcome, SimTime)> = BTreeMap::new();
        for entry in history.journal {
            if let Some(Change::Stopped(run, outcome)) = running.follow(entry) {
                done.insert(run.worker, (run, outcome, entry.at));
            }
            let Fact::WorkerExited { worker, code: Some(code) } = &entry.fact else { continue };
            let (Some((run, outcome, at)), Some(told)) = (done.remove(worker), (self.tells)(*code)) else { continue };
            found.subject();
            if told != outcome {
                let message = format_args!(
                    "{worker} of {} stopped attempt {} of {} at {at} with outcome {outcome:?}, and exited at {} with \
                     code {code}, which tells {told:?}",
                    run.agent, run.attempt, run.job, entry.at
                );
                found.breach(run.job, entry.at, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn rule() -> ExitCodeTellsOutcome {
        ExitCodeTellsOutcome {
            tells: |code| match code {
                100 => Some(Outcome::Succeeded),
                102 => Some(Outcome::Failed),
                _ => None,
            },
        }
    }

    /// A worker succeeds, and then this happens.
    fn succeeds(then: Vec<(u64, Fact)>) -> Vec<(u64, Fact)> {
        [vec![(1, started("j", 1, "a", "w")), (5, stopped("j", 1, "w"))], then].concat()
    }

    #[test]
    fn the_outcome_that_came_true_may_be_told() {
        holds(&rule(), 1, succeeds(vec![(9, worker_exited("w", 100))]));
        holds(&ExitCodeTellsOutcome::default(), 1, succeeds(vec![(9, worker_exited("w", 0))]));
        let outcome = Outcome::Failed;
        let failed = Fact::JobStopped { job: "j".into(), attempt: 1, worker: "w".into(), outcome };
        let facts = vec![(1, started("j", 1, "a", "w")), (5, failed), (5, worker_exited("w", 102))];
        holds(&rule(), 1, facts);
    }

    #[test]
    fn a_code_that_tells_nothing_is_no_subject() {
        for code in [1, 105, 202, i32::MIN] {
            holds(&rule(), 0, succeeds(vec![(9, worker_exited("w", code))]));
        }
        holds(&rule(), 0, succeeds(vec![(9, worker_killed("w"))]));
        holds(&ExitCodeTellsOutcome::default(), 0, succeeds(vec![(9, worker_exited("w", 1))]));
    }

    #[test]
    fn a_worker_that_executed_nothing_is_no_subject() {
        holds(&rule(), 0, vec![(1, worker_exited("w", 102))]);
        holds(&rule(), 0, succeeds(vec![(9, worker_exited("v", 102))]));
    }

    #[test]
    fn another_outcome_is_a_breach() {
        let facts = succeeds(vec![(6, reported("j", 1, Outcome::Succeeded)), (9, worker_exited("w", 102))]);
        let broken = (9, "j", "exit-code-tells-outcome/job");
        let words = ["w of a", "attempt 1 of j", "0:00:05", "Succeeded", "0:00:09", "code 102", "tells Failed"];
        breaks(&rule(), broken, &words, facts);
    }

    #[test]
    fn a_job_that_died_with_its_worker_has_not_succeeded() {
        let (job, worker, outcome) = ("j".into(), "w".into(), Outcome::Abandoned);
        let lost = Fact::JobStopped { job, attempt: 1, worker, outcome };
        let facts = vec![(1, started("j", 1, "a", "w")), (5, lost), (5, worker_exited("w", 100))];
        breaks(&rule(), (5, "j", "exit-code-tells-outcome/job"), &["Abandoned", "tells Succeeded"], facts);
    }
}
