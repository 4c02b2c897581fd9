//! The server of both systems: V1 (distributed task) and, for GitHub's runner, V2 (broker, run service) over one store.
//!
//! It offers each queued job to an agent of the job's pool that has a live session and nothing to do, holds its polls
//! until there is something to say, leases the job to the agent and takes the result. What real servers do not show is
//! a field of [`Parameters`]; where a repaired design would differ, it is a field of [`Policy`].
//!
//! ```text
//! queue_job -> offered (a message) -> leased (acquirejob, or the first renewal in V1) -> closed (a result)
//!        ^_____ not taken in time _____|        |___ not renewed in time: closed, or queued again
//! ```

mod admin;
mod agents;
mod authorization;
mod broker;
pub(crate) mod call;
pub(crate) mod discovery;
pub(crate) mod failure;
mod job_message;
mod jobs;
mod offers;
mod parameters;
mod plans;
mod poll;
mod run_service;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod v1;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use event_listener::Event;
use jiff::Timestamp;
use uuid::Uuid;

pub use parameters::{
    Acquire, AcquireReplay, Addresses, Broker, BusyStatus, Completion, Denial, Encryption, Flow, IdlessDelete, JobSpec,
    LapsedOffer, Lifetime, OnLeaseExpiry, Parameters, Policy, RefusalCode, Registered, Registration, Removal,
    ResultRule, SecondDelete, SessionDelete,
};
pub use snapshot::{AgentSnapshot, JobSnapshot, Snapshot};

use self::authorization::Denied;
use self::call::Call;
use self::failure::{Failure, Part};
use self::state::{Overlooked, State, Subject};
use crate::clock::{self, Clock};
use crate::deadlines::span_until;
use crate::effect::OnEffect;
use crate::facts::{self, Ledger};
use crate::random::Random;

/// The server with its store. Clones share the store, which survives a restart of whoever serves the [`Server::router`].
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    parameters: Arc<Parameters>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Something will end earlier than the housekeeping thinks.
    earlier: Event,
}

/// Why an operation of the administration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// No job has this name.
    #[error("no such job")]
    Job,
    /// No agent has this number.
    #[error("no such agent")]
    Agent,
}

impl Server {
    /// A server without agents and jobs. It writes the facts of its store to `ledger` as they are committed, by its own
    /// `clock`.
    pub fn new(
        parameters: Parameters,
        policy: Policy,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
        random: Random,
    ) -> Self {
        let parameters = Arc::new(parameters);
        let state = Mutex::new(State::new(parameters.clone(), policy, ledger, random));
        Self(Arc::new(Shared { parameters, clock, state, earlier: Event::new() }))
    }

    /// Its handlers, for whatever serves HTTP. One router answers for all of [`Addresses`], whatever host is asked.
    pub fn router(&self) -> Router {
        self.v1_router(broker::routes(self).merge(run_service::routes(self)))
    }

    /// Its V1 handlers and those of the services beside it.
    pub(crate) fn v1_router(&self, beside: Router<Self>) -> Router {
        Router::new()
            .merge(discovery::routes(self))
            .merge(authorization::routes(self))
            .merge(v1::routes(self))
            .merge(plans::routes(self))
            .merge(beside)
            .merge(admin::routes(self))
            .fallback(discovery::no_route)
            .method_not_allowed_fallback(discovery::no_method)
            .with_state(self.clone())
    }

    /// Ends sessions, offers and leases at their instants, as a background process of the server does. Without it they
    /// end when somebody calls.
    pub async fn housekeeping(&self) -> Infallible {
        loop {
            let earlier = self.0.earlier.listen();
            let wait = self.with(|state, now| {
                state.watched = state.next_end();
                state.watched.map(|end| span_until(end, now))
            });
            clock::sleep_or(&*self.0.clock, earlier, wait).await;
        }
    }

    /// Registers an agent.
    pub fn register(&self, registration: Registration) -> Registered {
        self.with(|state, _| state.register(registration))
    }

