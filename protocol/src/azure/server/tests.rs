//! The services beside, driven in-process by raw requests.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::actions::agent::tests::kit::{VirtualClock, key};
use crate::azure::wire::flag;
use crate::distributed_task::server::{Encryption, Flow, Lifetime, Registration};
use crate::distributed_task::wire::{ASSERTION_TYPE, GRANT_TYPE, TokenRequest};
use crate::facts::Forget;
use crate::jwt::{Algorithm, Signer};

fn server() -> Server {
    let parameters = Parameters {
        progressive_backoff: ProgressiveBackoff::On,
        ..Parameters::new(Addresses::on("http://server"), "http://sps/a1/")
    };
    let clock = Arc::new(VirtualClock::default());
    Server::new(parameters, Policy::upstream(), clock, Arc::new(Forget), Box::new(ChaCha8Rng::seed_from_u64(1)))
}

async fn send(server: &Server, request: Request<Body>) -> (StatusCode, Value) {
    let answer = server.router().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn garbage_is_refused_as_the_real_server_does(body in proptest::collection::vec(any::<u8>(), 0..60), wrong in 0..3_usize) {
        run(async {
            let server = server();
            let token = token(&server).await;
            let shapes = [body.clone(), b"{\"area\":[]}".to_vec(), b"[{\"properties\":7}]".to_vec()];
            let (status, answer) = send(&server, asked("POST", "/tenant/_apis/CustomerIntelligence/Events", &token, shapes[wrong].clone())).await;
            assert!(status == StatusCode::BAD_REQUEST || (wrong == 0 && status.is_success()), "{status}");
            if !status.is_success() {
                assert!(answer["typeKey"].as_str().is_some_and(|key| key.ends_with("Exception")), "{answer}");
            }
        });
    }
}
