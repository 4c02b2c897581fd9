//! Safety of jobs: who executes them, and what becomes of their results.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, Outcome};

use crate::time::SimTime;

use super::findings::Span;
use super::overlaps::{Overlap, Overlaps};
use super::running::{Change, Run, Running};
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// No job is executed by two workers at once. A suspended machine executes nothing.
#[derive(Clone, Debug, Default)]
pub struct NoJobRunsTwice {
    /// What counts as the same job. Default: [`Same::Job`].
    pub same: Same,
    /// Two workers at once for at most this long are no breach. Default: zero.
    pub grace: Duration,
}

/// What counts as the same job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Same {
    /// The job, whichever attempts of it.
    #[default]
    Job,
    /// One attempt of the job.
    Attempt,
}

impl Rule for NoJobRunsTwice {
    const NAME: &'static str = "no-job-runs-twice";
    const SUMMARY: &'static str = "No job is executed by two workers at once.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let of = |run: &Run<'_>| (self.same == Same::Attempt).then_some(run.attempt);
        let mut running = Running::default();
        let mut executed = Overlaps::new(1, self.grace);
        let suspensions = Suspensions::of(history);
        let tell = |found: &mut Findings, twice: Overlap<(&Job, Option<u32>), Run<'_>>| {
            let (job, [first, second]) = (twice.key.0, [twice.holders[0], twice.holders[1]]);
            if suspensions.awake(&[first.node, second.node], twice.from, twice.until) <= self.grace {
                return;
            }
            let message = format_args!(
                "{job} was executed twice at once from {} to {}: by {} (attempt {}, agent {}, since {}) and by {} \
                 (attempt {}, agent {})",
                twice.from,
                twice.until,
                first.worker,
                first.attempt,
                first.agent,
                first.since,
                second.worker,
                second.attempt,
                second.agent,
            );
            found.breach(job, twice.from + self.grace, message);
        };
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => executed.enter((run.job, of(&run)), run, entry.at),
                Some(Change::Stopped(run, _)) => {
                    let twice = executed.leave((run.job, of(&run)), run, entry.at);
                    twice.into_iter().for_each(|twice| tell(found, twice));
                }
                None => {}
            }
        }
        executed.at_end(history.end).for_each(|twice| tell(found, twice));
        found.subjects(executed.keys());
    }
}

/// No agent executes more jobs at once than it has room for.
#[derive(Clone, Debug)]
pub struct AgentWithinCapacity {
    /// How many jobs an agent may execute at once. Default: 1.
    pub jobs: usize,
    /// More at once for at most this long are no breach. Default: zero.
    pub grace: Duration,
}

impl Default for AgentWithinCapacity {
    fn default() -> Self {
        Self { jobs: 1, grace: Duration::ZERO }
    }
}

impl Rule for AgentWithinCapacity {
    const NAME: &'static str = "agent-within-capacity";
    const SUMMARY: &'static str = "No agent executes more jobs at once than it has room for.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut used = Overlaps::new(self.jobs, self.grace);
        let tell = |found: &mut Findings, crowd: Overlap<&Agent, Run<'_>>| {
            let jobs: Vec<String> =
                crowd.holders.iter().map(|run| format!("{} (attempt {})", run.job, run.attempt)).collect();
            let (agent, room, jobs) = (crowd.key, self.jobs, jobs.join(", "));
            let message = format_args!(
                "{agent} has room for {room} at once and executed {jobs} from {} to {}",
                crowd.from, crowd.until
            );
            found.breach(agent, crowd.from + self.grace, message);
        };
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => used.enter(run.agent, run, entry.at),
                Some(Change::Stopped(run, _)) => {
                    let crowd = used.leave(run.agent, run, entry.at);
                    crowd.into_iter().for_each(|crowd| tell(found, crowd));
                }
                None => {}
            }
        }
        used.at_end(history.end).for_each(|crowd| tell(found, crowd));
        found.subjects(used.keys());
    }
}

/// No agent is assigned more jobs at once than it has room for. They would wait for it while others could take them.
///
/// An assignment lasts until the server takes it back, the job's result is accepted, or the server gives the job up.
#[derive(Clone, Debug)]
pub struct AssignedWithinCapacity {
    /// How many jobs an agent may be assigned at once. Default: 10.
    pub jobs: usize,
}

impl Default for AssignedWithinCapacity {
    fn default() -> Self {
        Self { jobs: 10 }
    }
}

