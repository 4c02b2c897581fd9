//! The server's handlers.

use std::future::Future;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Store};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use futures_util::future;
use http::StatusCode;
use http_body_util::{BodyExt, Collected};
use serde::Serialize;

use super::failure::{Failure, json};
use super::later::later;
use super::pipeline::job_name;
use super::worker_api::Caller;
use super::{Server, admin};
use crate::answers::receipted;
use crate::bkci::wire::{
    AgentAnswer, AgentStatus, Answer, AskInfo, BuildInfo, BuildTaskResult, BuildWithStatus, StartInfo, code,
    header as sent, path,
};
use crate::call::{Call, Limits};
use crate::facts::Fact;
use crate::http::Receipt;

/// The largest body that is read.
pub(super) const BODY_LIMIT: usize = 1 << 20;

impl Server {
    /// Its handlers, for whatever serves HTTP. They need [`Server::run`] beside them.
    pub fn router(&self) -> Router {
        Router::new()
            .route(path::STARTUP, post(startup))
            .route(path::ASK, post(ask))
            .route(path::FINISH, post(finish))
            .route(path::STARTED, put(started))
            .route(path::CLAIM, get(claim))
            .route(path::COMPLETE, post(complete))
            .route(path::END, post(end))
            .route(path::HEARTBEAT, post(heartbeat))
            .merge(admin::routes(self))
            .fallback(|| async { Failure::NoRoute.answer() })
            .method_not_allowed_fallback(|| async { Failure::NoMethod.answer() })
            .layer(from_fn_with_state(self.clone(), pass_proxy))
            .with_state(self.clone())
    }

    /// Does the work of a call, which goes on when the caller is gone and ends with the server's process.
    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let tasks = self.0.tasks.get();
        later(&tasks, work).await.unwrap_or(Err(Failure::Lost))
    }
}

/// The proxy before the services, which may send a call once more.
async fn pass_proxy(Store(server): Store<Server>, request: Request, next: Next) -> Response {
    if !server.with(|state, _| state.nuisances.call_is_repeated(&mut state.mischance)) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(Collected::to_bytes) else { return Failure::CutShort.answer() };
    let copy = || Request::from_parts(head.clone(), Body::from(body.clone()));
    // It has arrived, and what it asks for goes on; nobody is there for its answer.
    drop(future::poll_immediate(next.clone().run(copy())).await);
    next.run(copy()).await
}

impl Limits for Server {
    fn body_limit(&self) -> usize {
        BODY_LIMIT
    }
}

/// A header that is there and says something.
pub(super) fn header<'a>(call: &'a Call, name: &'static str) -> Result<&'a str, Failure> {
    call.header(name).filter(|value| !value.is_empty()).ok_or(Failure::ParamBlank(name))
}

/// Who calls, as far as an agent's key tells.
enum Agent {
    Known(String),
    /// There is no such agent: it is to uninstall itself.
    Deleted,
}

fn agent(server: &Server, call: &Call) -> Result<Agent, Failure> {
    let project = header(call, sent::PROJECT_ID)?;
    let id = header(call, sent::AGENT_ID)?;
    let secret = header(call, sent::SECRET_KEY)?;
    server.with(|state, _| match state.agents.get(id) {
        None => Ok(Agent::Deleted),
        Some(agent) if agent.secret != secret => Err(Failure::Forbidden("the secret key does not match")),
        Some(agent) if agent.project != project => Err(Failure::Forbidden("it belongs to another project")),
        Some(_) => Ok(Agent::Known(id.to_owned())),
    })
}

fn known(server: &Server, call: &Call) -> Result<String, Failure> {
    match agent(server, call)? {
        Agent::Known(id) => Ok(id),
        Agent::Deleted => Err(Failure::Forbidden("there is no such agent")),
    }
}

