//! The API of the cluster, as far as listeners use it (`cmd/ghalistener/scaler/scaler.go`).

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, patch};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cluster, RunnerSetSpec};
use crate::call::{BadBody, Call, Limits};

/// Where sets and runners are.
pub const NAMESPACE: &str = "/apis/actions.github.com/v1alpha1/namespaces/arc-runners";

/// The largest body that the API reads, as etcd has it by default.
const BODY_LIMIT: usize = 1_500_000;

/// The path of a set of runners.
pub fn runner_set_path(name: &str) -> String {
    format!("{NAMESPACE}/ephemeralrunnersets/{name}")
}

/// The path of a runner's status.
pub fn runner_status_path(name: &str) -> String {
    format!("{NAMESPACE}/ephemeralrunners/{name}/status")
}

impl Cluster {
    /// The handlers of the API.
    pub fn router(&self) -> Router {
        Router::new()
            .route(&runner_set_path("{name}"), get(show).patch(scale))
            .route(&runner_status_path("{name}"), patch(note))
            .with_state(self.clone())
    }
}

impl Limits for Cluster {
    fn body_limit(&self) -> usize {
        BODY_LIMIT
    }
}

#[derive(Deserialize)]
struct ScalePatch {
    spec: RunnerSetSpec,
}

#[derive(Deserialize)]
struct StatusPatch {
    status: JobInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobInfo {
    job_request_id: i64,
}

async fn show(Store(cluster): Store<Cluster>, call: Call) -> Response {
    answer(cluster.spec(call.parameter("name")).map(|spec| set(&call, spec)).ok_or(StatusCode::NOT_FOUND))
}

async fn scale(Store(cluster): Store<Cluster>, call: Call) -> Response {
    let scaled = call.json::<ScalePatch>().map_err(status_of).and_then(|asked| {
        cluster.patch(call.parameter("name"), asked.spec).map(|spec| set(&call, spec)).ok_or(StatusCode::NOT_FOUND)
    });
    answer(scaled)
}

async fn note(Store(cluster): Store<Cluster>, call: Call) -> Response {
    let noted = call.json::<StatusPatch>().map_err(status_of).and_then(|asked| {
        let known = cluster.note(call.parameter("name"), asked.status.job_request_id);
        known.then(|| json!({"kind": "EphemeralRunner"})).ok_or(StatusCode::NOT_FOUND)
    });
    answer(noted)
}

fn set(call: &Call, spec: RunnerSetSpec) -> Value {
    json!({"kind": "EphemeralRunnerSet", "metadata": {"name": call.parameter("name")}, "spec": spec})
}

fn status_of(bad: BadBody) -> StatusCode {
    match bad {
        BadBody::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BadBody::WrongShape(_) => StatusCode::UNPROCESSABLE_ENTITY,
        BadBody::CutShort | BadBody::Missing | BadBody::NotJson(_) => StatusCode::BAD_REQUEST,
    }
}

/// The API's answers, good and bad, are objects of its own.
fn answer(result: Result<Value, StatusCode>) -> Response {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(status) => {
            let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
            (status, json!({"kind": "Status", "status": "Failure", "reason": reason, "code": status.as_u16()}))
        }
    };
    let mut answer = Response::new(axum::body::Body::from(body.to_string()));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    answer
}