impl Rule for AssignedWithinCapacity {
    const NAME: &'static str = "assigned-within-capacity";
    const SUMMARY: &'static str = "No agent is assigned more jobs at once than it has room for.";
    const SUBJECT: &'static str = "agent";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut agents: BTreeMap<&Agent, BTreeSet<&Job>> = BTreeMap::new();
        let mut assigned: BTreeMap<&Job, &Agent> = BTreeMap::new();
        for entry in history.journal {
            let (Fact::JobOffered { job, .. }
            | Fact::JobRequeued { job, .. }
            | Fact::JobGivenUp { job, .. }
            | Fact::JobReported { job, accepted: true, .. }) = &entry.fact
            else {
                continue;
            };
            if let Some(before) = assigned.remove(job) {
                agents.entry(before).or_default().remove(job);
            }
            let Fact::JobOffered { agent, .. } = &entry.fact else { continue };
            assigned.insert(job, agent);
            let jobs = agents.entry(agent).or_default();
            jobs.insert(job);
            if jobs.len() > self.jobs {
                let (count, at, room) = (jobs.len(), entry.at, self.jobs);
                let message = format_args!(
                    "{job} was assigned to {agent} at {at}, which has {count} jobs with it and room for {room}"
                );
                found.breach(agent, at, message);
            }
        }
        found.subjects(agents.len());
    }
}

/// No attempt of a job is started a second time.
#[derive(Clone, Debug, Default)]
pub struct AttemptStartsOnce;

impl Rule for AttemptStartsOnce {
    const NAME: &'static str = "attempt-starts-once";
    const SUMMARY: &'static str = "No attempt of a job is started a second time.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut starts: BTreeMap<(&Job, u32), (SimTime, &Agent)> = BTreeMap::new();
        for entry in history.journal {
            let Fact::JobStarted { job, attempt, agent, worker } = &entry.fact else { continue };
            let Some((at, first)) = starts.insert((job, *attempt), (entry.at, agent)) else { continue };
            let message = format_args!(
                "attempt {attempt} of {job} was started at {at} on {first}, and again at {} on {agent} by {worker}",
                entry.at
            );
            found.breach(job, entry.at, message);
        }
        found.subjects(starts.len());
    }
}

/// A result that the server accepted never changes.
#[derive(Clone, Debug, Default)]
pub struct ReportedResultStays;

impl Rule for ReportedResultStays {
    const NAME: &'static str = "reported-result-stays";
    const SUMMARY: &'static str = "A result that the server accepted never changes.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut records: BTreeMap<(&Job, u32), (Outcome, SimTime)> = BTreeMap::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::JobReported { job, attempt, outcome, accepted: true } => {
                    let (first, at) = *records.entry((job, *attempt)).or_insert((*outcome, entry.at));
                    if first != *outcome {
                        let message = format_args!(
                            "attempt {attempt} of {job} was recorded as {first:?} at {at} and as {outcome:?} at {}",
                            entry.at
                        );
                        found.breach(job, entry.at, message);
                    }
                }
                Fact::JobGivenUp { job, attempt } => {
                    let Some((first, at)) = records.get(&(job, *attempt)) else { continue };
                    let message = format_args!(
                        "attempt {attempt} of {job} was recorded as {first:?} at {at} and given up at {}",
                        entry.at
                    );
                    found.breach(job, entry.at, message);
                }
                _ => {}
            }
        }
        found.subjects(records.len());
    }
}

/// A job that a worker finished is not turned into anything else by its own agent's report, unless the server has given
/// it up before.
#[derive(Clone, Debug, Default)]
pub struct FinishedJobNotFailed;

impl Rule for FinishedJobNotFailed {
    const NAME: &'static str = "finished-job-not-failed";
    const SUMMARY: &'static str = "A job that a worker finished with success is not recorded as anything else.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut finished: BTreeMap<(&Job, u32), (Run<'_>, SimTime)> = BTreeMap::new();
        let mut cancelled: BTreeSet<&Job> = BTreeSet::new();
        for entry in history.journal {
            if let Some(Change::Stopped(run, Outcome::Succeeded)) = running.follow(entry) {
                finished.insert((run.job, run.attempt), (run, entry.at));
            }
            match &entry.fact {
                Fact::JobCancelRequested { job } => {
                    cancelled.insert(job);
                }
                // It waits for no result any more.
                Fact::JobGivenUp { job, attempt } => drop(finished.remove(&(job, *attempt))),
                Fact::JobReported { job, attempt, outcome, accepted: true } if *outcome != Outcome::Succeeded => {
                    let Some((run, at)) = finished.get(&(job, *attempt)) else { continue };
                    if *outcome == Outcome::Cancelled && cancelled.contains(job) {
                        continue;
                    }
                    let message = format_args!(
                        "{} finished attempt {attempt} of {job} with success at {at} on {}, and {outcome:?} was \
                         recorded at {}",
                        run.worker, run.agent, entry.at
                    );
                    found.breach(job, entry.at, message);
                }
                _ => {}
            }
        }
        found.subjects(finished.len());
    }
}