    /// Forgets an agent: its session and tokens end at once, its lease when it expires.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn deregister(&self, agent_id: i64) -> Result<(), UnknownName> {
        self.with(|state, now| state.deregister(agent_id, now)).map_err(|_| UnknownName::Agent)
    }

    /// Takes an agent out of its pool, as an owner does who no longer wants it. If it has a job, [`Parameters::removal`]
    /// says when it leaves; either way it may finish that job. Once it is out, the pool does not know it when it polls.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn dismiss(&self, agent_id: i64) -> Result<(), UnknownName> {
        self.with(|state, now| state.dismiss(agent_id, now)).map_err(|_| UnknownName::Agent)
    }

    /// For so long the token service answers the agent that its registration was not found. `on_effect` hears of each
    /// such answer.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn refuse_registration(
        &self,
        agent_id: i64,
        lasting: Duration,
        on_effect: OnEffect,
    ) -> Result<(), UnknownName> {
        self.with(|state, now| {
            let agent = state.agents.get(&agent_id).ok_or(UnknownName::Agent)?;
            let subject = Subject::Agent(agent.id);
            state.tokens.refuse(subject, now, crate::deadlines::after(now, lasting), on_effect);
            Ok(())
        })
    }

    /// For so long the pool, or the broker, denies that it may serve the agent. `on_effect` hears of each denial.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn deny(
        &self,
        agent_id: i64,
        denial: Denial,
        lasting: Duration,
        on_effect: OnEffect,
    ) -> Result<(), UnknownName> {
        self.with(|state, now| {
            let agent = state.agents.get(&agent_id).ok_or(UnknownName::Agent)?.id;
            let until = crate::deadlines::after(now, lasting);
            state.denials.entry((agent, denial)).or_default().push(Denied { until, on_effect });
            Ok(())
        })
    }

    /// For so long the pool offers the agent up to so many jobs as if it had none, as a copy does that lags behind
    /// (actions/runner#4670). `on_effect` hears of each offer of a job to an agent that has one.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn overlook_jobs(
        &self,
        agent_id: i64,
        jobs: u32,
        lasting: Duration,
        on_effect: OnEffect,
    ) -> Result<(), UnknownName> {
        self.with(|state, now| {
            let agent = state.agents.get_mut(&agent_id).ok_or(UnknownName::Agent)?;
            let until = crate::deadlines::after(now, lasting);
            agent.overlooked.push(Overlooked { jobs, until, while_it_has: None, on_effect });
            state.agent_changed(agent_id, now);
            Ok(())
        })
    }

    /// From now on runners that are registered with the pool are sent to the broker ([`Flow::V2`]), or no longer. They
    /// learn of it with their next poll: those that are held are not ended, so that a fleet does not fall into step.
    pub fn serve_pool_by(&self, flow: Flow) {
        self.with(|state, _| state.serve_pool_by(flow));
    }

    /// Makes every token of an agent invalid: its next call is answered 401, and `on_effect` hears of it.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn revoke_tokens(&self, agent_id: i64, on_effect: &OnEffect) -> Result<(), UnknownName> {
        self.with(|state, _| {
            let agent = state.agents.get(&agent_id).ok_or(UnknownName::Agent)?;
            let subject = Subject::Agent(agent.id);
            state.tokens.revoke(&subject, on_effect);
            Ok(())
        })
    }

    /// Queues a job and gives it an id. A name that is known already queues nothing: the answer is the known job's id.
    pub fn queue_job(&self, spec: JobSpec) -> Uuid {
        self.with(|state, now| {
            let number = state.queue_job(spec, now);
            state.jobs[&number].id
        })
    }

    /// Asks for the end of a job, by its name. A job that has ended stays as it is.
    ///
    /// # Errors
    /// [`UnknownName::Job`].
    pub fn cancel_job(&self, name: &str) -> Result<(), UnknownName> {
        self.with(|state, now| {
            let number = *state.by_name.get(&name.into()).ok_or(UnknownName::Job)?;
            state.cancel(number, now).map_err(|_| UnknownName::Job)
        })
    }

    /// Tells an agent to update itself to a version.
    ///
    /// # Errors
    /// [`UnknownName::Agent`].
    pub fn update_agent(&self, agent_id: i64, version: &str) -> Result<(), UnknownName> {
        self.with(|state, _| state.order_update(agent_id, version)).map_err(|_| UnknownName::Agent)
    }

    /// Does somebody known call?
    ///
    /// # Errors
    /// [`Failure::Unauthorized`].
    pub(crate) fn authenticate(&self, call: &Call) -> Result<(), Failure> {
        self.with(|state, now| state.caller(call, now).map(drop))
    }

    /// The attempt of a job for which somebody calls, if his token is that of one.
    pub(crate) fn attempt_of(&self, call: &Call) -> Option<(facts::Job, u32)> {
        self.with(|state, now| match state.caller(call, now) {
            Ok(Subject::Attempt(number, attempt)) => state.jobs.get(&number).map(|job| (job.name.clone(), attempt)),
            _ => None,
        })
    }

    /// What it was started with.
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    /// Acts on the store at the server's present instant, after what has ended by then.
    fn with<R>(&self, act: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        let mut state = self.lock();
        let now = self.0.clock.wall();
        state.sweep(now);
        let done = act(&mut state, now);
        let next = state.next_end();
        if next.is_some_and(|next| state.watched.is_none_or(|watched| next < watched)) {
            self.0.earlier.notify(usize::MAX);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn vss(&self) -> Part {
        Part::Vss(self.0.parameters.dialect)
    }
}

/// The answer of a handler, from its result.
pub(crate) fn answer(part: Part, result: Result<axum::response::Response, Failure>) -> axum::response::Response {
    result.unwrap_or_else(|failure| failure.answer(part))
}
