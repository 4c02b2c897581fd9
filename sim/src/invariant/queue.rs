//! Liveness of jobs: they are taken, they end, they stop when they are cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job};

use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::running::{Change, Counts, Running};
use super::{Findings, History, Rule};

/// Every job that is queued ends.
#[derive(Clone, Debug)]
pub struct QueuedJobEnds {
    /// Time for waiting, for all attempts and for the report. Default: 30 minutes.
    pub bound: Duration,
    /// What the server's giving up means. Default: [`GivingUp::EndsTheJob`].
    pub giving_up: GivingUp,
}

/// What it means that the server closes a job without a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivingUp {
    /// The job has ended, badly but clearly.
    EndsTheJob,
    /// The job still waits for a result.
    EndsNothing,
}

impl Default for QueuedJobEnds {
    fn default() -> Self {
        Self { bound: Duration::from_secs(30 * 60), giving_up: GivingUp::EndsTheJob }
    }
}

impl Rule for QueuedJobEnds {
    const NAME: &'static str = "queued-job-ends";
    const SUMMARY: &'static str = "Every job that is queued ends: its result is accepted, or the server gives it up.";
    const SUBJECT: &'static str = "job";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut pending: Deadlines<&Job> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, job: &Job, due: Due| {
            found.subject();
            if due.missed {
                let (since, by, heal) = (due.since, due.deadline, history.heal_at);
                let message = format_args!("{job}, queued at {since}, had not ended by {by} (heal was at {heal})");
                found.breach(job, by, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::JobQueued { job } | Fact::JobRequeued { job, .. } => pending.arise(job, entry.at),
                Fact::JobReported { job, accepted: true, .. } => {
                    pending.settle(job, entry.at).into_iter().for_each(|due| tell(found, job, due));
                }
                Fact::JobGivenUp { job, .. } if self.giving_up == GivingUp::EndsTheJob => {
                    pending.settle(job, entry.at).into_iter().for_each(|due| tell(found, job, due));
                }
                _ => {}
            }
        }
        pending.missed(history.end).for_each(|(job, due)| tell(found, job, due));
    }
}

/// A waiting job is started by an agent that the server shows as online and idle.
///
/// A job that is offered to an agent waits for that one; one that is not offered waits for any. The time of offering
/// begins anew with the offer.
#[derive(Clone, Debug)]
pub struct WaitingJobTaken {
    /// How long a job may wait while there is such an agent, from heal on: a poll, its answer and the waits between
    /// them. Default: 5 minutes.
    pub bound: Duration,
    /// What jobs wait for that are offered to nobody. Default: [`WaitsFor::AnyAgent`].
    pub waits_for: WaitsFor,
}

/// What a job waits for that is offered to no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Any agent may take it.
    AnyAgent,
    /// Something else, such as a lock: it waits for an agent from its offer on, until the agent has a lease on it.
    TheAgentItIsOfferedTo,
}

impl Default for WaitingJobTaken {
    fn default() -> Self {
        Self { bound: Duration::from_secs(5 * 60), waits_for: WaitsFor::AnyAgent }
    }
}

impl Rule for WaitingJobTaken {
    const NAME: &'static str = "waiting-job-taken";
    const SUMMARY: &'static str = "A waiting job is started by an agent that the server shows as online and idle.";
    const SUBJECT: &'static str = "job";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut waiting = Waiting { bound: self.bound, heal_at: history.heal_at, ..Waiting::default() };
        let mut idle: BTreeSet<&Agent> = BTreeSet::new();
        for entry in history.journal {
            let at = entry.at;
            match &entry.fact {
                Fact::JobQueued { job } | Fact::JobRequeued { job, .. } => match self.waits_for {
                    WaitsFor::AnyAgent => waiting.wait(job, None, at, found),
                    WaitsFor::TheAgentItIsOfferedTo => waiting.end(job, at, found),
                },
                Fact::JobOffered { job, agent, .. } => waiting.wait(job, Some(agent), at, found),
                // Somebody has it: whether it runs is another question.
                Fact::LeaseGranted { job, .. } if self.waits_for == WaitsFor::TheAgentItIsOfferedTo => {
                    waiting.end(job, at, found);
                }
                Fact::JobStarted { job, .. }
                | Fact::JobReported { job, accepted: true, .. }
                | Fact::JobGivenUp { job, .. }
                | Fact::JobCancelRequested { job } => waiting.end(job, at, found),
                Fact::AgentShown { agent, online: true, busy: false } => {
                    if idle.insert(agent) {
                        waiting.idle_from(Some(agent), at);
                    }
                    waiting.idle_from(None, at);
                }
                Fact::AgentShown { agent, .. } => {
                    if idle.remove(agent) {
                        waiting.idle_until(Some(agent), at, found);
                    }
                    if idle.is_empty() {
                        waiting.idle_until(None, at, found);
                    }
                }
                _ => {}
            }
        }
        waiting.end_all(history.end, found);
    }
}

