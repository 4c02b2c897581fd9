//! Jobs in the store: queued, leased, closed.

use jiff::Timestamp;
use uuid::Uuid;

use super::failure::Failure;
use super::parameters::{Completion, Flow, JobSpec, OnLeaseExpiry, ResultRule};
use super::state::{AgentId, Job, JobNumber, NO_JOB, Outgoing, Phase, Standing, State, Subject};
use crate::distributed_task::wire::{
    AgentRefreshMessage, JobCancelMessage, TaskAgentJobRequest, TaskResult, message_type,
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

    /// Tells an agent to update itself.
    pub(super) fn order_update(&mut self, id: AgentId, version: &str) -> Result<(), Failure> {
        let agent = self.agents.get(&id).ok_or(Failure::AgentNotFound)?.name.clone();
        self.record(Fact::AgentUpdateRequested { agent });
        let order = AgentRefreshMessage { agent_id: id, target_version: version.into() };
        let message = Outgoing::new(NO_JOB, message_type::AGENT_REFRESH, &order);
        self.send(id, message, self.parameters.pool_redelivery);
        Ok(())
    }

    /// Puts a message into an agent's queue. Returns its number, if there is such an agent.
    fn send(&mut self, id: AgentId, message: Outgoing, redelivery: Redelivery) -> Option<i64> {
        self.send_as(None, id, message, redelivery)
    }

    /// The same, by a number that a message in this queue had before.
    pub(super) fn send_as(
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
    pub(super) fn disengage(&mut self, number: JobNumber, id: AgentId, now: Timestamp) {
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.queue.remove_where(|message| message.about == number);
        agent.engaged.remove(&number);
        if agent.standing == Standing::HasItsJob && agent.engaged.is_empty() {
            agent.standing = Standing::Gone;
        }
        self.agent_changed(id, now);
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

    pub(super) fn requeue(&mut self, number: JobNumber, holder: AgentId, now: Timestamp) {
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
                let message = Outgoing::new(number, message_type::JOB_CANCELLATION, &body);
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