/// A worker, and the job that it has a key for.
fn caller(server: &Server, call: &Call) -> Result<Caller, Failure> {
    let agent = known(server, call)?;
    let build = header(call, sent::BUILD_ID)?.to_owned();
    let seq = header(call, sent::VM_SEQ_ID)?.parse().map_err(|_| Failure::BuildNotFound)?;
    let job = (build, seq);
    if !server.with(|state, _| state.credentials.contains(&(job.clone(), agent.clone()))) {
        return Err(Failure::Forbidden("no such build was given to it"));
    }
    Ok(Caller {
        agent,
        project: header(call, sent::PROJECT_ID)?.to_owned(),
        job,
        execute_count: header(call, sent::EXECUTE_COUNT).ok().and_then(|count| count.parse().ok()),
        worker: header(call, sent::WORKER_ID).ok().map(str::to_owned),
        retry_count: call.query("retryCount").and_then(|count| count.parse().ok()).unwrap_or(0),
    })
}

fn answer<T: Serialize>(result: Result<T, Failure>) -> Response {
    match result {
        Ok(data) => json(StatusCode::OK, &Answer { status: code::OK, message: None, data: Some(data) }),
        Err(failure) => failure.answer(),
    }
}

async fn startup(Store(server): Store<Server>, call: Call) -> Response {
    let done = known(&server, &call).and_then(|agent| {
        call.json::<StartInfo>()?;
        server.agent_started(&agent);
        Ok(true)
    });
    answer(done)
}

async fn ask(Store(server): Store<Server>, call: Call) -> Response {
    let deleted =
        || AgentAnswer::<()> { status: code::OK, message: None, agent_status: Some(AgentStatus::Delete), data: None };
    let asked = agent(&server, &call).and_then(|agent| match agent {
        Agent::Known(agent) => Ok(Some((agent, call.json::<AskInfo>()?))),
        Agent::Deleted => Ok(None),
    });
    let (agent, info) = match asked {
        Ok(Some(asked)) => asked,
        Ok(None) => return json(StatusCode::OK, &deleted()),
        Err(failure) => return failure.answer(),
    };
    let (own, asking) = (server.clone(), agent.clone());
    match server.carry_out(async move { Ok(own.ask(asking, info).await?) }).await {
        Ok(done) => {
            let given = done.data.as_ref().and_then(|data| data.build.as_ref());
            let arrived = given.and_then(|build| arrives(build, &agent));
            receipted(json(StatusCode::OK, &done), arrived)
        }
        Err(failure) => failure.answer(),
    }
}

/// What is true once the answer with a build has arrived at its agent.
fn arrives(build: &BuildInfo, agent: &str) -> Option<Receipt> {
    let job = job_name(&build.build_id, build.vm_seq_id.parse().ok()?).into();
    Some(Fact::JobArrived { job, attempt: build.execute_count?, agent: agent.into() }.into())
}

async fn finish(Store(server): Store<Server>, call: Call) -> Response {
    let asked = known(&server, &call).and_then(|agent| Ok((agent, call.json::<BuildWithStatus>()?)));
    let own = server.clone();
    let work = async move {
        let (agent, end) = asked?;
        own.worker_finished(agent, end).await?;
        Ok(true)
    };
    answer(server.carry_out(work).await)
}

async fn started(Store(server): Store<Server>, call: Call) -> Response {
    let (who, own) = (caller(&server, &call), server.clone());
    answer(server.carry_out(async move { own.worker_started(who?).await }).await)
}

async fn claim(Store(server): Store<Server>, call: Call) -> Response {
    answer(caller(&server, &call).and_then(|caller| server.worker_claims(&caller)))
}

async fn complete(Store(server): Store<Server>, call: Call) -> Response {
    let asked = caller(&server, &call).and_then(|caller| Ok((caller, call.json::<BuildTaskResult>()?)));
    let own = server.clone();
    let work = async move {
        let (caller, result) = asked?;
        own.worker_completes(caller, result).await.map(|()| true)
    };
    answer(server.carry_out(work).await)
}

async fn end(Store(server): Store<Server>, call: Call) -> Response {
    let (who, own) = (caller(&server, &call), server.clone());
    answer(server.carry_out(async move { own.worker_ends(who?).await.map(|()| true) }).await)
}

async fn heartbeat(Store(server): Store<Server>, call: Call) -> Response {
    match caller(&server, &call).and_then(|caller| server.worker_beats(&caller)) {
        Ok((info, receipt)) => receipted(answer(Ok(info)), receipt),
        Err(failure) => failure.answer(),
    }
}