/// Jobs that wait, each in the queue of the agent it is offered to or in the queue for any agent.
#[derive(Default)]
struct Waiting<'a> {
    bound: Duration,
    heal_at: SimTime,
    jobs: BTreeMap<&'a Job, (Option<&'a Agent>, SimTime)>,
    queues: BTreeMap<Option<&'a Agent>, Queue<'a>>,
}

#[derive(Default)]
struct Queue<'a> {
    idle_since: Option<SimTime>,
    /// The longest waiting first, so that few have to be looked at when the idle time ends.
    jobs: BTreeSet<(SimTime, &'a Job)>,
}

impl<'a> Waiting<'a> {
    fn wait(&mut self, job: &'a Job, agent: Option<&'a Agent>, at: SimTime, found: &mut Findings) {
        self.end(job, at, found);
        self.jobs.insert(job, (agent, at));
        self.queues.entry(agent).or_default().jobs.insert((at, job));
    }

    fn end(&mut self, job: &'a Job, at: SimTime, found: &mut Findings) {
        let Some((agent, since)) = self.jobs.remove(job) else { return };
        let queue = self.queues.entry(agent).or_default();
        queue.jobs.remove(&(since, job));
        let Some(idle_since) = queue.idle_since else { return };
        found.subject();
        self.tell(job, agent, since.max(idle_since), at, found);
    }

    fn idle_from(&mut self, agent: Option<&'a Agent>, at: SimTime) {
        self.queues.entry(agent).or_default().idle_since.get_or_insert(at);
    }

    fn idle_until(&mut self, agent: Option<&'a Agent>, at: SimTime, found: &mut Findings) {
        let queue = self.queues.entry(agent).or_default();
        let Some(idle_since) = queue.idle_since.take() else { return };
        let mut late = Vec::new();
        while let Some((since, job)) = queue.jobs.first().copied() {
            if at <= since.max(idle_since).max(self.heal_at) + self.bound {
                break;
            }
            queue.jobs.remove(&(since, job));
            late.push((since, job));
        }
        for (since, job) in late {
            found.subject();
            self.jobs.remove(job);
            self.tell(job, agent, since.max(idle_since), at, found);
        }
    }

    fn end_all(&mut self, end: SimTime, found: &mut Findings) {
        let agents: Vec<_> = self.queues.keys().copied().collect();
        for agent in agents {
            self.idle_until(agent, end, found);
        }
    }

    fn tell(&self, job: &Job, agent: Option<&Agent>, from: SimTime, until: SimTime, found: &mut Findings) {
        let from = from.max(self.heal_at);
        if until <= from + self.bound {
            return;
        }
        let (waited, bound) = (Span(until.since(from)), Span(self.bound));
        let whom = agent.map_or("some agent was".to_owned(), |agent| format!("{agent}, to which it was offered, was"));
        let message = format_args!(
            "{job} waited for {waited} from {from} to {until} although {whom} shown as online and idle all the while; \
             the bound is {bound}"
        );
        found.breach(job, from + self.bound, message);
    }
}

/// A job stops when somebody has asked for its end.
#[derive(Clone, Debug)]
pub struct CancelledJobStops {
    /// Time for the request to arrive, for the job to end by itself and for being killed. Default: 6 minutes, a
    /// cancel time-out of 5 and one more.
    pub bound: Duration,
}

