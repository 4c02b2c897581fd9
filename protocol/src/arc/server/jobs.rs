//! Jobs: from the queue to a scale set, to a runner, to their end.

use jiff::Timestamp;

use super::state::{Job, JobNumber, News, Phase, RunnerId, SetId, State};
use crate::arc::wire::NEVER;
use crate::deadlines::after;
use crate::facts::{Fact, Outcome};

impl State {
    /// Queues a job for the scale set of a name. A name that is known already queues nothing.
    pub(super) fn queue_job(&mut self, name: &str, set: &str, now: Timestamp) -> JobNumber {
        if let Some(known) = self.by_name.get(&name.into()) {
            return *known;
        }
        let (number, request) = (self.draw_number(), self.draw_number());
        let job = Job {
            number,
            name: name.into(),
            set: set.to_owned(),
            phase: Phase::Queued,
            attempt: 0,
            request,
            told: false,
            requeued: 0,
            queued_at: now,
            assigned_at: NEVER,
            started_at: NEVER,
            finished_at: NEVER,
            result: None,
        };
        self.record(Fact::JobQueued { job: job.name.clone() });
        self.by_name.insert(job.name.clone(), number);
        self.by_request.insert(request, number);
        self.jobs.insert(number, job);
        self.open.insert(number);
        self.wake(set);
        number
    }

    pub(super) fn wake(&self, set: &str) {
        if let Some(set) = self.set_named(set) {
            set.wake.notify(usize::MAX);
        }
    }

    /// The job becomes its scale set's.
    pub(super) fn assign(&mut self, number: JobNumber, set: SetId, now: Timestamp) {
        let agent = self.sets[&set].name.clone();
        let job = self.jobs.get_mut(&number).expect("whoever assigns it knows it");
        job.phase = Phase::Assigned;
        job.attempt += 1;
        job.assigned_at = now;
        let (name, attempt, request) = (job.name.clone(), job.attempt, job.request);
        self.retold.clear(&number);
        self.pickups.set(number, after(now, self.parameters.pickup));
        self.record(Fact::JobOffered { job: name, attempt, agent });
        self.tell(set, News::Assigned(request));
        self.work.notify(usize::MAX);
    }

    /// Puts something into the next message of a set.
    pub(super) fn tell(&mut self, set: SetId, news: News) {
        if let Some(name) = message_name(news) {
            let agent = self.sets.get(&set).map(|set| set.name.clone());
            self.record(Fact::MessageQueued { message: name, agent });
        }
        if let Some(set) = self.sets.get_mut(&set) {
            set.pending.push(news);
            set.wake.notify(usize::MAX);
        }
    }

    /// A job that was told of was not acquired: it is told of again.
    pub(super) fn tell_again(&mut self, number: JobNumber) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if job.phase == Phase::Queued {
            job.told = false;
            let set = job.set.clone();
            self.wake(&set);
        }
    }

    /// No runner took the job in time: it is queued again, or cancelled if that has happened too often.
    pub(super) fn not_picked_up(&mut self, number: JobNumber) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if job.requeued >= self.parameters.requeues {
            let (name, attempt) = (job.name.clone(), job.attempt);
            job.phase = Phase::Closed;
            job.result = Some(Outcome::Cancelled);
            self.open.remove(&number);
            self.record(Fact::JobGivenUp { job: name, attempt });
            return;
        }
        let request = {
            self.last_number += 1;
            self.last_number
        };
        job.requeued += 1;
        job.phase = Phase::Queued;
        job.told = false;
        job.request = request;
        let (name, attempt, set) = (job.name.clone(), job.attempt, job.set.clone());
        self.by_request.insert(request, number);
        self.record(Fact::JobRequeued { job: name, attempt });
        self.wake(&set);
    }

    /// A runner that asks for a job gets one, if one waits.
    pub(super) fn take_job(&mut self, runner: RunnerId, now: Timestamp) -> Option<JobNumber> {
        let set = self.runners.get(&runner)?.set;
        let name = self.sets.get(&set)?.name.clone();
        let waits = |job: &Job| job.phase == Phase::Assigned && job.set == *name.0;
        let number = *self.open.iter().find(|number| waits(&self.jobs[number]))?;
        self.pickups.clear(&number);
        let job = self.jobs.get_mut(&number)?;
        job.phase = Phase::Running(runner);
        job.started_at = now;
        let request = job.request;
        self.runners.get_mut(&runner)?.job = Some(number);
        self.tell(set, News::Started(request, runner));
        Some(number)
    }

    /// A runner reports the end of its job, and is gone: it was for one job.
    pub(super) fn complete(&mut self, runner: RunnerId, outcome: Outcome, now: Timestamp) {
        let Some(gone) = self.runners.remove(&runner) else { return };
        let Some(number) = gone.job else { return };
        let job = self.jobs.get_mut(&number).expect("a runner's job is known");
        let accepted = job.phase == Phase::Running(runner);
        let (name, attempt, request) = (job.name.clone(), job.attempt, job.request);
        if accepted {
            job.phase = Phase::Closed;
            job.finished_at = now;
            job.result = Some(outcome);
            self.open.remove(&number);
            self.orphans.clear(&number);
            self.tell(gone.set, News::Completed(request, runner));
        }
        self.record(Fact::JobReported { job: name, attempt, outcome, accepted });
    }

    /// A runner is gone without a word. Its job is given up when its lease has passed.
    pub(super) fn runner_lost(&mut self, runner: RunnerId, now: Timestamp) {
        let Some(lost) = self.runners.get(&runner) else { return };
        match lost.job {
            Some(job) => self.orphans.set(job, after(now, self.parameters.lease_life)),
            None => drop(self.runners.remove(&runner)),
        }
    }

    pub(super) fn give_up(&mut self, number: JobNumber, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let Phase::Running(runner) = job.phase else { return };
        job.phase = Phase::Closed;
        job.finished_at = now;
        job.result = Some(Outcome::Abandoned);
        let (name, attempt, request) = (job.name.clone(), job.attempt, job.request);
        self.open.remove(&number);
        self.record(Fact::JobGivenUp { job: name, attempt });
        if let Some(gone) = self.runners.remove(&runner) {
            self.tell(gone.set, News::Completed(request, runner));
        }
    }
}

/// The name, among facts, of what asks its receiver for an effect of its own; the others only tell of what the statistics
/// show anyway.
pub(super) fn message_name(news: News) -> Option<crate::facts::Message> {
    match news {
        News::Available(request) => Some(format!("available-{request}").into()),
        News::Started(request, _) => Some(crate::arc::cluster::started(request)),
        News::Assigned(_) | News::Completed(..) => None,
    }
}
