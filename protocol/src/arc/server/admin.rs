//! The administration: queueing jobs from outside, for servers on a real port.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Server;
use super::failure::{Failure, Part, answer, json as reply};
use super::state::Phase;
use crate::call::{BadBody, Call};

pub(super) fn routes(server: &Server) -> Router<Server> {
    match server.0.parameters.admin_token {
        None => Router::new(),
        Some(_) => Router::new().route("/squall/admin/jobs", get(list).post(queue)),
    }
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    /// The scale set whose job it is; the only one if there is no other.
    #[serde(default)]
    set: Option<String>,
}

async fn list(Store(server): Store<Server>, call: Call) -> Response {
    let listed = server.administer(&call).map(|()| {
        server.with(|state, _| {
            let jobs = state.jobs.values().map(|job| {
                let phase = match job.phase {
                    Phase::Queued => "queued",
                    Phase::Assigned => "assigned",
                    Phase::Running(_) => "running",
                    Phase::Closed => "closed",
                };
                json!({
                    "name": job.name, "set": job.set, "phase": phase, "requestId": job.request, "attempt": job.attempt
                })
            });
            reply(StatusCode::OK, &jobs.collect::<Vec<_>>())
        })
    });
    answer(Part::Service, listed)
}

async fn queue(Store(server): Store<Server>, call: Call) -> Response {
    let queued = server.administer(&call).and_then(|()| {
        let asked: Asked = call.json()?;
        if asked.name.is_empty() {
            return Err(BadBody::WrongShape("a job has a name".into()).into());
        }
        server.with(|state, now| {
            let first = || state.sets.values().next().map(|set| set.name.to_string());
            let set = asked.set.clone().or_else(first).ok_or_else(|| Failure::ScaleSetNotFound(String::new()))?;
            let number = state.queue_job(&asked.name, &set, now);
            Ok(reply(StatusCode::CREATED, &json!({"requestId": state.jobs[&number].request})))
        })
    });
    answer(Part::Service, queued)
}

impl Server {
    fn administer(&self, call: &Call) -> Result<(), Failure> {
        let token = self.0.parameters.admin_token.as_deref();
        match token.is_some() && call.authorization("bearer") == token {
            true => Ok(()),
            false => Err(Failure::Unauthorized),
        }
    }
}
