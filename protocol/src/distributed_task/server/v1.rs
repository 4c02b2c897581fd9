//! V1: pools, agents, sessions, messages and the pool's requests for jobs.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, patch, post};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use uuid::Uuid;

use super::call::{Call, bare, ok, read, receipted};
use super::discovery::{collection, item};
use super::failure::Failure;
use super::jobs::Caller;
use super::parameters::{Encryption, Flow, Lifetime, Registration};
use super::poll::{answered, session};
use super::state::{Agent, AgentId, JobNumber, Standing, State, Subject, presented};
use super::{Server, answer};
use crate::distributed_task::wire::{
    IDEMPOTENCY_KEY, LOCK_TOKEN, TaskAgent, TaskAgentJobRequest, TaskAgentSession, TaskResult, WrappedList, locations,
    property,
};
use crate::jwt::PublicKey;

pub(super) fn routes(server: &Server) -> Router<Server> {
    let (all, one) = (|location| collection(server, location), |location| item(server, location));
    Router::new()
        .route(&all(&locations::POOLS), get(list_pools))
        .route(&one(&locations::POOLS), get(get_pool))
        .route(&all(&locations::AGENTS), get(list_agents).post(add_agent))
        .route(&one(&locations::AGENTS), get(get_agent).put(update_agent).patch(update_agent).delete(delete_agent))
        .route(&all(&locations::SESSIONS), post(create_session))
        .route(&one(&locations::SESSIONS), axum::routing::delete(delete_session))
        .route(&all(&locations::MESSAGES), get(get_message))
        .route(&one(&locations::MESSAGES), axum::routing::delete(delete_message))
        .route(&one(&locations::JOB_REQUESTS), get(get_request).patch(patch_request).delete(delete_request))
        .route(&all(&locations::JOB_REQUESTS), patch(patch_request))
        .route(&one(&locations::RUN_MESSAGES), get(get_run_message))
}

impl State {
    /// The pool in the path, if there is one.
    fn pool(&self, call: &Call) -> Result<i64, Failure> {
        let pool = call.number("poolId").filter(|pool| self.pools.contains(pool));
        pool.ok_or_else(|| Failure::PoolNotFound(call.parameter("poolId").into()))
    }

    /// The agent that calls, in its own pool.
    fn member(&self, call: &Call, now: jiff::Timestamp) -> Result<AgentId, Failure> {
        let id = self.calling_agent(call, now)?;
        match self.pool(call)? == self.agents[&id].pool {
            true => Ok(id),
            false => Err(Failure::AccessDenied("The pool is another one.")),
        }
    }
}

async fn create_session(Store(server): Store<Server>, call: Call) -> Response {
    let opened = server.with(|state, now| {
        let id = state.member(&call, now)?;
        let asked: TaskAgentSession = read(&call, "session")?;
        if let Some(migration) = state.migration(Flow::V1) {
            return Ok(TaskAgentSession { broker_migration_message: Some(migration), ..asked });
        }
        let key = call.header(IDEMPOTENCY_KEY).map(Into::into);
        state.open_session(id, asked, key, Flow::V1, now)
    });
    answer(server.vss(), opened.map(|session| ok(&session)))
}

async fn delete_session(Store(server): Store<Server>, call: Call) -> Response {
    let deleted = server.with(|state, now| {
        let id = state.member(&call, now)?;
        let session: Uuid = call.parameter("sessionId").parse().map_err(|_| Failure::OutOfRange("sessionId"))?;
        state.delete_session(id, session, now)
    });
    answer(server.vss(), deleted.map(|()| bare(StatusCode::NO_CONTENT)))
}

async fn get_message(Store(server): Store<Server>, call: Call) -> Response {
    let allowed = server.with(|state, now| state.member(&call, now));
    let polled = match allowed {
        Ok(_) => server.poll(&call, Flow::V1).await,
        Err(failure) => Err(failure),
    };
    answer(server.vss(), polled.map(|delivered| answered(&call, delivered)))
}

