//! Offers: from a job's message to the lease that it becomes, or to its end.

use jiff::Timestamp;

use super::failure::Failure;
use super::parameters::{Acquire, AcquireReplay, Flow, LapsedOffer, Lifetime};
use super::state::{AgentId, JobNumber, Outgoing, Phase, Standing, State};
use crate::deadlines::after;
use crate::distributed_task::wire::{JobMessage, TaskResult, message_type};
use crate::facts::Fact;
use crate::queue::Redelivery;

impl State {
    /// Offers waiting jobs of a pool to its idle agents, the longest waiting and the longest idle first.
    pub(super) fn assign(&mut self, pool: i64, now: Timestamp) {
        loop {
            let job = self.waiting.get(&pool).and_then(|waiting| waiting.first().copied());
            let agent = self.idle.get(&pool).and_then(|idle| idle.first().map(|(_, agent)| *agent));
            let (Some(job), Some(agent)) = (job, agent) else { return };
            // It may have been there only for as long as what it has was overlooked.
            if !self.is_free(agent, now) {
                self.agent_changed(agent, now);
                continue;
            }
            self.waiting.entry(pool).or_default().remove(&job);
            self.offer(job, agent, now);
        }
    }

    fn offer(&mut self, number: JobNumber, id: AgentId, now: Timestamp) {
        let (request, lock) = (self.draw_uuid(), self.leases.allot());
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.phase = Phase::Offered(id);
        job.attempt += 1;
        (job.request, job.lock) = (request, lock);
        let (name, attempt) = (job.name.clone(), job.attempt);
        let lapsed = job.lapsed.take().filter(|(whose, _)| *whose == id).map(|(_, message)| message);
        // A cursor that has seen a later message would hide it.
        let is_last = |message: &i64| self.agents.get(&id).is_some_and(|agent| agent.queue.is_last(*message));
        let number_before = lapsed.filter(is_last);
        self.requests.insert(request, (number, attempt));
        let until = after(now, self.parameters.assignment_life);
        self.offers.set(number, until);
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if !agent.engaged.is_empty() {
            agent.was_overlooked(now);
        }
        agent.engaged.insert(number);
        let (agent_name, speaks) = (agent.name.clone(), agent.speaks);
        self.record(Fact::JobOffered { job: name, attempt, agent: agent_name });
        let (message, redelivery) = match speaks {
            Flow::V1 => {
                let body = self.job_message(number, Flow::V1, Some(until), now);
                let message = Outgoing::new(number, message_type::PIPELINE_AGENT_JOB_REQUEST, &body);
                (message, self.parameters.pool_redelivery)
            }
            Flow::V2 => {
                let message = Outgoing::new(number, message_type::RUNNER_JOB_REQUEST, &self.reference(request));
                (message, Redelivery::After(self.parameters.redelivery))
            }
        };
        let message = self.send_as(number_before, id, message, redelivery);
        if let (Some(job), Some(message)) = (self.jobs.get_mut(&number), message) {
            job.offered_by = message;
        }
        self.agent_changed(id, now);
    }

    /// Takes an offer (acquirejob).
    pub(super) fn acquire(
        &mut self,
        id: AgentId,
        request: &str,
        now: Timestamp,
    ) -> Result<(JobNumber, JobMessage), Failure> {
        let (number, attempt) = self.request(request).ok_or_else(|| Failure::JobNotFound(request.into()))?;
        let job = &self.jobs[&number];
        match job.phase {
            Phase::Closed(TaskResult::Canceled) => Err(Failure::Unprocessable(request.into())),
            Phase::Closed(_) => Err(Failure::JobNotFound(request.into())),
            _ if job.attempt != attempt => Err(Failure::AlreadyAcquired(request.into())),
            Phase::Offered(whose) if whose == id => {
                self.take(number, id, now);
                let until = self.leases.get(&number).map(|lease| lease.until);
                Ok((number, self.job_message(number, Flow::V2, until, now)))
            }
            Phase::Leased(whose) if whose == id && self.acquires_again() => {
                let until = self.leases.get(&number).map(|lease| lease.until);
                Ok((number, self.job_message(number, Flow::V2, until, now)))
            }
            Phase::Leased(_) => Err(Failure::AlreadyAcquired(request.into())),
            Phase::Queued | Phase::Offered(_) => Err(Failure::JobNotFound(request.into())),
        }
    }