/// Nothing of an attempt acts once a later attempt of the same job has started.
///
/// A worker whose machine has just gone on after a suspension is excused.
#[derive(Clone, Debug, Default)]
pub struct OldAttemptsSilent {
    /// What happens at most this long after the later attempt's start is no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for OldAttemptsSilent {
    const NAME: &'static str = "old-attempts-silent";
    const SUMMARY: &'static str = "Nothing of an attempt acts once a later attempt of the same job has started.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut attempts: BTreeMap<&Job, Vec<(u32, SimTime)>> = BTreeMap::new();
        let suspensions = Suspensions::of(history);
        for entry in history.journal {
            let Some((job, attempt, act)) = act_of_attempt(&entry.fact) else { continue };
            let starts = attempts.entry(job).or_default();
            if let Some((later, since)) = starts.iter().find(|(later, _)| *later > attempt) {
                if entry.at.since(*since) > self.grace && !suspensions.excuse(entry.node, entry.at) {
                    let message = format_args!(
                        "{act} attempt {attempt} of {job} at {}, {} after attempt {later} had started",
                        entry.at,
                        Span(entry.at.since(*since))
                    );
                    found.breach(job, entry.at, message);
                }
            } else if matches!(entry.fact, Fact::JobStarted { .. }) {
                starts.push((attempt, entry.at));
            }
        }
        found.subjects(attempts.values().filter(|starts| starts.len() > 1).count());
    }
}