async fn delete_message(Store(server): Store<Server>, call: Call) -> Response {
    let deleted = server.with(|state, now| {
        let id = state.member(&call, now)?;
        let session = session(&call)?.ok_or(Failure::Missing("sessionId"))?;
        let message = call.number("messageId").ok_or(Failure::OutOfRange("messageId"))?;
        match state.sessions.get(&session).map(|session| session.agent) {
            None => Err(Failure::SessionGone),
            Some(whose) if whose != id => Err(Failure::AccessDenied("The session is that of another agent.")),
            Some(_) => {
                state.acknowledge(id, message);
                Ok(())
            }
        }
    });
    answer(server.vss(), deleted.map(|()| bare(StatusCode::NO_CONTENT)))
}

/// Who acts on a request for a job, and with which token of its lease.
fn caller(state: &State, call: &Call, now: jiff::Timestamp) -> Result<(JobNumber, Caller), Failure> {
    let agent = state.member(call, now)?;
    let number = match call.parameter("requestId") {
        // The request may be named in the body alone.
        "" => read::<TaskAgentJobRequest>(call, "request")?.request_id,
        text => text.parse().map_err(|_| Failure::OutOfRange("requestId"))?,
    };
    let lock = match call.query(LOCK_TOKEN) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Failure::OutOfRange(LOCK_TOKEN))?),
    };
    Ok((number, Caller { subject: Subject::Agent(agent), lock: presented(lock) }))
}

async fn get_request(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        let (number, _) = caller(state, &call, now)?;
        state.account(number)
    });
    answer(server.vss(), found.map(|account| ok(&account)))
}

/// Renews a job's lease, or ends the job when a result is sent.
async fn patch_request(Store(server): Store<Server>, call: Call) -> Response {
    let changed = server.with(|state, now| {
        let (number, caller) = caller(state, &call, now)?;
        let sent: TaskAgentJobRequest = read(&call, "request")?;
        match (sent.result, sent.finish_time) {
            (None, None) => {
                state.renew(number, &caller, now)?;
            }
            (result, _) => state.report(number, result.unwrap_or(TaskResult::Succeeded), &caller, now)?,
        }
        Ok(receipted(ok(&state.account(number)?), state.receipt(number)))
    });
    answer(server.vss(), changed)
}

async fn delete_request(Store(server): Store<Server>, call: Call) -> Response {
    let ended = server.with(|state, now| {
        let (number, caller) = caller(state, &call, now)?;
        let result = match call.query("result") {
            None => TaskResult::Abandoned,
            Some(text) => TaskResult::from_name(text)
                .or_else(|| TaskResult::from_number(text.parse().ok()?))
                .ok_or(Failure::OutOfRange("result"))?,
        };
        state.report(number, result, &caller, now)
    });
    answer(server.vss(), ended.map(|()| bare(StatusCode::NO_CONTENT)))
}

async fn get_run_message(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        let id = state.calling_agent(&call, now)?;
        state.offered_job(id, call.parameter("messageId"), now)
    });
    answer(server.vss(), found.map(|job| ok(&job)))
}

fn pool_body(pool: i64) -> serde_json::Value {
    serde_json::json!({
        "id": pool, "name": format!("Pool {pool}"), "isHosted": false, "isInternal": false, "poolType": "automation",
    })
}

async fn list_pools(Store(server): Store<Server>, call: Call) -> Response {
    let pools = server.with(|state, now| {
        state.caller(&call, now)?;
        Ok(state.pools.iter().copied().map(pool_body).collect::<Vec<_>>())
    });
    answer(server.vss(), pools.map(|pools| ok(&WrappedList::from(pools))))
}

async fn get_pool(Store(server): Store<Server>, call: Call) -> Response {
    let pool = server.with(|state, now| {
        state.caller(&call, now)?;
        state.pool(&call)
    });
    answer(server.vss(), pool.map(|pool| ok(&pool_body(pool))))
}

async fn list_agents(Store(server): Store<Server>, call: Call) -> Response {
    let agents = server.with(|state, now| {
        state.caller(&call, now)?;
        let pool = state.pool(&call)?;
        let named = call.query("agentName");
        let is_named = |agent: &Agent| named.is_none_or(|named| agent.name.0.eq_ignore_ascii_case(named));
        let members = state.agents.values().filter(|agent| agent.pool == pool && agent.is_in_pool());
        let wanted = members.filter(|agent| is_named(agent));
        Ok(wanted.map(|agent| state.agent_body(agent)).collect::<Vec<_>>())
    });
    answer(server.vss(), agents.map(|agents| ok(&WrappedList::from(agents))))
}