    /// The job and the attempt that a text names.
    fn request(&self, text: &str) -> Option<(JobNumber, u32)> {
        self.requests.get(&text.parse().ok()?).copied()
    }

    fn acquires_again(&self) -> bool {
        self.policy.acquire == Acquire::Idempotent || self.parameters.acquire_replay == AcquireReplay::SameAnswer
    }

    /// The job of an offer, without taking it: what V1 clients may ask for by the message's name.
    pub(super) fn offered_job(&mut self, id: AgentId, request: &str, now: Timestamp) -> Result<JobMessage, Failure> {
        let (number, attempt) = self.request(request).ok_or_else(|| Failure::JobNotFound(request.into()))?;
        let job = &self.jobs[&number];
        match job.phase {
            Phase::Offered(whose) | Phase::Leased(whose) if whose == id && job.attempt == attempt => {
                let until = self.leases.get(&number).map(|lease| lease.until).or(self.offers.of(&number));
                Ok(self.job_message(number, Flow::V1, until, now))
            }
            _ => Err(Failure::JobNotFound(request.into())),
        }
    }

    /// The offer becomes a lease. A job message that its agent can no longer need is forgotten, if the agent does not
    /// delete messages itself.
    pub(super) fn take(&mut self, number: JobNumber, id: AgentId, now: Timestamp) {
        self.offers.clear(&number);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.phase = Phase::Leased(id);
        let (name, attempt, lock, offered_by) = (job.name.clone(), job.attempt, job.lock, job.offered_by);
        let Ok(lease) = self.leases.grant(number, id, lock, now) else { return };
        let Some(agent) = self.agents.get_mut(&id) else { return };
        let agent_name = agent.name.clone();
        let reference =
            |message: &Outgoing| message.about == number && message.kind == message_type::RUNNER_JOB_REQUEST;
        let gone = agent.queue.remove_where(reference);
        let acked: Vec<_> = gone.into_iter().map(|(id, _)| agent.message(id)).collect();
        let only_one = agent.lifetime == Lifetime::Ephemeral;
        self.record(Fact::LeaseGranted { job: name, attempt, agent: agent_name.clone(), until: lease.until });
        self.handled(id, offered_by);
        if only_one {
            self.record(Fact::AgentDismissed { agent: agent_name });
            self.stands(id, Standing::HasItsJob, now);
        }
        for message in acked {
            self.record(Fact::MessageAcked { message });
        }
    }

    /// The arrival of a job message is confirmed: it is not sent again. The job is nobody's yet, so the message is not
    /// acknowledged: that the runner does by acquiring the job.
    pub(super) fn confirm(&mut self, id: AgentId, request: &str) -> Result<(), Failure> {
        let missing = || Failure::NothingToAcknowledge(request.into());
        let (number, attempt) = self.request(request).ok_or_else(missing)?;
        let job = &self.jobs[&number];
        if job.phase != Phase::Offered(id) || job.attempt != attempt {
            return Err(missing());
        }
        let agent = self.agents.get_mut(&id).ok_or(Failure::AgentNotFound)?;
        agent.queue.remove_where(|message| message.about == number);
        Ok(())
    }

    /// Nobody took an offer in time.
    pub(super) fn offer_lapsed(&mut self, number: JobNumber, now: Timestamp) {
        if let (Phase::Offered(id), LapsedOffer::SameNumber) = (self.jobs[&number].phase, self.parameters.lapsed_offer)
        {
            self.remember(number, id);
        }
        self.offer_ended(number, now);
    }

    /// The message of an offer, if its agent has not deleted it, may bring the next one.
    fn remember(&mut self, number: JobNumber, id: AgentId) {
        let (Some(job), Some(agent)) = (self.jobs.get_mut(&number), self.agents.get(&id)) else { return };
        job.lapsed = agent.queue.iter().any(|(held, _)| held == job.offered_by).then_some((id, job.offered_by));
    }

    /// An offer is over: the job waits again.
    pub(super) fn offer_ended(&mut self, number: JobNumber, now: Timestamp) {
        if let Phase::Offered(id) = self.jobs[&number].phase {
            self.requeue(number, id, now);
        }
    }
}
