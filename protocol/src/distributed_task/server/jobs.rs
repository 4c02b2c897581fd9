//! Jobs in the store: queued, offered, leased, closed.

use jiff::Timestamp;
use uuid::Uuid;

use super::failure::Failure;
use super::parameters::{
    Acquire, AcquireReplay, Completion, Flow, JobSpec, LapsedOffer, Lifetime, OnLeaseExpiry, ResultRule,
};
use super::state::{AgentId, Job, JobNumber, NO_JOB, Outgoing, Phase, Standing, State, Subject};
use crate::deadlines::after;
use crate::distributed_task::wire::{
    AgentRefreshMessage, JobCancelMessage, JobMessage, TaskAgentJobRequest, TaskResult, message_type,
};
use crate::facts::{self, Fact};
use crate::http::Receipt;
use crate::lease::{Fencing, NoLease};
use crate::queue::Redelivery;

/// Who reports or renews, and what he presents.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) subject: Subject,
    /// The token of a lease; `None` when the call has none that says anything.
    pub(super) lock: Option<u64>,
}

impl State {
    /// Queues a job; a name that is known already is that of the known job.
    pub(super) fn queue_job(&mut self, spec: JobSpec, now: Timestamp) -> JobNumber {
        let name = facts::Job::from(&spec.name);
        if let Some(known) = self.by_name.get(&name) {
            return *known;
        }
        let number = self.jobs.last_key_value().map_or(0, |(last, _)| *last) + 1;
        let (id, plan, timeline) = (self.draw_uuid(), self.draw_uuid(), self.draw_uuid());
        let pool = spec.pool;
        let job = Job {
            number,
            name: name.clone(),
            id,
            plan,
            timeline,
            spec,
            phase: Phase::Queued,
            attempt: 0,
            lock: 0,
            request: Uuid::nil(),
            offered_by: 0,
            lapsed: None,
            cancelled_by: None,
            cancel_requested: false,
            queued_at: now,
            finished_at: None,
            logs: 0,
        };
        self.record(Fact::JobQueued { job: name.clone() });
        self.jobs.insert(number, job);
        self.by_job.insert(id, number);
        self.by_name.insert(name, number);
        self.waiting.entry(pool).or_default().insert(number);
        self.assign(pool, now);
        number
    }

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
        let (kind, body, redelivery) = match speaks {
            Flow::V1 => {
                let body = self.job_message(number, Flow::V1, Some(until), now);
                (message_type::PIPELINE_AGENT_JOB_REQUEST, json(&body), self.parameters.pool_redelivery)
            }
            Flow::V2 => {
                let body = self.reference(request);
                (message_type::RUNNER_JOB_REQUEST, json(&body), Redelivery::After(self.parameters.redelivery))
            }
        };
        let message = self.send_as(number_before, id, Outgoing { about: number, kind, body }, redelivery);
        if let (Some(job), Some(message)) = (self.jobs.get_mut(&number), message) {
            job.offered_by = message;
        }
        self.agent_changed(id, now);
    }

    /// Tells an agent to update itself.
    pub(super) fn order_update(&mut self, id: AgentId, version: &str) -> Result<(), Failure> {
        let agent = self.agents.get(&id).ok_or(Failure::AgentNotFound)?.name.clone();
        self.record(Fact::AgentUpdateRequested { agent });
        let order = AgentRefreshMessage { agent_id: id, target_version: version.into() };
        let message = Outgoing { about: NO_JOB, kind: message_type::AGENT_REFRESH, body: json(&order) };
        self.send(id, message, self.parameters.pool_redelivery);
        Ok(())
    }

    /// Puts a message into an agent's queue. Returns its number, if there is such an agent.
    fn send(&mut self, id: AgentId, message: Outgoing, redelivery: Redelivery) -> Option<i64> {
        self.send_as(None, id, message, redelivery)
    }

    /// The same, by a number that a message in this queue had before.
    fn send_as(
        &mut self,
        number_before: Option<i64>,
        id: AgentId,
        message: Outgoing,
        redelivery: Redelivery,
    ) -> Option<i64> {
        let agent = self.agents.get_mut(&id)?;
        let number = match number_before {
            Some(number) => agent.queue.put_back(number, message, redelivery),
            None => agent.queue.push(message, redelivery),
        };
        agent.wake.notify(usize::MAX);
        let (message, agent) = (agent.message(number), Some(agent.name.clone()));
        self.record(Fact::MessageQueued { message, agent });
        Some(number)
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
    fn take(&mut self, number: JobNumber, id: AgentId, now: Timestamp) {
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

    /// Extends the lease on a job; in V1 the first time also takes it.
    pub(super) fn renew(&mut self, number: JobNumber, caller: &Caller, now: Timestamp) -> Result<Timestamp, Failure> {
        let text = number.to_string();
        let job = self.jobs.get(&number).ok_or_else(|| Failure::JobNotFound(text.clone()))?;
        self.check_caller(job, caller)?;
        match (job.phase, &caller.subject) {
            (Phase::Offered(whose), Subject::Agent(id)) if whose == *id => {
                self.take(number, whose, now);
                self.leases.get(&number).map(|lease| lease.until).ok_or(Failure::JobNotFound(text))
            }
            (Phase::Offered(whose) | Phase::Leased(whose), subject) if is_other(subject, whose) => {
                Err(Failure::StaleLease(text))
            }
            _ => {
                let renewed = self.leases.renew(&number, caller.lock, now).map_err(|why| match why {
                    NoLease::NotHeld => Failure::JobNotFound(text.clone()),
                    NoLease::Stale => Failure::StaleLease(text.clone()),
                })?;
                let job = &self.jobs[&number];
                let (name, attempt) = (job.name.clone(), job.attempt);
                self.record(Fact::LeaseRenewed { job: name, attempt, until: renewed.until });
                Ok(renewed.until)
            }
        }
    }

    /// What its holder may know of a job's lease once the answer that tells it has arrived.
    pub(super) fn receipt(&self, number: JobNumber) -> Option<Receipt> {
        self.leased(number).map(Receipt::from)
    }

    /// The same of an answer that hands the job over, too.
    pub(super) fn receipt_of_job(&self, number: JobNumber) -> Receipt {
        Receipt(self.leased(number).into_iter().chain(self.arrival(number)).collect())
    }

    fn leased(&self, number: JobNumber) -> Option<Fact> {
        let (job, lease) = (self.jobs.get(&number)?, self.leases.get(&number)?);
        Some(Fact::LeaseAnswered { job: job.name.clone(), attempt: job.attempt, until: lease.until })
    }

    /// The job has arrived at its agent once the answer that hands it over has.
    pub(super) fn arrival(&self, number: JobNumber) -> Option<Fact> {
        let job = self.jobs.get(&number)?;
        let (Phase::Offered(id) | Phase::Leased(id)) = job.phase else { return None };
        let agent = self.agents.get(&id)?.name.clone();
        Some(Fact::JobArrived { job: job.name.clone(), attempt: job.attempt, agent })
    }

    /// Is the caller one who may act on this job at all, and on this attempt if leases are fenced?
    fn check_caller(&self, job: &Job, caller: &Caller) -> Result<(), Failure> {
        if let Subject::Attempt(number, _) = caller.subject
            && number != job.number
        {
            return Err(Failure::PlanSecurity(job.plan.to_string()));
        }
        if self.policy.fencing == Fencing::Checked && caller.lock != Some(job.lock) {
            return Err(Failure::StaleLease(job.id.to_string()));
        }
        Ok(())
    }

    /// A result arrives.
    pub(super) fn report(
        &mut self,
        number: JobNumber,
        result: TaskResult,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let job = self.jobs.get(&number).ok_or_else(|| Failure::JobNotFound(number.to_string()))?;
        let attempt = match caller.subject {
            Subject::Attempt(_, attempt) => attempt,
            Subject::Agent(_) => job.attempt,
        };
        let (name, id, phase, last_attempt) = (job.name.clone(), job.id.to_string(), job.phase, job.attempt);
        let verdict = match self.check_caller(job, caller) {
            Err(Failure::PlanSecurity(plan)) => return Err(Failure::PlanSecurity(plan)),
            Err(refused) => Err(refused),
            Ok(()) => match phase {
                Phase::Closed(before) => self.report_again(before, result, id),
                // That the last attempt came to nothing is known: the job waits for the next one.
                Phase::Queued if self.policy.fencing == Fencing::Checked && result == TaskResult::Abandoned => {
                    Err(Failure::StaleLease(id))
                }
                Phase::Offered(whose) | Phase::Leased(whose) if is_other(&caller.subject, whose) => {
                    Err(Failure::StaleLease(id))
                }
                _ => Ok(Change::Recorded),
            },
        };
        let accepted = match (&verdict, phase) {
            (Ok(_), _) => true,
            (Err(_), Phase::Closed(before)) => before == result && attempt == last_attempt,
            (Err(_), _) => false,
        };
        self.record(Fact::JobReported { job: name, attempt, outcome: result.outcome(), accepted });
        if verdict? == Change::Recorded {
            self.close(number, result, now);
        }
        Ok(())
    }

    fn report_again(&self, before: TaskResult, result: TaskResult, id: String) -> Result<Change, Failure> {
        match (self.policy.completion, self.parameters.result_rule) {
            (Completion::Idempotent, _) if before == result => Ok(Change::Nothing),
            (Completion::AsTheRuleSays, ResultRule::LastWrite) => Ok(Change::Recorded),
            _ => Err(Failure::JobNotFound(id)),
        }
    }

    /// Ends a job with a result.
    fn close(&mut self, number: JobNumber, result: TaskResult, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let (name, attempt, phase) = (job.name.clone(), job.attempt, job.phase);
        let (offered_by, cancelled_by) = (job.offered_by, job.cancelled_by.take());
        job.phase = Phase::Closed(result);
        job.finished_at = Some(now);
        self.offers.clear(&number);
        if self.leases.revoke(&number).is_some() {
            self.record(Fact::LeaseReleased { job: name, attempt });
        }
        // Nothing is left to be done about what its agent was told.
        match phase {
            Phase::Offered(id) => {
                self.handled(id, offered_by);
                self.disengage(number, id, now);
            }
            Phase::Leased(id) => {
                cancelled_by.into_iter().for_each(|message| self.handled(id, message));
                self.disengage(number, id, now);
            }
            Phase::Queued => {
                let pool = self.jobs[&number].spec.pool;
                self.waiting.entry(pool).or_default().remove(&number);
            }
            Phase::Closed(_) => {}
        }
    }

    /// The agent no longer has to do with the job: its messages about it are withdrawn.
    fn disengage(&mut self, number: JobNumber, id: AgentId, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.queue.remove_where(|message| message.about == number);
        agent.engaged.remove(&number);
        if agent.standing == Standing::HasItsJob && agent.engaged.is_empty() {
            agent.standing = Standing::Gone;
        }
        self.agent_changed(id, now);
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

    /// Nobody renewed a lease in time.
    pub(super) fn lease_ended(&mut self, number: JobNumber, holder: AgentId, now: Timestamp) {
        let job = &self.jobs[&number];
        let (name, attempt) = (job.name.clone(), job.attempt);
        self.record(Fact::LeaseExpired { job: name.clone(), attempt });
        match self.parameters.on_lease_expiry {
            OnLeaseExpiry::Requeue if !job.cancel_requested => self.requeue(number, holder, now),
            OnLeaseExpiry::Requeue | OnLeaseExpiry::FailJob => {
                self.record(Fact::JobGivenUp { job: name, attempt });
                self.close(number, TaskResult::Abandoned, now);
            }
        }
    }

    fn requeue(&mut self, number: JobNumber, holder: AgentId, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.phase = Phase::Queued;
        let (name, attempt, pool) = (job.name.clone(), job.attempt, job.spec.pool);
        self.record(Fact::JobRequeued { job: name, attempt });
        self.waiting.entry(pool).or_default().insert(number);
        self.disengage(number, holder, now);
        self.assign(pool, now);
    }

    /// Somebody asks for the end of a job. One that no agent has ends at once; an agent is told. Where that is not in the
    /// pool any more, the job ends with its lease at the latest.
    pub(super) fn cancel(&mut self, number: JobNumber, now: Timestamp) -> Result<(), Failure> {
        let State { jobs, agents, .. } = self;
        let job = jobs.get_mut(&number).ok_or_else(|| Failure::JobNotFound(number.to_string()))?;
        if job.cancel_requested || matches!(job.phase, Phase::Closed(_)) {
            return Ok(());
        }
        job.cancel_requested = true;
        let is_out = |id: &AgentId| agents.get(id).is_none_or(|agent| agent.standing == Standing::Gone);
        if matches!(&job.phase, Phase::Leased(id) if is_out(id)) {
            // There is nobody who could be late to heed it.
            return Ok(());
        }
        let (name, attempt, phase, job_id) = (job.name.clone(), job.attempt, job.phase, job.id);
        self.record(Fact::JobCancelRequested { job: name.clone() });
        match phase {
            Phase::Leased(id) => {
                let body = JobCancelMessage { job_id, timeout: self.parameters.cancel_timeout };
                let redelivery = match self.agents.get(&id).map(|agent| agent.speaks) {
                    Some(Flow::V2) => Redelivery::After(self.parameters.cancel_redelivery),
                    _ => self.parameters.pool_redelivery,
                };
                let message = Outgoing { about: number, kind: message_type::JOB_CANCELLATION, body: json(&body) };
                let message = self.send(id, message, redelivery);
                if let Some(job) = self.jobs.get_mut(&number) {
                    job.cancelled_by = message;
                }
            }
            Phase::Queued | Phase::Offered(_) => {
                self.record(Fact::JobGivenUp { job: name, attempt });
                self.close(number, TaskResult::Canceled, now);
            }
            Phase::Closed(_) => {}
        }
        Ok(())
    }

    /// The pool's account of a job.
    pub(super) fn account(&self, number: JobNumber) -> Result<TaskAgentJobRequest, Failure> {
        let job = self.jobs.get(&number).ok_or_else(|| Failure::JobNotFound(number.to_string()))?;
        let (reserved, result) = match job.phase {
            Phase::Offered(id) | Phase::Leased(id) => (self.agents.get(&id), None),
            Phase::Closed(result) => (None, Some(result)),
            Phase::Queued => (None, None),
        };
        Ok(TaskAgentJobRequest {
            request_id: number,
            queue_time: Some(job.queued_at),
            finish_time: job.finished_at,
            locked_until: self.leases.get(&number).map(|lease| lease.until).or(self.offers.of(&number)),
            result,
            job_id: Some(job.id),
            job_name: Some(job.name.to_string()),
            plan_id: Some(job.plan),
            plan_type: Some(self.parameters.hub.clone()),
            scope_id: Some(Uuid::nil()),
            reserved_agent: reserved.map(|agent| self.agent_body(agent)),
            ..TaskAgentJobRequest::default()
        })
    }
}

/// Is it an agent that speaks, and not the one that has the job?
fn is_other(subject: &Subject, whose: AgentId) -> bool {
    matches!(subject, Subject::Agent(id) if *id != whose)
}

/// What a report does to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Recorded,
    Nothing,
}

fn json(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("wire types are plain JSON")
}
