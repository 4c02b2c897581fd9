//! Runners: registered for one job each.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;

use super::Server;
use super::failure::{Failure, Part, answer, bare, json};
use super::state::{Runner, RunnerId, SetId, State};
use crate::arc::wire::{AGENTS, JitConfig, JitRequest, Listed, RunnerReference, SCALE_SETS};
use crate::call::{BadBody, Call};
use crate::http::path_of;

pub(super) fn routes(server: &Server) -> Router<Server> {
    let base = path_of(&server.0.parameters.addresses.service);
    Router::new()
        .route(&format!("{base}/{SCALE_SETS}/{{set}}/generatejitconfig"), post(generate))
        .route(&format!("{base}/{AGENTS}"), get(find))
        .route(&format!("{base}/{AGENTS}/{{runner}}"), get(show).delete(remove))
}

async fn generate(Store(server): Store<Server>, call: Call) -> Response {
    let made = server.with(|state, now| {
        let set = state.administered(&call, now)?;
        let asked: JitRequest = call.json()?;
        if asked.name.is_empty() {
            return Err(BadBody::WrongShape("a runner has a name".into()).into());
        }
        let id = state.add_runner(set, &asked.name)?;
        let encoded = BASE64_STANDARD.encode(format!("{{\".runner\":\"{id}\"}}"));
        Ok(JitConfig { runner: Some(state.reference(id)), encoded })
    });
    answer(Part::Service, made.map(|config| json(StatusCode::OK, &config)))
}

async fn find(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        state.administrator(&call, now)?;
        let named = |runner: &&Runner| call.query("agentName").is_none_or(|name| *runner.name.0 == *name);
        let ids: Vec<RunnerId> = state.runners.values().filter(named).map(|runner| runner.id).collect();
        let runners: Vec<RunnerReference> = ids.into_iter().map(|id| state.reference(id)).collect();
        Ok(Listed::from(runners))
    });
    answer(Part::Service, found.map(|runners| json(StatusCode::OK, &runners)))
}

async fn show(Store(server): Store<Server>, call: Call) -> Response {
    let found = server.with(|state, now| {
        state.administrator(&call, now)?;
        state.named(&call).map(|id| state.reference(id))
    });
    answer(Part::Service, found.map(|runner| json(StatusCode::OK, &runner)))
}

async fn remove(Store(server): Store<Server>, call: Call) -> Response {
    let removed = server.with(|state, now| {
        state.administrator(&call, now)?;
        let id = state.named(&call)?;
        if state.runners[&id].job.is_some() {
            return Err(Failure::JobStillRunning(state.runners[&id].name.to_string()));
        }
        state.runners.remove(&id);
        state.work.notify(usize::MAX);
        Ok(bare(StatusCode::NO_CONTENT))
    });
    answer(Part::Service, removed)
}

impl State {
    /// Registers a runner.
    pub(super) fn add_runner(&mut self, set: SetId, name: &str) -> Result<RunnerId, Failure> {
        if self.runners.values().any(|runner| *runner.name.0 == *name) {
            return Err(Failure::AgentExists(name.to_owned()));
        }
        let id = self.draw_number();
        self.runners.insert(id, Runner { id, name: name.into(), set, job: None });
        Ok(id)
    }

    fn named(&self, call: &Call) -> Result<RunnerId, Failure> {
        let known = call.number("runner").filter(|id| self.runners.contains_key(id));
        known.ok_or_else(|| Failure::AgentNotFound(call.parameter("runner").to_owned()))
    }

    fn reference(&self, id: RunnerId) -> RunnerReference {
        let runner = &self.runners[&id];
        RunnerReference { id, name: runner.name.to_string(), runner_scale_set_id: runner.set }
    }
}
