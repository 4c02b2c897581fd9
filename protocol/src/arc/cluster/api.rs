//! The API of the cluster, as far as listeners use it (`cmd/ghalistener/scaler/scaler.go`).

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, patch};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Cluster, RunnerSetSpec};
use crate::call::{BadBody, Call, Limits};
use crate::distributed_task::wire::from_slice;

/// Where sets and runners are.
pub const NAMESPACE: &str = "/apis/actions.github.com/v1alpha1/namespaces/arc-runners";

/// The two kinds of things that it has.
const SETS: &str = "ephemeralrunnersets.actions.github.com";
/// See [`SETS`].
const RUNNERS: &str = "ephemeralrunners.actions.github.com";

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
            .fallback(async || refusal(StatusCode::NOT_FOUND, "the server could not find the requested resource"))
            .method_not_allowed_fallback(async |method: Method| {
                let message = format!("{} is not supported on resources of this kind", method.as_str().to_lowercase());
                refusal(StatusCode::METHOD_NOT_ALLOWED, &message)
            })
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

/// A refusal: its status, and why.
type Refusal = (StatusCode, String);

async fn show(Store(cluster): Store<Cluster>, call: Call) -> Response {
    answer(cluster.spec(call.parameter("name")).map(|spec| set(&call, spec)).ok_or_else(|| unknown(SETS, &call)))
}

async fn scale(Store(cluster): Store<Cluster>, call: Call) -> Response {
    let scaled = read::<ScalePatch>(&call).map_err(|bad| refused(SETS, &call, &bad)).and_then(|asked| {
        let spec = cluster.patch(call.parameter("name"), asked.spec);
        spec.map(|spec| set(&call, spec)).ok_or_else(|| unknown(SETS, &call))
    });
    answer(scaled)
}

async fn note(Store(cluster): Store<Cluster>, call: Call) -> Response {
    let noted = read::<StatusPatch>(&call).map_err(|bad| refused(RUNNERS, &call, &bad)).and_then(|asked| {
        let known = cluster.note(call.parameter("name"), asked.status.job_request_id);
        known.then(|| json!({"kind": "EphemeralRunner"})).ok_or_else(|| unknown(RUNNERS, &call))
    });
    answer(noted)
}

/// A patch, whose members may be in any case, as Go reads them.
fn read<T: DeserializeOwned>(call: &Call) -> Result<T, BadBody> {
    Ok(from_slice(call.document()?)?)
}

fn set(call: &Call, spec: RunnerSetSpec) -> Value {
    json!({"kind": "EphemeralRunnerSet", "metadata": {"name": call.parameter("name")}, "spec": spec})
}

fn unknown(resource: &str, call: &Call) -> Refusal {
    (StatusCode::NOT_FOUND, format!("{resource} {:?} not found", call.parameter("name")))
}

fn refused(resource: &str, call: &Call, bad: &BadBody) -> Refusal {
    match bad {
        BadBody::TooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("Request entity too large: limit is {BODY_LIMIT}"))
        }
        BadBody::WrongShape(why) => {
            let name = call.parameter("name");
            (StatusCode::UNPROCESSABLE_ENTITY, format!("{resource} {name:?} is invalid: {why}"))
        }
        BadBody::CutShort | BadBody::Missing | BadBody::NotJson(_) => {
            (StatusCode::BAD_REQUEST, format!("error decoding patch: {bad}"))
        }
    }
}

/// The API's answers, good and bad, are objects of its own.
fn answer(result: Result<Value, Refusal>) -> Response {
    match result {
        Ok(body) => object(StatusCode::OK, &body),
        Err((status, message)) => refusal(status, &message),
    }
}

/// A `Status` (`k8s.io/apimachinery`, `pkg/apis/meta/v1/types.go`).
fn refusal(status: StatusCode, message: &str) -> Response {
    let reason = match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        _ => "NotFound",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": message, "reason": reason, "code": status.as_u16(),
    });
    object(status, &body)
}

