//! The services beside, driven in-process by raw requests.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use super::*;
use crate::actions::agent::tests::kit::{VirtualClock, key};
use crate::azure::wire::flag;
use crate::distributed_task::server::{Encryption, Flow, Lifetime, Registration};
use crate::distributed_task::wire::{ASSERTION_TYPE, GRANT_TYPE, TokenRequest};
use crate::facts::Forget;
use crate::fakes::garbage;
use crate::jwt::{Algorithm, Signer};

fn server() -> Server {
    timed_server(&VirtualClock::default())
}

fn timed_server(clock: &VirtualClock) -> Server {
    let mut parameters = Parameters {
        progressive_backoff: ProgressiveBackoff::On,
        ..Parameters::new(Addresses::on("http://server"), "http://sps/a1/")
    };
    parameters.tasks.body_limit = BODY_LIMIT;
    let (clock, random) = (Arc::new(clock.clone()), Box::new(ChaCha8Rng::seed_from_u64(1)));
    Server::new(parameters, Policy::upstream(), clock, Arc::new(Forget), random)
}

const BODY_LIMIT: usize = 10_000;

async fn send(server: &Server, request: Request<Body>) -> (StatusCode, Value) {
    let (status, _, body) = answered(server, request).await;
    (status, body)
}

async fn answered(server: &Server, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let (head, body) = server.router().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn asked(method: &str, path: &str, token: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    request.body(body.into()).unwrap()
}

/// A token of an agent.
async fn token(server: &Server) -> String {
    let (key, clock) = (key(), VirtualClock::default());
    let (name, flow, encryption) = ("a".to_owned(), Flow::V1, Encryption::Plain);
    let public_key = key.public();
    let is = server.tasks().register(Registration {
        name,
        pool: 1,
        flow,
        encryption,
        lifetime: Lifetime::Persistent,
        public_key,
    });
    let (signer, life) = (Signer::new(key, Algorithm::Rs256), Duration::from_secs(300));
    let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(2));
    let client_assertion = signer.assertion(is.client_id, &is.authorization_url, clock.wall(), life, &mut random);
    let form =
        TokenRequest { grant_type: GRANT_TYPE.into(), client_assertion_type: ASSERTION_TYPE.into(), client_assertion };
    let body = Body::from(serde_urlencoded::to_string(form).unwrap());
    let (_, granted) = send(server, Request::post("/_apis/oauth2/token").body(body).unwrap()).await;
    granted["access_token"].as_str().unwrap().to_owned()
}

fn run<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

