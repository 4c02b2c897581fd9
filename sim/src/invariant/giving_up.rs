//! Ends that are no results: a job is cancelled because somebody asked for it, and given up when its time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Job, Outcome};

use crate::time::SimTime;

use super::findings::Span;
use super::{Findings, History, Rule};

/// A job is cancelled only if somebody asked for it since it was queued.
#[derive(Clone, Debug, Default)]
pub struct CancelledOnRequest;

impl Rule for CancelledOnRequest {
    const NAME: &'static str = "cancelled-on-request";
    const SUMMARY: &'static str = "No job is recorded as cancelled unless its end was asked for since it was queued.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut asked: BTreeSet<&Job> = BTreeSet::new();
        let mut cancelled = 0;
        for entry in history.journal {
            match &entry.fact {
                Fact::JobQueued { job } => drop(asked.remove(job)),
                Fact::JobCancelRequested { job } => drop(asked.insert(job)),
                Fact::JobReported { job, attempt, outcome: Outcome::Cancelled, accepted: true } => {
                    cancelled += 1;
                    if !asked.contains(job) {
                        let message = format_args!(
                            "attempt {attempt} of {job} was recorded as cancelled at {}, which nobody had asked for \
                             since it was queued",
                            entry.at
                        );
                        found.breach(job, entry.at, message);
                    }
                }
                _ => {}
            }
        }
        found.subjects(cancelled);
    }
}

/// A job that no agent was offered waits as long as it may before the server gives it up.
#[derive(Clone, Debug)]
pub struct JobWaitsItsTime {
    /// How long it may wait at least. Default: 10 minutes.
    pub patience: Duration,
}

impl Default for JobWaitsItsTime {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10 * 60) }
    }
}

impl Rule for JobWaitsItsTime {
    const NAME: &'static str = "job-waits-its-time";
    const SUMMARY: &'static str =
        "The server gives no job up that it offered to nobody and that has not waited its time.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut waiting: BTreeMap<&Job, SimTime> = BTreeMap::new();
        let mut queued = 0;
        for entry in history.journal {
            match &entry.fact {
                Fact::JobQueued { job } => {
                    queued += 1;
                    waiting.insert(job, entry.at);
                }
                Fact::JobOffered { job, .. }
                | Fact::JobCancelRequested { job }
                | Fact::JobReported { job, accepted: true, .. } => drop(waiting.remove(job)),
                Fact::JobGivenUp { job, attempt } => {
                    let Some(since) = waiting.remove(job) else { continue };
                    let waited = entry.at.since(since);
                    if waited < self.patience {
                        let message = format_args!(
                            "attempt {attempt} of {job}, queued at {since}, was given up at {} after {}, having been \
                             offered to nobody; it may wait for {}",
                            entry.at,
                            Span(waited),
                            Span(self.patience)
                        );
                        found.breach(job, entry.at, message);
                    }
                }
                _ => {}
            }
        }
        found.subjects(queued);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_job_is_cancelled_when_somebody_asked_for_it() {
        let once = vec![(1, queued("j")), (2, cancel("j")), (3, reported("j", 1, Outcome::Cancelled))];
        holds(&CancelledOnRequest, 1, [once.clone(), vec![(4, reported("j", 1, Outcome::Failed))]].concat());
        let again = [once, vec![(5, queued("j")), (9, reported("j", 2, Outcome::Cancelled))]].concat();
        breaks(&CancelledOnRequest, (9, "j", "cancelled-on-request/job"), &["attempt 2", "0:00:09"], again);
    }

    #[test]
    fn a_job_may_be_given_up_after_its_time() {
        let facts = vec![
            (1, queued("late")),
            (601, given_up("late", 1)),
            (700, queued("tried")),
            (701, offered("tried", 1, "a")),
            (702, given_up("tried", 1)),
            (710, queued("unwanted")),
            (711, cancel("unwanted")),
            (712, given_up("unwanted", 1)),
        ];
        holds(&JobWaitsItsTime::default(), 3, facts);
    }

    #[test]
    fn a_job_that_is_given_up_at_once_is_a_breach() {
        let facts = vec![(1, queued("j")), (9, given_up("j", 1))];
        breaks(&JobWaitsItsTime::default(), (9, "j", "job-waits-its-time/job"), &["8 s", "10 min"], facts.clone());
        holds(&JobWaitsItsTime { patience: Duration::from_secs(8) }, 1, facts);
    }
}