fn object(status: StatusCode, body: &Value) -> Response {
    let mut answer = Response::new(axum::body::Body::from(body.to_string()));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use futures_util::FutureExt;
    use http::Request;
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use tower::ServiceExt;

    use super::*;
    use crate::facts::Forget;
    use crate::fakes::garbage;

    fn cluster() -> Cluster {
        let cluster = Cluster::new(Arc::new(Forget));
        cluster.add_set("set");
        let spec = RunnerSetSpec { replicas: 1, patch_id: 1 };
        cluster.patch("set", spec);
        assert_eq!(cluster.reconcile("set").len(), 1);
        cluster
    }

    fn call(cluster: &Cluster, method: Method, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        let answer = cluster.router().oneshot(request).now_or_never().unwrap().unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        let kind = head.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("application/json"), "{} {path}", head.status);
        (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    /// An error of the API with this status and reason.
    #[track_caller]
    fn expect_status((status, body): (u16, Value), code: u16, reason: &str) {
        assert_eq!(status, code, "{body}");
        assert_eq!((&body["kind"], &body["apiVersion"]), (&json!("Status"), &json!("v1")), "{body}");
        assert_eq!((&body["status"], &body["code"]), (&json!("Failure"), &json!(code)), "{body}");
        assert_eq!(body["reason"], reason);
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }

    #[test]
    fn each_refusal_has_its_status_and_reason() {
        let (cluster, set, runner) = (cluster(), runner_set_path("set"), runner_status_path("set-runner-1"));
        let patch = |path: &str, body: &'static str| call(&cluster, Method::PATCH, path, body);
        expect_status(call(&cluster, Method::GET, &runner_set_path("none"), ""), 404, "NotFound");
        expect_status(patch(&runner_set_path("none"), r#"{"spec":{"replicas":1}}"#), 404, "NotFound");
        expect_status(patch(&runner_status_path("none"), r#"{"status":{"jobRequestId":1}}"#), 404, "NotFound");
        expect_status(patch(&set, "{"), 400, "BadRequest");
        expect_status(patch(&set, ""), 400, "BadRequest");
        expect_status(patch(&set, "{}"), 422, "Invalid");
        expect_status(patch(&set, r#"[{"replicas":1}]"#), 422, "Invalid");
        expect_status(patch(&set, r#"{"spec":[1,2]}"#), 422, "Invalid");
        expect_status(patch(&set, r#"{"spec":{"replicas":-1}}"#), 422, "Invalid");
        expect_status(patch(&runner, r#"{"status":{"jobRequestId":"x"}}"#), 422, "Invalid");
        expect_status(call(&cluster, Method::DELETE, &set, ""), 405, "MethodNotAllowed");
        expect_status(call(&cluster, Method::GET, "/apis/other", ""), 404, "NotFound");
        for path in [&set, &runner] {
            let large = call(&cluster, Method::PATCH, path, vec![b' '; BODY_LIMIT + 1]);
            expect_status(large, 413, "RequestEntityTooLarge");
        }
    }

    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        garbage::bodies(&[
            "[{}]",
            "[]",
            "{}",
            r#"{"spec":7}"#,
            r#"{"spec":{"replicas":"1"}}"#,
            r#"{"spec":{"replicas":-1}}"#,
            r#"{"spec":{"replicas":4294967296}}"#,
            r#"{"spec":{"patchID":1.5}}"#,
            r#"{"spec":null}"#,
            r#"{"status":{}}"#,
            r#"{"status":{"jobRequestId":null}}"#,
            r#"{"status":{"jobRequestId":9223372036854775808}}"#,
        ])
    }

    fn names() -> impl Strategy<Value = String> {
        prop_oneof![
            2 => Just("set".to_owned()),
            2 => Just("set-runner-1".to_owned()),
            1 => Just("%ff%00".to_owned()),
            1 => "[a-z0-9.-]{1,12}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn garbage_is_refused_with_a_status_and_changes_nothing(
            of_runner: bool,
            name in names(),
            body in bodies(),
        ) {
            let cluster = cluster();
            let path = if of_runner { runner_status_path(&name) } else { runner_set_path(&name) };
            let (status, answer) = call(&cluster, Method::PATCH, &path, body);
            let reason = match status {
                400 => "BadRequest",
                404 => "NotFound",
                422 => "Invalid",
                other => panic!("{other}: {answer}"),
            };
            expect_status((status, answer), status, reason);
            prop_assert_eq!(cluster.spec("set"), Some(RunnerSetSpec { replicas: 1, patch_id: 1 }));
            prop_assert_eq!(cluster.reconcile("set"), []);
        }
    }
}
