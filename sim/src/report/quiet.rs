//! Jobs, messages and locks that went as they should: a story leaves their details out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, Lock, Message, Outcome, WorkerId};

use super::cast::words;
use crate::journal::Entry;
use crate::time::SimTime;
use crate::verdict::Verdict;

/// A lock that is given back before this is over has kept nobody waiting to speak of.
const LOCK_QUIET: Duration = Duration::from_secs(1);

/// What a story does not have to tell in full.
pub(crate) struct Quiet {
    jobs: BTreeMap<Job, QuietJob>,
    /// Those that executed one of these jobs.
    workers: BTreeSet<WorkerId>,
    messages: BTreeSet<Message>,
    /// Locks with the tokens by which they were held, and not for long.
    locks: BTreeSet<(Lock, u64)>,
}

/// A job that was queued, given to one agent, executed once and reported as succeeded.
pub(crate) struct QuietJob {
    pub(crate) queued_at: SimTime,
    pub(crate) agent: Agent,
}

/// How a story tells a fact.
pub(crate) enum Telling<'a> {
    /// As it is.
    Full,
    /// As the end of a job that went as it should.
    JobDone(&'a Job, &'a QuietJob),
    /// Not at all.
    Nothing,
}

impl Quiet {
    /// Looks for what went as it should and is no part of a finding.
    pub(crate) fn of(journal: &[Entry], verdict: &Verdict) -> Self {
        let mut jobs: BTreeMap<&Job, Vec<&Entry>> = BTreeMap::new();
        let mut messages: BTreeMap<&Message, Vec<&Entry>> = BTreeMap::new();
        for entry in journal {
            if let Some(job) = job_of(&entry.fact) {
                jobs.entry(job).or_default().push(entry);
            }
            if let Some(message) = message_of(&entry.fact) {
                messages.entry(message).or_default().push(entry);
            }
        }
        let quiet_job = |(job, told): (&Job, Vec<&Entry>)| {
            let quiet = quiet_job(&told).filter(|_| !concerns(verdict, &job.0))?;
            Some((job.clone(), quiet))
        };
        let quiet_message =
            |(message, told): &(&Message, Vec<&Entry>)| is_handled_then_acked(told) && !concerns(verdict, &message.0);
        let jobs: BTreeMap<Job, QuietJob> = jobs.into_iter().filter_map(quiet_job).collect();
        let quiet_worker = |entry: &Entry| match &entry.fact {
            Fact::JobStarted { job, worker, .. } if jobs.contains_key(job) => Some(worker.clone()),
            _ => None,
        };
        Self {
            workers: journal.iter().filter_map(quiet_worker).collect(),
            jobs,
            locks: quiet_locks(journal, verdict),
            messages: messages.into_iter().filter(quiet_message).map(|(message, _)| message.clone()).collect(),
        }
    }

    pub(crate) fn telling(&self, fact: &Fact) -> Telling<'_> {
        if let Some((job, quiet)) = job_of(fact).and_then(|job| self.jobs.get_key_value(job)) {
            return if matches!(fact, Fact::JobReported { .. }) {
                Telling::JobDone(job, quiet)
            } else {
                Telling::Nothing
            };
        }
        if matches!(fact, Fact::WorkerExited { worker, code: Some(_) } if self.workers.contains(worker)) {
            return Telling::Nothing;
        }
        if lock_of(fact).is_some_and(|(lock, token)| self.locks.contains(&(lock.clone(), token))) {
            return Telling::Nothing;
        }
        if message_of(fact).is_some_and(|message| self.messages.contains(message)) {
            return Telling::Nothing;
        }
        Telling::Full
    }
}

fn concerns(verdict: &Verdict, name: &str) -> bool {
    let mut findings = verdict.findings.iter();
    findings.any(|finding| words(&finding.subject).chain(words(&finding.message)).any(|word| word == name))
}