/// The agent in the path.
fn addressed(state: &State, call: &Call) -> Result<AgentId, Failure> {
    let pool = state.pool(call)?;
    let id = call.number("agentId").ok_or(Failure::OutOfRange("agentId"))?;
    match state.agents.get(&id) {
        Some(agent) if agent.pool == pool && agent.standing != Standing::Gone => Ok(id),
        _ => Err(Failure::AgentNotFound),
    }
}

async fn get_agent(Store(server): Store<Server>, call: Call) -> Response {
    let agent = server.with(|state, now| {
        state.caller(&call, now)?;
        let id = addressed(state, &call)?;
        Ok(state.agent_body(&state.agents[&id]))
    });
    answer(server.vss(), agent.map(|agent| ok(&agent)))
}

/// Takes an agent's labels and key anew; only the agent itself may ask.
async fn update_agent(Store(server): Store<Server>, call: Call) -> Response {
    let agent = server.with(|state, now| {
        let me = state.member(&call, now)?;
        if addressed(state, &call)? != me {
            return Err(Failure::AccessDenied("The agent is another one."));
        }
        let sent: TaskAgent = read(&call, "agent")?;
        let key = public_key(&sent)?;
        let agent = state.agents.get_mut(&me).ok_or(Failure::AgentNotFound)?;
        if let Some(labels) = sent.labels {
            agent.labels = labels.into_iter().map(|label| label.name).collect();
        }
        agent.public_key = key.unwrap_or_else(|| agent.public_key.clone());
        Ok(state.agent_body(&state.agents[&me]))
    });
    answer(server.vss(), agent.map(|agent| ok(&agent)))
}

async fn delete_agent(Store(server): Store<Server>, call: Call) -> Response {
    let deleted = server.with(|state, now| {
        if !server.is_admin(&call) && state.calling_agent(&call, now)? != addressed(state, &call)? {
            return Err(Failure::AccessDenied("The agent is another one."));
        }
        let id = addressed(state, &call)?;
        state.deregister(id, now)
    });
    answer(server.vss(), deleted.map(|()| bare(StatusCode::NO_CONTENT)))
}

/// Registers an agent, for whoever has the token of the administration.
async fn add_agent(Store(server): Store<Server>, call: Call) -> Response {
    let added = server.with(|state, _| {
        if !server.is_admin(&call) {
            return Err(Failure::Unauthorized);
        }
        let pool = state.pool(&call)?;
        let sent: TaskAgent = read(&call, "agent")?;
        let public_key = public_key(&sent)?.ok_or(Failure::Missing("publicKey"))?;
        if sent.name.is_empty() {
            return Err(Failure::Missing("name"));
        }
        let flow = if asks_for_v2(&sent) { Flow::V2 } else { Flow::V1 };
        let (encryption, lifetime) = (Encryption::KeyUnderRsa, lifetime(&sent));
        let registered = state.register(Registration { name: sent.name, pool, flow, encryption, lifetime, public_key });
        Ok(state.agent_body(&state.agents[&registered.agent_id]))
    });
    answer(server.vss(), added.map(|agent| ok(&agent)))
}

fn lifetime(agent: &TaskAgent) -> Lifetime {
    if agent.ephemeral == Some(true) { Lifetime::Ephemeral } else { Lifetime::Persistent }
}

fn asks_for_v2(agent: &TaskAgent) -> bool {
    let properties = agent.properties.as_ref();
    properties.and_then(|properties| properties.get(property::USE_V2_FLOW)).is_some_and(|wanted| wanted.value == true)
}

fn public_key(agent: &TaskAgent) -> Result<Option<PublicKey>, Failure> {
    let Some(key) = agent.authorization.as_ref().and_then(|authorization| authorization.public_key.as_ref()) else {
        return Ok(None);
    };
    let number = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| Failure::OutOfRange("publicKey"));
    let key = PublicKey::new(&number(&key.modulus)?, &number(&key.exponent)?);
    key.map(Some).map_err(|_| Failure::OutOfRange("publicKey"))
}
