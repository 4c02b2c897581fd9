//! The administration: builds from outside, for servers on a real port.

use axum::Router;
use axum::extract::{Path, State as Store};
use axum::response::Response;
use axum::routing::{delete, get};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, json};
use super::pipeline::{BuildSpec, JobSpec, Phase, Place};
use super::routes::header as required;
use super::{Refusal, Server};
use crate::call::Call;

/// Where it is.
const BUILDS: &str = "/squall/admin/jobs";

/// How far a build is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BuildSnapshot {
    /// Its id.
    pub name: String,
    /// Which attempt it is.
    pub execute_count: u32,
    /// How it ended, in words; none while it runs.
    pub outcome: Option<crate::facts::Outcome>,
    /// How its jobs ended, in their order; none for those that have not.
    pub jobs: Vec<Option<crate::facts::Outcome>>,
}

/// A build that somebody wants: without jobs it has one, on any agent.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    jobs: Vec<JobSpec>,
}

pub(super) fn routes(server: &Server) -> Router<Server> {
    match server.0.admin_token {
        None => Router::new(),
        Some(_) => Router::new()
            .route(BUILDS, get(list).post(start))
            .route(&format!("{BUILDS}/{{name}}"), delete(cancel))
            .route(&format!("{BUILDS}/{{name}}/retry"), axum::routing::post(retry))
            .route("/squall/admin/snapshot", get(list)),
    }
}

impl Server {
    /// Every build, by its id.
    pub fn snapshot(&self) -> Vec<BuildSnapshot> {
        self.with(|state, _| {
            let outcome = |phase: Phase| if let Phase::Ended(outcome) = phase { Some(outcome) } else { None };
            let build = |build: &super::pipeline::Build| BuildSnapshot {
                name: build.id.clone(),
                execute_count: build.execute_count,
                outcome: build.ended,
                jobs: build.jobs.iter().map(|job| outcome(job.phase)).collect(),
            };
            state.builds.values().map(build).collect()
        })
    }

    fn administer(&self, call: &Call) -> Result<(), Failure> {
        let bearer = required(call, header::AUTHORIZATION.as_str())?;
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default();
        let right = self.0.admin_token.as_deref() == Some(token);
        if right { Ok(()) } else { Err(Failure::Unauthorized) }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBuild => Self::BuildNotFound,
            Refusal::NotFailed | Refusal::NotNew => Self::Conflict(refusal.to_string()),
        }
    }
}

fn done(result: Result<(), Failure>, status: StatusCode) -> Response {
    match result {
        Ok(()) => json(status, &serde_json::json!({"status": 0, "message": null, "data": true})),
        Err(failure) => failure.answer(),
    }
}

async fn list(Store(server): Store<Server>, call: Call) -> Response {
    match server.administer(&call) {
        Ok(()) => json(StatusCode::OK, &server.snapshot()),
        Err(failure) => failure.answer(),
    }
}

async fn start(Store(server): Store<Server>, call: Call) -> Response {
    let started = server.administer(&call).and_then(|()| {
        let Wanted { name, mut jobs } = call.json()?;
        if name.is_empty() {
            return Err(Failure::ParamBlank("name"));
        }
        if jobs.is_empty() {
            jobs.push(JobSpec { stage: 0, place: Place::Environment });
        }
        Ok(server.start_build(BuildSpec { name, jobs })?)
    });
    done(started, StatusCode::CREATED)
}

async fn cancel(Store(server): Store<Server>, Path(name): Path<String>, call: Call) -> Response {
    done(server.administer(&call).and_then(|()| Ok(server.cancel_build(&name)?)), StatusCode::OK)
}

async fn retry(Store(server): Store<Server>, Path(name): Path<String>, call: Call) -> Response {
    done(server.administer(&call).and_then(|()| Ok(server.retry_build(&name)?)), StatusCode::OK)
}