impl Default for CancelledJobStops {
    fn default() -> Self {
        Self { bound: Duration::from_secs(6 * 60) }
    }
}

impl Rule for CancelledJobStops {
    const NAME: &'static str = "cancelled-job-stops";
    const SUMMARY: &'static str = "No worker goes on executing a job whose end was asked for.";
    const SUBJECT: &'static str = "job";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut workers: Counts<&Job> = Counts::default();
        let mut cancelled: BTreeMap<&Job, SimTime> = BTreeMap::new();
        let mut stopping: Deadlines<&Job> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, job: &Job, asked: Option<&SimTime>, due: Due| {
            found.subject();
            if due.missed {
                let message = format_args!(
                    "{job} was cancelled at {}, and a worker still executed it at {} (heal was at {})",
                    asked.copied().unwrap_or(due.since),
                    due.deadline,
                    history.heal_at
                );
                found.breach(job, due.deadline, message);
            }
        };
        for entry in history.journal {
            match running.follow(entry) {
                Some(Change::Started(run)) => {
                    let first = workers.add(run.job);
                    if first && cancelled.contains_key(run.job) {
                        stopping.arise(run.job, entry.at);
                    }
                }
                Some(Change::Stopped(run, _)) => {
                    let last = workers.remove(&run.job);
                    if last {
                        let due = stopping.settle(run.job, entry.at);
                        due.into_iter().for_each(|due| tell(found, run.job, cancelled.get(run.job), due));
                    }
                }
                None => {}
            }
            match &entry.fact {
                Fact::JobCancelRequested { job } => {
                    cancelled.entry(job).or_insert(entry.at);
                    if workers.any(&job) {
                        stopping.arise(job, entry.at);
                    }
                }
                // Whoever queues it again wants it done.
                Fact::JobQueued { job } | Fact::JobRequeued { job, .. } => {
                    cancelled.remove(job);
                }
                _ => {}
            }
        }
        stopping.missed(history.end).for_each(|(job, due)| tell(found, job, cancelled.get(job), due));
    }
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::Outcome::{Failed, Succeeded};

    use super::super::testing::*;
    use super::*;

    #[test]
    fn jobs_end_by_a_report_or_by_being_given_up() {
        let facts = vec![
            (1, queued("i")),
            (1, queued("j")),
            (1_500, reported("i", 1, Succeeded)),
            (2_000, given_up("j", 1)),
            (9_000, queued("too late to tell")),
        ];
        holds(&QueuedJobEnds::default(), 2, facts.clone());
        let strict = QueuedJobEnds { giving_up: GivingUp::EndsNothing, ..QueuedJobEnds::default() };
        breaks(&strict, (2_800, "j", "queued-job-ends/job"), &["queued at 0:00:01", "0:46:40"], facts);
    }

    #[test]
    fn a_job_that_ends_late_or_never_is_a_breach() {
        let broken = (4_800, "j", "queued-job-ends/job");
        let facts = vec![(3_000, queued("j")), (3_500, refused("j", 1, Failed))];
        breaks(&QueuedJobEnds::default(), broken, &["0:50:00", "1:20:00"], facts.clone());
        let late = [facts, vec![(4_900, reported("j", 1, Succeeded))]].concat();
        breaks(&QueuedJobEnds::default(), broken, &[], late);
    }

    #[test]
    fn a_requeued_job_must_end_as_well() {
        let facts = vec![(1, queued("j")), (9, reported("j", 1, Failed)), (20, requeued("j", 1))];
        breaks(&QueuedJobEnds::default(), (2_800, "j", "queued-job-ends/job"), &["0:00:20"], facts);
    }

    #[test]
    fn jobs_wait_as_long_as_nobody_is_idle() {
        let facts = vec![
            (1, queued("i")),
            (1, queued("j")),
            (1_000, shown_busy("a")),
            (5_000, shown_idle("a")),
            (5_100, offered("i", 1, "a")),
            (5_200, started("i", 1, "a", "w1")),
            (5_201, shown_busy("a")),
            (7_000, shown_idle("a")),
            (7_250, shown_offline("a")),
            (9_000, shown_idle("a")),
            (9_300, started("j", 1, "a", "w2")),
        ];
        // One for being offered, one for each start.
        holds(&WaitingJobTaken::default(), 3, facts);
    }

    #[test]
    fn faults_excuse_a_wait() {
        let facts = vec![(1, shown_idle("a")), (5, queued("j")), (1_300, started("j", 1, "a", "w"))];
        holds(&WaitingJobTaken::default(), 1, facts);
    }

    #[test]
    fn a_job_that_waits_beside_an_idle_agent_is_a_breach() {
        let broken = (2_300, "j", "waiting-job-taken/job");
        let facts = vec![(1, shown_idle("a")), (2_000, queued("j"))];
        breaks(&WaitingJobTaken::default(), broken, &["some agent was", "5 min", "0:33:20"], facts.clone());
        for end in [shown_offline("a"), started("j", 1, "a", "w"), given_up("j", 1), offered("j", 1, "a")] {
            let facts = [facts.clone(), vec![(2_301, end), (2_302, started("j", 1, "a", "w"))]].concat();
            breaks(&WaitingJobTaken::default(), broken, &["0:38:21"], facts);
        }
    }

    #[test]
    fn an_offered_job_waits_for_its_own_agent() {
        let facts = vec![
            (1_500, shown_idle("a")),
            (1_500, shown_idle("b")),
            (1_600, shown_offline("b")),
            (2_000, queued("j")),
            (2_000, offered("j", 1, "b")),
        ];
        holds(&WaitingJobTaken::default(), 1, facts.clone());
        let facts = [facts, vec![(3_000, shown_idle("b"))]].concat();
        breaks(
            &WaitingJobTaken::default(),
            (3_300, "j", "waiting-job-taken/job"),
            &["b, to which it was offered"],
            facts,
        );
    }

    #[test]
    fn a_job_may_wait_for_something_else_than_an_agent() {
        let rule = WaitingJobTaken { waits_for: WaitsFor::TheAgentItIsOfferedTo, ..WaitingJobTaken::default() };
        let facts = vec![(1_500, shown_idle("a")), (2_000, queued("j")), (3_000, offered("j", 1, "a"))];
        let taken = [facts.clone(), vec![(3_100, started("j", 1, "a", "w"))]].concat();
        holds(&rule, 1, taken);
        holds(&rule, 1, [facts.clone(), vec![(3_100, granted("j", 1, "a"))]].concat());
        let broken = (3_300, "j", "waiting-job-taken/job");
        breaks(&rule, broken, &["a, to which it was offered"], facts);
    }

    #[test]
    fn a_cancelled_job_stops_in_time() {
        let facts = vec![
            (1_990, started("j", 1, "a", "w1")),
            (2_000, cancel("j")),
            (2_100, started("j", 1, "b", "w2")),
            (2_200, stopped("j", 1, "w1")),
            (2_360, stopped("j", 1, "w2")),
            (2_400, cancel("never started")),
        ];
        holds(&CancelledJobStops::default(), 1, facts);
        let again = vec![
            (10, cancel("j")),
            (20, requeued("j", 1)),
            (30, started("j", 2, "a", "w1")),
            (9_000, stopped("j", 2, "w1")),
        ];
        holds(&CancelledJobStops::default(), 0, again);
    }

    #[test]
    fn a_cancelled_job_that_goes_on_is_a_breach() {
        let broken = (2_360, "j", "cancelled-job-stops/job");
        let facts = vec![(1_990, started("j", 1, "a", "w1")), (2_000, cancel("j")), (2_300, cancel("j"))];
        breaks(&CancelledJobStops::default(), broken, &["0:33:20", "0:39:20"], facts.clone());
        let late = [facts, vec![(2_361, stopped("j", 1, "w1"))]].concat();
        breaks(&CancelledJobStops::default(), broken, &[], late);
        let started_later = vec![(1_500, cancel("j")), (2_000, started("j", 1, "a", "w1"))];
        breaks(&CancelledJobStops::default(), broken, &["0:25:00"], started_later);
    }
}
