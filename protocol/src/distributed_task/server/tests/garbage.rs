use proptest::prelude::*;

use super::*;
use crate::fakes::garbage;

/// Every route that takes a body or a name, with the part that answers.
const ROUTES: [(&str, &str, &str); 18] = [
    ("POST", "/tenant/_apis/distributedtask/pools/1/sessions", "vss"),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/sessions/{}", "vss"),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/messages/{}", "vss"),
    ("GET", "/tenant/_apis/distributedtask/pools/{}/messages", "vss"),
    ("GET", "/tenant/_apis/distributedtask/pools/1/messages?sessionId={}", "vss"),
    ("PATCH", "/tenant/_apis/distributedtask/pools/1/jobrequests/{}", "vss"),
    ("PATCH", "/tenant/_apis/distributedtask/pools/1/jobrequests", "vss"),
    ("DELETE", "/tenant/_apis/distributedtask/pools/1/jobrequests/{}", "vss"),
    ("GET", "/tenant/_apis/distributedtask/pools/1/agents/{}", "vss"),
    ("PUT", "/tenant/_apis/distributedtask/pools/1/agents/{}", "vss"),
    ("POST", "/tenant/x/_apis/distributedtask/hubs/actions/plans/{}/events", "vss"),
    ("PATCH", "/tenant/x/_apis/distributedtask/hubs/actions/plans/{}/timelines/{}/records", "vss"),
    ("POST", "/tenant/x/_apis/distributedtask/hubs/actions/plans/{}/logs/{}", "vss"),
    ("POST", "/broker/session", "broker"),
    ("GET", "/broker/message?sessionId={}", "broker"),
    ("POST", "/broker/acknowledge?sessionId={}", "broker"),
    ("POST", "/run/acquirejob", "run"),
    ("POST", "/run/renewjob", "run"),
];

fn check(part: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    assert!((400..500).contains(&status), "{status}");
    let body = answer.json();
    match part {
        "vss" => assert!(body["typeKey"].as_str().is_some_and(|key| key.ends_with("Exception")), "{body}"),
        "broker" => {
            assert_eq!((&body["source"], &body["statusCode"]), (&json!("actions-broker-listener"), &json!(status)))
        }
        _ => assert_eq!((&body["source"], &body["statusCode"]), (&json!("actions-run-service"), &json!(status))),
    }
}

fn run<R>(work: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// Text that is no JSON, and JSON of shapes that no route takes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    garbage::bodies(&[
        r#"{"agent":7,"requestId":"x","labels":3,"jobId":1,"planId":2,"value":4,"runnerRequestId":[],"jobMessageId":{},"name":1}"#,
        r#"{"agent":{"id":{}},"result":"done","requestId":null,"labels":[7],"jobId":"x","planId":"","value":[1],"name":[]}"#,
    ])
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(Uuid::from_u128(77).to_string()),
        Just("99".into()),
        Just("-1".into()),
        Just("99999999999999999999".into()),
        Just("%ff%00".into()),
        "[a-z][a-z0-9]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn garbage_is_refused_in_the_words_of_the_part(route in 0..ROUTES.len(), name in names(), body in bodies()) {
        let (method, path, part) = ROUTES[route];
        run(async {
            let bench = Bench::upstream();
            let (member, _) = bench.v1("a").await;
            let answer = bench.call(method.parse().unwrap(), &path.replace("{}", &name), &member.token, body).await;
            check(part, &answer);
            assert_eq!(bench.server.snapshot().agents.len(), 1);
        });
    }

    #[test]
    fn garbage_is_no_token_request(body in proptest::collection::vec(any::<u8>(), 0..80)) {
        run(async {
            let bench = Bench::upstream();
            let answer = bench.send(Request::post("/_apis/oauth2/token").body(Body::from(body)).unwrap()).await;
            assert!(answer.expect(400)["error"].is_string());
        });
    }
}

#[tokio::test]
async fn json_has_the_errors_of_its_reader() {
    let bench = Bench::upstream();
    let (member, _) = bench.v1("a").await;
    let post = |body: &'static str| bench.call(Method::POST, SESSIONS, &member.token, body);
    post("{").await.expect_error(400, "JsonReaderException");
    post("{\"ownerName\":7}").await.expect_error(400, "JsonSerializationException");
    post("").await.expect_error(400, "ArgumentNullException");
    post("null").await.expect_error(400, "ArgumentNullException");
}

#[tokio::test]
async fn oversized_bodies_are_refused_by_every_part() {
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.body_limit = 1_000);
    let member = bench.member("a", Flow::V1, Encryption::Plain).await;
    let large = || Body::from(vec![b' '; 1_001]);
    for (path, part) in [(SESSIONS, "vss"), ("/broker/session", "broker"), ("/run/completejob", "run")] {
        let answer = bench.call(Method::POST, path, &member.token, large()).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        check(part, &answer);
    }
    let form = bench.send(Request::post("/_apis/oauth2/token").body(large()).unwrap()).await;
    assert_eq!(form.expect(413)["error"], "invalid_request");
}