#[tokio::test]
async fn the_second_host_says_where_things_are_to_anybody() {
    let server = server();
    let (status, data) =
        send(&server, Request::get("/a1/_apis/connectionData?connectOptions=1").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(data["locationServiceData"]["serviceDefinitions"].is_array(), "{data}");
}

#[tokio::test]
async fn flags_packages_and_events_are_for_agents() {
    let server = server();
    let (flag, package) = (
        format!("/tenant/_apis/FeatureFlags/{}", flag::PROGRESSIVE_BACKOFF),
        "/tenant/_apis/distributedtask/packages/agent/linux-x64",
    );
    let latest = format!("{package}/{LATEST_VERSION}");
    for path in [&flag, &latest] {
        let (status, body) = send(&server, asked("GET", path, "nobody", "")).await;
        assert_eq!((status, &body["typeKey"]), (StatusCode::UNAUTHORIZED, &"UnauthorizedRequestException".into()));
    }
    let token = token(&server).await;
    assert_eq!(send(&server, asked("GET", &flag, &token, "")).await.1["effectiveState"], "On");
    assert_eq!(
        send(&server, asked("GET", "/tenant/_apis/FeatureFlags/other", &token, "")).await.1["effectiveState"],
        "Off"
    );
    assert_eq!(send(&server, asked("GET", &latest, &token, "")).await.0, StatusCode::OK);
    assert_eq!(send(&server, asked("GET", &format!("{package}/0"), &token, "")).await.0, StatusCode::NOT_FOUND);
    let events = "/tenant/_apis/CustomerIntelligence/Events";
    assert_eq!(send(&server, asked("POST", events, &token, "[{\"area\":\"x\"}]")).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn there_is_no_v2_and_errors_are_in_azures_words() {
    let server = server();
    let (status, _) = send(&server, asked("POST", "/broker/session", "t", "{}")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, body) = send(&server, asked("GET", "/tenant/_apis/distributedtask/pools/1/messages", "t", "")).await;
    assert!(body["typeName"].as_str().unwrap().starts_with("Microsoft."), "{body}");
}

/// Does a route look at its body before it looks for what the path names?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Json,
    Nothing,
}

/// Every route that wants to know who calls, with any name for `{}`.
const ROUTES: [(&str, &str, Reads); 28] = [
    ("GET", "/tenant/_apis/distributedtask/pools", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/pools/{}", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/pools/{}/agents", Reads::Nothing),
    ("POST", "/tenant/_apis/distributedtask/pools/1/agents", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/pools/1/agents/{}", Reads::Nothing),
    ("PUT", "/tenant/_apis/distributedtask/pools/1/agents/{}", Reads::Nothing),
    ("PATCH", "/tenant/_apis/distributedtask/pools/1/agents/{}", Reads::Nothing),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/agents/{}", Reads::Nothing),
    ("POST", "/tenant/_apis/distributedtask/pools/1/sessions", Reads::Json),
    ("POST", "/tenant/_apis/distributedtask/pools/{}/sessions", Reads::Nothing),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/sessions/{}", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/pools/{}/messages", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/pools/1/messages?sessionId={}", Reads::Nothing),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/messages/{}", Reads::Nothing),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/messages/1?sessionId={}", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/pools/1/jobrequests/{}", Reads::Nothing),
    ("PATCH", "/tenant/_apis/distributedtask/pools/1/jobrequests/{}", Reads::Nothing),
    ("PATCH", "/tenant/_apis/distributedtask/pools/1/jobrequests/1?lockToken={}", Reads::Json),
    ("PATCH", "/tenant/_apis/distributedtask/pools/1/jobrequests", Reads::Json),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/jobrequests/{}", Reads::Nothing),
    ("GET", "/tenant/_apis/runner/messages/{}", Reads::Nothing),
    ("POST", "/tenant/x/_apis/distributedtask/hubs/build/plans/{}/events", Reads::Nothing),
    ("PATCH", "/tenant/x/_apis/distributedtask/hubs/build/plans/{}/timelines/{}/records", Reads::Nothing),
    ("POST", "/tenant/x/_apis/distributedtask/hubs/build/plans/{}/timelines/{}/records/{}/feed", Reads::Nothing),
    ("POST", "/tenant/x/_apis/distributedtask/hubs/build/plans/{}/logs", Reads::Nothing),
    ("POST", "/tenant/x/_apis/distributedtask/hubs/build/plans/{}/logs/{}", Reads::Nothing),
    ("GET", "/tenant/_apis/distributedtask/packages/agent/linux-x64/{}", Reads::Nothing),
    ("POST", "/tenant/_apis/CustomerIntelligence/Events", Reads::Json),
];

/// An error in Azure's words: the body of a `WrappedException`, with the names of Azure's own libraries or of the platform.
#[track_caller]
fn expect_azure((status, body): (StatusCode, Value)) -> (u16, String) {
    assert!(status.is_client_error(), "{status}: {body}");
    let key = body["typeKey"].as_str().unwrap_or_default();
    assert!(key.ends_with("Exception"), "{status}: {body}");
    let name = body["typeName"].as_str().unwrap_or_default();
    let homes = ["Microsoft.TeamFoundation.", "Microsoft.VisualStudio.Services.", "System.", "Newtonsoft.Json."];
    assert!(homes.iter().any(|home| name.starts_with(home)) && name.contains(key), "{body}");
    assert_eq!((&body["$id"], &body["errorCode"]), (&json!("1"), &json!(0)), "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()) && body["innerException"].is_null());
    (status.as_u16(), key.to_owned())
}

#[test]
fn unknown_names_have_the_exceptions_of_their_kinds() {
    let unknown = Uuid::from_u128(77);
    let tasks = "/tenant/_apis/distributedtask";
    let plan = format!("/tenant/x/_apis/distributedtask/hubs/build/plans/{unknown}");
    let cases = [
        ("GET", format!("{tasks}/pools/99"), 404, "TaskAgentPoolNotFoundException"),
        ("GET", format!("{tasks}/pools/1/agents/99"), 404, "TaskAgentNotFoundException"),
        ("GET", format!("{tasks}/pools/1/messages?sessionId={unknown}"), 400, "TaskAgentSessionExpiredException"),
        ("DELETE", format!("{tasks}/pools/1/messages/1?sessionId={unknown}"), 400, "TaskAgentSessionExpiredException"),
        ("PATCH", format!("{tasks}/pools/1/jobrequests/99"), 404, "TaskAgentJobNotFoundException"),
        ("POST", format!("{plan}/events"), 404, "TaskOrchestrationPlanNotFoundException"),
        ("GET", "/tenant/_apis/other".into(), 404, "HttpException"),
        ("PUT", format!("{tasks}/pools"), 405, "HttpException"),
    ];
    run(async {
        let server = server();
        let token = token(&server).await;
        for (method, path, status, key) in cases {
            let refused = send(&server, asked(method, &path, &token, "{}")).await;
            assert_eq!(expect_azure(refused), (status, key.to_owned()), "{method} {path}");
        }
    });
}

#[test]
fn oversized_bodies_are_refused_where_bodies_are_read() {
    let large = || vec![b' '; BODY_LIMIT + 1];
    run(async {
        let server = server();
        let token = token(&server).await;
        for (method, path, reads) in ROUTES {
            let path = path.replace("{}", &Uuid::from_u128(77).to_string());
            let refused = send(&server, asked(method, &path, &token, large())).await;
            if reads == Reads::Json {
                assert_eq!(expect_azure(refused), (413, "HttpException".to_owned()), "{method} {path}");
            }
        }
        let form = Request::post("/_apis/oauth2/token").body(Body::from(large())).unwrap();
        let (status, body) = send(&server, form).await;
        assert_eq!((status.as_u16(), &body["error"]), (413, &json!("invalid_request")));
    });
}

#[test]
fn a_token_that_has_ended_is_refused_everywhere() {
    let clock = VirtualClock::default();
    let server = timed_server(&clock);
    let token = run(token(&server));
    let events = "/tenant/_apis/CustomerIntelligence/Events";
    assert_eq!(run(send(&server, asked("POST", events, &token, "[]"))).0, StatusCode::NO_CONTENT);
    clock.run(clock.sleep(server.parameters.tasks.token_life));
    for (method, path, _) in ROUTES {
        let path = path.replace("{}", "1");
        let (status, headers, body) = run(answered(&server, asked(method, &path, &token, "{}")));
        assert_eq!(headers.get("www-authenticate").map(|how| how.as_bytes()), Some(&b"Bearer"[..]), "{method} {path}");
        assert_eq!(expect_azure((status, body)), (401, "UnauthorizedRequestException".to_owned()), "{method} {path}");
    }
}

/// Text that is no JSON, and JSON of shapes that no route takes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    garbage::bodies(&[
        "[7]",
        "[{\"area\":[]}]",
        "[{\"properties\":7}]",
        "{\"agent\":7,\"requestId\":\"x\",\"labels\":3,\"jobId\":1,\"value\":4,\"name\":1}",
        "{\"agent\":{\"id\":{}},\"result\":\"done\",\"requestId\":null,\"labels\":[7],\"value\":[1]}",
        "{\"requestId\":99999999999999999999,\"agent\":{\"id\":-99999999999999999999}}",
    ])
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(Uuid::from_u128(77).to_string()),
        Just("99".to_owned()),
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("%ff%00".to_owned()),
        "[a-z][a-z0-9]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_is_refused_in_azures_words(
        route in proptest::sample::select(&ROUTES[1..]), name in names(), body in bodies(),
    ) {
        let (method, path, _) = route;
        run(async {
            let server = server();
            let token = token(&server).await;
            let path = path.replace("{}", &name);
            let refused = send(&server, asked(method, &path, &token, body)).await;
            let (status, _) = expect_azure(refused);
            assert!([400, 401, 403, 404].contains(&status), "{method} {path}: {status}");
        });
    }

    #[test]
    fn any_name_is_that_of_a_flag(name in "[a-zA-Z0-9.]{1,20}", body in bodies()) {
        run(async {
            let server = server();
            let token = token(&server).await;
            let path = format!("/tenant/_apis/FeatureFlags/{name}");
            let (status, flag) = send(&server, asked("GET", &path, &token, body.clone())).await;
            assert_eq!((status, &flag["effectiveState"]), (StatusCode::OK, &json!("Off")));
            let (status, body) = send(&server, asked("GET", &path, &name, body.clone())).await;
            assert_eq!(expect_azure((status, body)), (401, "UnauthorizedRequestException".to_owned()));
        });
    }

    #[test]
    fn garbage_is_no_token_request(body in proptest::collection::vec(any::<u8>(), 0..80)) {
        run(async {
            let (status, answer) =
                send(&server(), Request::post("/_apis/oauth2/token").body(Body::from(body)).unwrap()).await;
            assert!(status == StatusCode::BAD_REQUEST && answer["error"].is_string(), "{status} {answer}");
        });
    }
}