fn act_of_attempt(fact: &Fact) -> Option<(&Job, u32, &'static str)> {
    Some(match fact {
        Fact::JobStarted { job, attempt, .. } => (job, *attempt, "a worker started"),
        Fact::JobEffect { job, attempt, .. } => (job, *attempt, "a worker had an effect for"),
        Fact::JobReported { job, attempt, accepted: true, .. } => (job, *attempt, "the server accepted a result of"),
        Fact::LeaseGranted { job, attempt, .. } => (job, *attempt, "the server granted a lease on"),
        Fact::LeaseRenewed { job, attempt, .. } => (job, *attempt, "the server extended the lease on"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use Outcome::{Abandoned, Cancelled, Failed, Succeeded};

    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_job_may_run_again_once_its_worker_has_stopped() {
        let facts = vec![(1, started("j", 1, "a", "w1")), (9, stopped("j", 1, "w1")), (9, started("j", 2, "b", "w2"))];
        holds(&NoJobRunsTwice::default(), 1, facts.clone());
        holds(&NoJobRunsTwice { same: Same::Attempt, ..NoJobRunsTwice::default() }, 2, facts);
    }

    #[test]
    fn two_workers_at_once_are_a_breach() {
        let facts = vec![
            (1, started("j", 1, "a", "w1")),
            (5, started("j", 1, "b", "w2")),
            (9, stopped("j", 1, "w1")),
            (9, started("other", 1, "a", "w3")),
        ];
        let broken = (5, "j", "no-job-runs-twice/job");
        breaks(&NoJobRunsTwice::default(), broken, &["w1", "w2", "0:00:05", "0:00:09"], facts.clone());
        breaks(&NoJobRunsTwice { same: Same::Attempt, grace: Duration::ZERO }, broken, &[], facts.clone());
        breaks(
            &NoJobRunsTwice { grace: Duration::from_secs(3), ..Default::default() },
            (8, broken.1, broken.2),
            &[],
            facts.clone(),
        );
        holds(&NoJobRunsTwice { grace: Duration::from_secs(4), ..Default::default() }, 2, facts);
    }

    #[test]
    fn two_attempts_at_once_are_a_breach_of_the_job_alone() {
        let facts = vec![(1, started("j", 1, "a", "w1")), (5, started("j", 2, "b", "w2"))];
        breaks(
            &NoJobRunsTwice::default(),
            (5, "j", "no-job-runs-twice/job"),
            &["attempt 1", "attempt 2"],
            facts.clone(),
        );
        holds(&NoJobRunsTwice { same: Same::Attempt, ..Default::default() }, 2, facts);
    }

    #[test]
    fn an_agent_executes_as_much_as_it_has_room_for() {
        let facts = vec![
            (1, started("i", 1, "a", "w1")),
            (2, started("j", 1, "a", "w2")),
            (3, stopped("i", 1, "w1")),
            (4, started("k", 1, "b", "w3")),
        ];
        holds(&AgentWithinCapacity { jobs: 2, ..Default::default() }, 2, facts.clone());
        let broken = (2, "a", "agent-within-capacity/agent");
        breaks(&AgentWithinCapacity::default(), broken, &["i (attempt 1)", "j (attempt 1)", "room for 1"], facts);
    }

    #[test]
    fn an_agent_is_assigned_as_much_as_it_has_room_for() {
        let room_for_two = AssignedWithinCapacity { jobs: 2 };
        let two = vec![(1, offered("i", 1, "a")), (2, offered("j", 1, "a")), (3, offered("j", 1, "a"))];
        let third = (9, offered("k", 1, "a"));
        let broken = (9, "a", "assigned-within-capacity/agent");
        breaks(&room_for_two, broken, &["k", "3 jobs", "room for 2"], [two.clone(), vec![third.clone()]].concat());
        let kept = [two.clone(), vec![(4, refused("j", 1, Succeeded)), third.clone()]].concat();
        breaks(&room_for_two, broken, &[], kept);
        for end in [requeued("j", 1), given_up("j", 1), reported("j", 1, Failed)] {
            holds(&room_for_two, 1, [two.clone(), vec![(4, end), third.clone()]].concat());
        }
        holds(&room_for_two, 2, [two, vec![(9, offered("k", 1, "b"))]].concat());
    }

    #[test]
    fn an_attempt_starts_once() {
        let mut facts = vec![(1, started("j", 1, "a", "w1")), (3, started("j", 2, "a", "w2"))];
        holds(&AttemptStartsOnce, 2, facts.clone());
        facts.push((4, started("j", 1, "b", "w3")));
        breaks(&AttemptStartsOnce, (4, "j", "attempt-starts-once/job"), &["0:00:01", "on a", "on b", "w3"], facts);
    }

    #[test]
    fn a_result_may_be_repeated_and_not_changed() {
        let facts = vec![(1, reported("j", 1, Failed)), (2, reported("j", 1, Failed)), (3, refused("j", 1, Succeeded))];
        holds(&ReportedResultStays, 2, [facts.clone(), vec![(4, reported("j", 2, Succeeded))]].concat());
        let broken = (5, "j", "reported-result-stays/job");
        let changed = [facts.clone(), vec![(5, reported("j", 1, Succeeded))]].concat();
        breaks(&ReportedResultStays, broken, &["Failed at 0:00:01", "Succeeded at 0:00:05"], changed);
        breaks(&ReportedResultStays, broken, &["given up"], [facts, vec![(5, given_up("j", 1))]].concat());
    }

    #[test]
    fn a_finished_job_stays_finished() {
        let run = vec![(1, started("j", 1, "a", "w1")), (5, stopped("j", 1, "w1"))];
        holds(&FinishedJobNotFailed, 1, [run.clone(), vec![(6, reported("j", 1, Succeeded))]].concat());
        holds(&FinishedJobNotFailed, 1, [run.clone(), vec![(6, refused("j", 1, Failed))]].concat());
        let cancelled = vec![(6, cancel("j")), (7, reported("j", 1, Cancelled))];
        holds(&FinishedJobNotFailed, 1, [run.clone(), cancelled].concat());
        let broken = (6, "j", "finished-job-not-failed/job");
        for outcome in [Failed, Abandoned, Cancelled] {
            let facts = [run.clone(), vec![(6, reported("j", 1, outcome))]].concat();
            breaks(&FinishedJobNotFailed, broken, &["w1", "0:00:05", "0:00:06"], facts);
        }
    }

    #[test]
    fn an_old_attempt_may_act_until_the_next_one_starts() {
        let facts = vec![
            (1, started("j", 1, "a", "w1")),
            (5, effect("j", 1, "w1")),
            (5, started("j", 2, "b", "w2")),
            (6, stopped("j", 1, "w1")),
            (6, refused("j", 1, Failed)),
            (7, effect("j", 2, "w2")),
        ];
        holds(&OldAttemptsSilent::default(), 1, facts);
    }

    #[test]
    fn an_old_attempt_that_acts_is_a_breach() {
        let acts = [
            effect("j", 1, "w1"),
            reported("j", 1, Failed),
            renewed("j", 1),
            granted("j", 1, "a"),
            started("j", 1, "a", "w3"),
        ];
        for act in acts {
            let facts = vec![(1, started("j", 1, "a", "w1")), (5, started("j", 2, "b", "w2")), (9, act)];
            let broken = (9, "j", "old-attempts-silent/job");
            breaks(&OldAttemptsSilent::default(), broken, &["attempt 1 of j", "4 s after attempt 2"], facts.clone());
            holds(&OldAttemptsSilent { grace: Duration::from_secs(4) }, 1, facts);
        }
    }
}