fn quiet_job(told: &[&Entry]) -> Option<QuietJob> {
    let (mut queued_at, mut agents, mut reports) = (None, BTreeSet::new(), 0);
    for entry in told {
        match &entry.fact {
            Fact::JobQueued { .. } => queued_at = Some(entry.at),
            Fact::JobStarted { agent, .. } | Fact::JobOffered { agent, .. } | Fact::LeaseGranted { agent, .. } => {
                agents.insert(agent);
            }
            Fact::JobReported { outcome: Outcome::Succeeded, accepted: true, attempt: 0 | 1, .. } => reports += 1,
            Fact::JobStopped { outcome: Outcome::Succeeded, .. }
            | Fact::JobArrived { .. }
            | Fact::JobEffect { .. }
            | Fact::LeaseRenewed { .. }
            | Fact::LeaseAnswered { .. }
            | Fact::LeaseReleased { .. }
            | Fact::LookUpAnswered { .. }
            | Fact::StageBegan { .. }
            | Fact::StageEnded { .. } => {}
            _ => return None,
        }
    }
    match agents.pop_first() {
        Some(agent) if agents.is_empty() && reports == 1 => {
            Some(QuietJob { queued_at: queued_at?, agent: agent.clone() })
        }
        _ => None,
    }
}

fn quiet_locks(journal: &[Entry], verdict: &Verdict) -> BTreeSet<(Lock, u64)> {
    let mut taken: BTreeMap<(&Lock, u64), SimTime> = BTreeMap::new();
    let mut quiet = BTreeSet::new();
    for entry in journal {
        match &entry.fact {
            Fact::LockTaken { lock, token, .. } => drop(taken.insert((lock, *token), entry.at)),
            Fact::LockReleased { lock, token } => {
                let held = taken.get(&(lock, *token)).map(|at| entry.at.since(*at));
                if held.is_some_and(|held| held < LOCK_QUIET) && !concerns(verdict, &lock.0) {
                    quiet.insert((lock.clone(), *token));
                }
            }
            _ => {}
        }
    }
    quiet
}

fn lock_of(fact: &Fact) -> Option<(&Lock, u64)> {
    match fact {
        Fact::LockTaken { lock, token, .. } | Fact::LockReleased { lock, token } => Some((lock, *token)),
        _ => None,
    }
}

fn is_handled_then_acked(told: &[&Entry]) -> bool {
    let place = |wanted: fn(&Fact) -> bool| told.iter().position(|entry| wanted(&entry.fact));
    let handled = place(|fact| matches!(fact, Fact::MessageHandled { .. }));
    let acked = place(|fact| matches!(fact, Fact::MessageAcked { .. }));
    matches!((handled, acked), (Some(handled), Some(acked)) if handled < acked)
}

fn job_of(fact: &Fact) -> Option<&Job> {
    match fact {
        Fact::JobQueued { job }
        | Fact::JobOffered { job, .. }
        | Fact::JobArrived { job, .. }
        | Fact::JobRequeued { job, .. }
        | Fact::JobCancelRequested { job }
        | Fact::JobCancelAnswered { job, .. }
        | Fact::JobStarted { job, .. }
        | Fact::JobEffect { job, .. }
        | Fact::JobStopped { job, .. }
        | Fact::JobAborted { job, .. }
        | Fact::JobReported { job, .. }
        | Fact::JobGivenUp { job, .. }
        | Fact::LeaseGranted { job, .. }
        | Fact::LeaseRenewed { job, .. }
        | Fact::LeaseAnswered { job, .. }
        | Fact::LeaseExpired { job, .. }
        | Fact::LeaseReleased { job, .. }
        | Fact::LookUpAnswered { job, .. }
        | Fact::StageBegan { job, .. }
        | Fact::StageEnded { job, .. }
        | Fact::StageAlert { job, .. } => Some(job),
        _ => None,
    }
}

