//! Jobs that their own agents stop.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, Until};

use crate::time::SimTime;

use super::leases::Leases;
use super::suspensions::{Suspensions, WAKING};
use super::{Findings, History, Rule};

/// A job with a valid lease is not aborted by its own agent.
///
/// An agent knows of an extension once its answer has arrived. Where nothing tells of arrivals, every answer counts as
/// arrived. A worker on a machine that was suspended when its agent was asked to stop hears of that once the machine goes
/// on, when the agent's next process may be there already.
#[derive(Clone, Debug)]
pub struct LeasedJobNotAborted {
    /// An agent may stop a job by itself when the last extension that it knows of is so long ago: it cannot know
    /// whether the lease is still valid. Default: never.
    pub fence_after: Duration,
}

impl Default for LeasedJobNotAborted {
    fn default() -> Self {
        Self { fence_after: Duration::MAX }
    }
}

/// Which process of an agent that was asked to stop is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    /// The one that was asked.
    Asked,
    /// One that was started since.
    Next,
}

impl Rule for LeasedJobNotAborted {
    const NAME: &'static str = "leased-job-not-aborted";
    const SUMMARY: &'static str = "An agent does not stop a job on its own while the job's lease is valid.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut leases = Leases::default();
        let mut cancelled: BTreeSet<&Job> = BTreeSet::new();
        let mut stopping: BTreeMap<&Agent, (SimTime, Process)> = BTreeMap::new();
        let suspensions = Suspensions::of(history);
        let mut extended: BTreeMap<(&Job, u32, &Until), SimTime> = BTreeMap::new();
        let mut known: BTreeMap<(&Job, u32), SimTime> = BTreeMap::new();
        for entry in history.journal {
            leases.follow(entry);
            match &entry.fact {
                Fact::LeaseGranted { job, attempt, until, .. } => {
                    found.subject();
                    extended.insert((job, *attempt, until), entry.at);
                }
                Fact::LeaseRenewed { job, attempt, until } => {
                    extended.insert((job, *attempt, until), entry.at);
                }
                Fact::LeaseAnswered { job, attempt, until } => {
                    let Some(at) = extended.get(&(job, *attempt, until)) else { continue };
                    let last = known.entry((job, *attempt)).or_insert(*at);
                    *last = (*last).max(*at);
                }
                Fact::JobCancelRequested { job } => drop(cancelled.insert(job)),
                Fact::JobQueued { job } | Fact::JobRequeued { job, .. } => drop(cancelled.remove(job)),
                Fact::AgentStopRequested { agent } => drop(stopping.insert(agent, (entry.at, Process::Asked))),
                Fact::AgentUp { agent } => {
                    stopping.entry(agent).and_modify(|(_, process)| *process = Process::Next);
                }
                Fact::JobAborted { job, attempt, worker } => {
                    let Some(lease) = leases.valid(job, *attempt) else { continue };
                    let stopped = stopping.get(lease.agent).is_some_and(|(asked, process)| match process {
                        Process::Asked => true,
                        Process::Next => suspensions.awake(&[entry.node], *asked, entry.at) <= WAKING,
                    });
                    let asked = cancelled.contains(job) || stopped;
                    let heard = known.get(&(job, *attempt)).copied().unwrap_or(lease.heard);
                    if asked || entry.at.since(heard) >= self.fence_after {
                        continue;
                    }
                    let message = format_args!(
                        "{} stopped {worker} and attempt {attempt} of {job} at {} although its lease was valid: the \
                         last extension that it knew of was at {heard}",
                        lease.agent, entry.at
                    );
                    found.breach(job, entry.at, message);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn begun() -> Vec<(u64, Fact)> {
        vec![(1, granted("j", 1, "a")), (2, started("j", 1, "a", "w1"))]
    }

    #[test]
    fn an_agent_may_stop_a_job_for_a_reason() {
        let rule = LeasedJobNotAborted::default();
        let reasons = [lease_expired("j", 1), cancel("j"), stop_requested("a")];
        for reason in reasons {
            holds(&rule, 1, [begun(), vec![(60, reason), (65, aborted("j", 1, "w1"))]].concat());
        }
        let unheard = [begun(), vec![(60, renewed("j", 1)), (360, aborted("j", 1, "w1"))]].concat();
        holds(&LeasedJobNotAborted { fence_after: Duration::from_secs(300) }, 1, unheard.clone());
        let broken = (360, "j", "leased-job-not-aborted/job");
        breaks(&LeasedJobNotAborted { fence_after: Duration::from_secs(301) }, broken, &["was at 0:01:00"], unheard);
    }

    #[test]
    fn an_agent_knows_of_the_extensions_whose_answers_arrived() {
        let rule = LeasedJobNotAborted { fence_after: Duration::from_secs(300) };
        let facts = |answers: &[(u64, u64)]| {
            let extended = [60, 120, 180].map(|at| (at, renewed_until("j", 1, at + 600))).to_vec();
            let answers = answers.iter().map(|(at, until)| (*at, lease_answered("j", 1, *until)));
            let mut facts = [begun(), extended, answers.collect(), vec![(400, aborted("j", 1, "w1"))]].concat();
            facts.sort_by_key(|(at, _)| *at);
            facts
        };
        holds(&rule, 1, facts(&[(61, 660)]));
        let broken = (400, "j", "leased-job-not-aborted/job");
        breaks(&rule, broken, &["was at 0:02:00"], facts(&[(61, 660), (150, 720)]));
        breaks(&rule, broken, &["was at 0:02:00"], facts(&[(150, 720), (151, 660)]));
        breaks(&rule, broken, &["was at 0:03:00"], facts(&[]));
    }

    #[test]
    fn a_suspended_worker_hears_of_its_stop_when_its_machine_goes_on() {
        let facts = |asked| {
            let machine = || "a".into();
            let mut facts = vec![
                (asked, stop_requested("a")),
                (60, Fact::MachineSuspended { machine: machine() }),
                (90, Fact::MachineResumed { machine: machine() }),
                (90, up("a")),
                (91, aborted("j", 1, "w1")),
            ];
            facts.sort_by_key(|(at, _)| *at);
            [begun(), facts].concat()
        };
        for asked in [60, 70] {
            holds(&LeasedJobNotAborted::default(), 1, facts(asked));
        }
        let broken = (91, "j", "leased-job-not-aborted/job");
        breaks(&LeasedJobNotAborted::default(), broken, &["a stopped w1"], facts(50));
    }

    #[test]
    fn an_agent_that_stops_a_job_without_a_reason_is_a_breach() {
        let no_reason = [vec![], vec![(60, stop_requested("b"))], vec![(60, stop_requested("a")), (61, up("a"))]];
        for facts in no_reason {
            let facts = [begun(), facts, vec![(65, aborted("j", 1, "w1"))]].concat();
            let broken = (65, "j", "leased-job-not-aborted/job");
            breaks(&LeasedJobNotAborted::default(), broken, &["a stopped w1", "0:01:05"], facts);
        }
    }
}
