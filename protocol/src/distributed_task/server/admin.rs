//! The administration: queueing and cancelling jobs from outside, for servers on a real port.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{delete, get};
use http::StatusCode;

use super::call::{Call, bare, json, ok, read};
use super::failure::Failure;
use super::parameters::JobSpec;
use super::{Server, answer};

/// Where it is.
const JOBS: &str = "/squall/admin/jobs";

pub(super) fn routes(server: &Server) -> Router<Server> {
    match server.parameters().admin_token {
        None => Router::new(),
        Some(_) => Router::new()
            .route(JOBS, get(list).post(queue))
            .route(&format!("{JOBS}/{{name}}"), delete(cancel))
            .route("/squall/admin/snapshot", get(snapshot)),
    }
}

impl Server {
    /// Does the call carry the token of the administration?
    pub(super) fn is_admin(&self, call: &Call) -> bool {
        self.parameters().admin_token.as_deref().is_some_and(|token| call.authorization("bearer") == Some(token))
    }

    fn administer(&self, call: &Call) -> Result<(), Failure> {
        if self.is_admin(call) { Ok(()) } else { Err(Failure::Unauthorized) }
    }
}

async fn list(Store(server): Store<Server>, call: Call) -> Response {
    answer(server.vss(), server.administer(&call).map(|()| ok(&server.snapshot().jobs)))
}

async fn snapshot(Store(server): Store<Server>, call: Call) -> Response {
    answer(server.vss(), server.administer(&call).map(|()| ok(&server.snapshot())))
}

async fn queue(Store(server): Store<Server>, call: Call) -> Response {
    let queued = server.administer(&call).and_then(|()| {
        let spec: JobSpec = read(&call, "job")?;
        match spec.name.is_empty() {
            true => Err(Failure::Missing("name")),
            false => Ok(server.queue_job(spec)),
        }
    });
    answer(server.vss(), queued.map(|id| json(StatusCode::CREATED, &serde_json::json!({"jobId": id}))))
}

async fn cancel(Store(server): Store<Server>, call: Call) -> Response {
    let cancelled = server.administer(&call).and_then(|()| {
        let name = call.parameter("name");
        server.cancel_job(name).map_err(|_| Failure::JobNotFound(name.into()))
    });
    answer(server.vss(), cancelled.map(|()| bare(StatusCode::NO_CONTENT)))
}