fn message_of(fact: &Fact) -> Option<&Message> {
    match fact {
        Fact::MessageQueued { message, .. }
        | Fact::MessageDelivered { message, .. }
        | Fact::MessageAcked { message }
        | Fact::MessageHandled { message } => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::NodeId;
    use crate::verdict::{Finding, Severity};

    fn journal(facts: Vec<Fact>) -> Vec<Entry> {
        let entry = |(n, fact)| Entry { at: SimTime::from_secs(n as u64), node: NodeId::WORLD, fact };
        facts.into_iter().enumerate().map(entry).collect()
    }

    fn done(agents: [&str; 2]) -> Vec<Fact> {
        let (job, worker): (Job, squall_protocol::facts::WorkerId) = ("job-1".into(), "w".into());
        let outcome = Outcome::Succeeded;
        vec![
            Fact::JobQueued { job: job.clone() },
            Fact::JobOffered { job: job.clone(), attempt: 1, agent: agents[0].into() },
            Fact::JobStarted { job: job.clone(), attempt: 1, agent: agents[1].into(), worker },
            Fact::JobReported { job, attempt: 1, outcome, accepted: true },
        ]
    }

    fn told(facts: Vec<Fact>, verdict: &Verdict) -> usize {
        let journal = journal(facts);
        let quiet = Quiet::of(&journal, verdict);
        journal.iter().filter(|entry| !matches!(quiet.telling(&entry.fact), Telling::Nothing)).count()
    }

    #[test]
    fn a_job_that_went_well_is_told_once() {
        assert_eq!(told(done(["a", "a"]), &Verdict::default()), 1);
    }

    #[test]
    fn the_exit_of_its_worker_is_told_only_when_it_was_killed() {
        let exited = |worker: &str, code| Fact::WorkerExited { worker: worker.into(), code };
        for (exit, lines) in [(exited("w", Some(0)), 1), (exited("w", None), 2), (exited("v", Some(0)), 2)] {
            assert_eq!(told([done(["a", "a"]), vec![exit]].concat(), &Verdict::default()), lines);
        }
    }

    #[test]
    fn what_is_odd_or_found_is_told_in_full() {
        assert_eq!(told(done(["a", "b"]), &Verdict::default()), 4, "two agents had it");
        let mut expired = done(["a", "a"]);
        expired.push(Fact::LeaseExpired { job: "job-1".into(), attempt: 1 });
        assert_eq!(told(expired, &Verdict::default()), 5);
        let finding = Finding {
            severity: Severity::Violation,
            invariant: "x".to_owned(),
            subject_kind: "agent".to_owned(),
            subject: "a".to_owned(),
            at: SimTime::ZERO,
            message: "a was late with job-1.".to_owned(),
        };
        assert_eq!(told(done(["a", "a"]), &Verdict::of(vec![finding])), 4);
    }

    #[test]
    fn a_lock_is_told_that_is_kept_or_expires_or_is_found() {
        let (lock, holder) = (Lock::from("l"), Agent::from("h"));
        let taken = Fact::LockTaken { lock: lock.clone(), holder, token: 1 };
        let end = Fact::LockReleased { lock: lock.clone(), token: 1 };
        let at = |ends: u64, end: &Fact, verdict: &Verdict| {
            let mut entries = journal(vec![taken.clone(), end.clone()]);
            entries[1].at = SimTime::from_millis(ends);
            let quiet = Quiet::of(&entries, verdict);
            entries.iter().filter(|entry| !matches!(quiet.telling(&entry.fact), Telling::Nothing)).count()
        };
        assert_eq!(at(999, &end, &Verdict::default()), 0);
        assert_eq!(at(1_000, &end, &Verdict::default()), 2);
        assert_eq!(at(10, &Fact::LockExpired { lock, token: 1 }, &Verdict::default()), 2);
        let finding = Finding {
            severity: Severity::Violation,
            invariant: "x".to_owned(),
            subject_kind: "lock".to_owned(),
            subject: "l".to_owned(),
            at: SimTime::ZERO,
            message: "two held it".to_owned(),
        };
        assert_eq!(at(10, &end, &Verdict::of(vec![finding])), 2);
    }

    #[test]
    fn a_message_that_was_acked_before_it_was_handled_is_told() {
        let (queued, acked, handled) = (
            Fact::MessageQueued { message: "m".into(), agent: None },
            Fact::MessageAcked { message: "m".into() },
            Fact::MessageHandled { message: "m".into() },
        );
        assert_eq!(told(vec![queued.clone(), handled.clone(), acked.clone()], &Verdict::default()), 0);
        assert_eq!(told(vec![queued.clone(), acked.clone(), handled], &Verdict::default()), 3);
        assert_eq!(told(vec![queued, acked], &Verdict::default()), 2);
    }
}
