//! A server that answers one endpoint with garbage, and the others well.

use std::collections::BTreeMap;

use http::StatusCode;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::super::runner::Runner;
use super::kit::*;
use crate::actions::agent::{Configuration, SETTINGS_FILE};
use crate::actions::choices::{Choices, NotJson};
use crate::actions::supervisor::exit;
use crate::actions::wire::{AcquireJobRequest, CompleteJobRequest, RenewJobRequest};
use crate::distributed_task::agent::SEND_TIMEOUT;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::task_server::Connection;
use crate::distributed_task::wire::{
    JobEvent, PlanReference, TaskAgentJobRequest, TaskAgentSession, TaskResult, TimelineRecord,
};
use crate::fakes::garbage::TEXTS;
use crate::http::TransportError;

const JSON: &str = "application/json; charset=utf-8";

/// What a runner asks, in V2 and in V1.
const V2: [&str; 8] = [
    "POST token",
    "POST session",
    "GET message",
    "POST acknowledge",
    "POST acquirejob",
    "POST renewjob",
    "POST completejob",
    "DELETE session",
];
const V1: [&str; 8] = [
    "POST token",
    "GET ConnectionData",
    "POST sessions",
    "GET messages",
    "DELETE messages",
    "PATCH jobrequests",
    "POST events",
    "DELETE sessions",
];

#[derive(Clone, Debug)]
enum Garbage {
    Raw(u16, &'static str, Vec<u8>),
    Oversized(u16),
}

impl Garbage {
    fn answer(&self) -> Answer {
        match self {
            Self::Raw(status, kind, body) => Answer::Raw(*status, kind, body.clone()),
            Self::Oversized(status) => Answer::Oversized(*status),
        }
    }

    fn status(&self) -> StatusCode {
        let (Self::Raw(status, ..) | Self::Oversized(status)) = self;
        StatusCode::from_u16(*status).unwrap()
    }
}

/// A message whose body is text.
fn message(number: i64, kind: &str, body: impl ToString) -> Vec<u8> {
    json!({"messageId": number, "messageType": kind, "body": body.to_string()}).to_string().into_bytes()
}

/// JSON of wrong shapes, of wrong types, with numbers that are too large, and with text that is no address and no token.
fn shapes() -> Vec<Vec<u8>> {
    let migration = "BrokerMigration";
    let (reference, job, cancellation) = ("RunnerJobRequest", "PipelineAgentJobRequest", "JobCancellation");
    let longest = format!("{}.06:00:00", u64::MAX / 86_400);
    let mut endless = job_body(8);
    endless["resources"]["endpoints"][0]["url"] = json!("no address\n");
    endless["resources"]["endpoints"][0]["authorization"]["parameters"]["AccessToken"] = json!("a\nb");
    endless["plan"]["planType"] = json!("a type");
    endless["requestId"] = json!(i64::MIN);
    endless["lockedUntil"] = json!("9999-12-30T00:00:00Z");
    let mut shapes = vec![
        message(1, reference, ""),
        message(1, reference, "[7]"),
        message(i64::MAX, reference, json!({"runner_request_id": "r", "run_service_url": "no address\n"})),
        message(i64::MIN, reference, json!({"runner_request_id": "r"})),
        message(2, reference, json!({"runner_request_id": 7, "should_acknowledge": "yes"})),
        message(3, job, "{}"),
        message(4, job, "{\"jobId\":7}"),
        message(5, job, job_body(5)),
        message(6, job, &endless),
        message(7, cancellation, json!({"jobId": job_id(1), "timeout": longest})),
        message(7, cancellation, json!({"jobId": job_id(1), "timeout": "-1"})),
        message(8, migration, json!({"brokerBaseUrl": "no address\n"})),
        message(8, migration, json!({"brokerBaseUrl": ""})),
        message(9, "ForceTokenRefresh", ""),
        message(9, "Unknown", ""),
        endless.to_string().into_bytes(),
    ];
    let texts = [
        "[]",
        "{}",
        r#"{"messageId":"x","messageType":7,"body":{}}"#,
        r#"{"messageId":99999999999999999999,"messageType":"RunnerJobRequest","body":"{}"}"#,
        r#"{"sessionId":7,"ownerName":[]}"#,
        r#"{"sessionId":null,"encryptionKey":{"encrypted":true,"value":"AAAA"}}"#,
        r#"{"sessionId":"00000000-0000-0000-0000-000000000001","encryptionKey":{"encrypted":false,"value":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#,
        r#"{"sessionId":"00000000-0000-0000-0000-000000000001","brokerMigrationMessage":{"brokerBaseUrl":"no address"}}"#,
        r#"{"access_token":"a\nb","expires_in":1,"token_type":"bearer"}"#,
        r#"{"access_token":"","expires_in":18446744073709551615,"token_type":"bearer"}"#,
        r#"{"access_token":[],"expires_in":-1}"#,
        r#"{"error":7}"#,
        r#"{"error":"invalid_client","error_description":"Current server time is"}"#,
        r#"{"lockedUntil":"9999-12-31T23:59:59.9999999Z"}"#,
        r#"{"lockedUntil":"-009999-01-01T00:00:00Z"}"#,
        r#"{"lockedUntil":"0001-01-01T00:00:00"}"#,
        r#"{"lockedUntil":7,"requestId":1e400}"#,
        r#"{"requestId":-9223372036854775808,"lockedUntil":"1970-01-01T00:00:00Z"}"#,
        r#"{"typeKey":7,"message":[]}"#,
        r#"{"typeKey":"TaskAgentSessionExpiredException"}"#,
        r#"{"typeKey":"TaskAgentSessionConflictException"}"#,
        r#"{"typeKey":"TaskAgentJobNotFoundException","message":"no"}"#,
        r#"{"source":"actions-broker-listener","errorKind":7,"statusCode":"x"}"#,
        r#"{"source":"actions-broker-listener","errorKind":"RunnerSessionInvalid","statusCode":400}"#,
        r#"{"source":"actions-broker-listener","errorKind":"Other","statusCode":99999999}"#,
        r#"{"source":"actions-run-service","statusCode":404,"errorMessage":7}"#,
        r#"{"source":"actions-run-service","statusCode":1}"#,
        r#"{"source":"actions-run-service","statusCode":409,"errorMessage":"taken"}"#,
    ];
    shapes.extend(TEXTS.iter().chain(&texts).map(|text| text.as_bytes().to_vec()));
    shapes
}

fn garbage() -> impl Strategy<Value = Garbage> {
    let status = || {
        let usual = [200, 201, 202, 204, 301, 400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503];
        prop_oneof![2 => Just(200_u16), 2 => proptest::sample::select(usual.to_vec()), 1 => 200..600_u16]
    };
    let kind = prop_oneof![4 => Just(JSON), 1 => Just("text/html"), 1 => Just("")];
    let body = prop_oneof![
        3 => proptest::sample::select(shapes()),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ];
    prop_oneof![
        12 => (status(), kind, body).prop_map(|(status, kind, body)| Garbage::Raw(status, kind, body)),
        1 => status().prop_map(Garbage::Oversized),
    ]
}

/// How long an answer takes. A runner that asks again at once is no faster than that.
const TAKES: std::time::Duration = std::time::Duration::from_millis(100);
/// When the runner is asked to stop.
const STOP_AT: u64 = 1_200;

/// The most requests within a minute, of the upstream design and of the repaired one. What a real runner does not pace is
/// held up by nothing but the time that answers take.
const REQUESTS_PER_MINUTE_MAX: [usize; 2] = [1_800, 400];

fn designs() -> impl Strategy<Value = (Choices, usize)> {
    let [upstream, hardened] = REQUESTS_PER_MINUTE_MAX;
    prop_oneof![Just((Choices::upstream(), upstream)), Just((Choices::hardened(), hardened))]
}

/// One runner, to its end: whatever it is told, it neither panics nor hammers its server, and it ends when it is asked to.
fn survives(
    choices: Choices,
    most: usize,
    endpoint: &'static str,
    answers: Vec<Option<Garbage>>,
    flow: fn(Bench) -> Bench,
) {
    let mut nth = 0;
    let mut by_minute: BTreeMap<u64, usize> = BTreeMap::new();
    let bench = Bench::new(choices, move |asked| {
        let asked_now = by_minute.entry(asked.at.as_secs() / 60).or_default();
        *asked_now += 1;
        assert!(*asked_now <= most, "more than {most} requests within a minute, the last {}", asked.what);
        let answer = match (asked.what == endpoint).then(|| &answers[nth % answers.len()]) {
            Some(wrong) => {
                nth += 1;
                wrong.as_ref().map(Garbage::answer)
            }
            None => None,
        };
        let well = || match (asked.what.as_str(), asked.before) {
            ("GET message", 0) => v2_job(1),
            ("GET messages", 0) => v1_job(1, 1),
            _ => usual(asked, &VirtualClock::at(asked.at)),
        };
        Some(after(TAKES, answer.unwrap_or_else(well)))
    });
    let bench = flow(bench);
    let code = bench.run_until(secs(4 * 3_600), bench.shutdown_at(secs(STOP_AT)));
    let known = [
        exit::SUCCESS,
        exit::TERMINATED_ERROR,
        exit::RETRYABLE_ERROR,
        exit::RUNNER_UPDATING,
        exit::RUN_ONCE_RUNNER_UPDATING,
        exit::SESSION_CONFLICT,
    ];
    assert!(code.is_some_and(|code| known.contains(&code)), "it ends with {code:?} at {:?}", bench.clock.now());
    bench.go_on(secs(3_600));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn garbage_of_any_v2_endpoint_is_survived(
        (choices, most) in designs(),
        endpoint in proptest::sample::select(&V2[..]),
        answers in proptest::collection::vec(proptest::option::weighted(0.8, garbage()), 1..6),
    ) {
        survives(choices, most, endpoint, answers, Bench::v2);
    }

    #[test]
    fn garbage_of_any_v1_endpoint_is_survived(
        (choices, most) in designs(),
        endpoint in proptest::sample::select(&V1[..]),
        answers in proptest::collection::vec(proptest::option::weighted(0.8, garbage()), 1..6),
    ) {
        survives(choices, most, endpoint, answers, Bench::v1);
    }
}

/// One call of each kind, to a server that answers it with garbage alone; whether it read anything is of no interest.
async fn call(runner: &Runner, endpoint: &str) -> Result<(), Failure> {
    let (broker, service, server) = (runner.broker(BASE), runner.run_service(BASE), &runner.server);
    let (session, status, plan) = (Uuid::from_u128(1), runner.poll_status("Online"), PlanReference::default());
    let asked = TaskAgentSession::default();
    match endpoint {
        "POST session" => broker.create_session(&asked, None).await.map(drop),
        "GET message" | "POST token" => broker.message(session, &status).await.map(drop),
        "POST acknowledge" => broker.acknowledge(session, &status, "r").await,
        "DELETE session" => broker.delete_session(Some(session)).await,
        "POST acquirejob" => service.acquire(&AcquireJobRequest::default(), None).await.map(drop),
        "POST renewjob" => service.renew(&RenewJobRequest::default(), SEND_TIMEOUT).await.map(drop),
        "POST completejob" => {
            let request: CompleteJobRequest = serde_json::from_value(json!({"conclusion": "failed"})).unwrap();
            service.complete(&request, None).await
        }
        "GET ConnectionData" => server.connect(Connection::Generic).await.map(drop),
        "POST sessions" => server.create_session(&asked, None).await.map(drop),
        "GET messages" => server.message(session, Some(1), &status).await.map(drop),
        "DELETE messages" => server.delete_message(session, 1).await,
        "DELETE sessions" => server.delete_session(session).await,
        "PATCH jobrequests" => {
            let request = TaskAgentJobRequest { result: Some(TaskResult::Failed), ..TaskAgentJobRequest::default() };
            server.update_job_request(&request, session, None).await.map(drop)
        }
        "POST events" => server.raise_event(&plan, &JobEvent::default(), None).await,
        "PATCH records" => server.update_timeline(&plan, session, vec![TimelineRecord::default()]).await,
        other => panic!("no call asks for {other}"),
    }
}

/// What is read of a good answer.
fn is_read(endpoint: &str) -> bool {
    let unread = ["POST acknowledge", "DELETE session", "POST completejob"];
    let unread_by_v1 = ["DELETE messages", "DELETE sessions", "POST events", "PATCH records"];
    !unread.contains(&endpoint) && !unread_by_v1.contains(&endpoint)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_is_a_typed_error_of_its_call(
        (choices, _) in designs(),
        endpoint in proptest::sample::select([&V2[..], &V1[..], &["PATCH records"]].concat()),
        wrong in garbage(),
    ) {
        let answer = wrong.clone();
        let not_json = choices.not_json;
        let bench = Bench::new(choices.clone(), move |asked| (asked.what == endpoint).then(|| answer.answer())).v2();
        let configuration = Configuration::load(&bench.disk, SETTINGS_FILE).unwrap();
        let runner = Runner::new(bench.machine(0), choices, configuration);
        let done = bench.clock.run(call(&runner, endpoint));
        let status = wrong.status();
        let case = format!("{endpoint}: {status} came to {done:?}");
        if endpoint == "POST token" {
            prop_assert!(matches!(
                done,
                Ok(())
                    | Err(Failure::Token { .. } | Failure::TokenService { .. } | Failure::Unauthorized)
                    | Err(Failure::Unsendable(_) | Failure::Transport(TransportError::TooLarge { .. }))
                    | Err(Failure::TimedOut(_))
            ), "{case}");
            return Ok(());
        }
        match (&wrong, &done) {
            (_, Err(failure)) if status == StatusCode::UNAUTHORIZED => {
                prop_assert_eq!(failure, &Failure::Unauthorized, "{}", case);
            }
            (Garbage::Oversized(_), done) => {
                let too_large = matches!(done, Err(Failure::Transport(TransportError::TooLarge { .. })));
                prop_assert!(too_large, "{case}");
            }
            (_, Err(Failure::Status { status: told } | Failure::Service { status: told, .. })) => {
                prop_assert!(!status.is_success() && *told == status, "{case}");
            }
            (Garbage::Raw(_, kind, _), Err(Failure::Unreadable(_))) => {
                prop_assert!(status.is_success(), "{case}");
                prop_assert!(is_read(endpoint) || !kind.contains("json"), "{case}");
            }
            (Garbage::Raw(_, kind, body), Ok(())) => {
                prop_assert!(status.is_success(), "{case}");
                // Nothing but the kind of an answer that nobody reads tells a page from a success.
                let a_page = !kind.contains("json") && !body.is_empty() && status != StatusCode::ACCEPTED;
                let is_strict = match endpoint {
                    "POST acknowledge" | "DELETE session" => false,
                    _ => not_json == NotJson::Error,
                };
                prop_assert!(!(a_page && is_strict), "{case}");
            }
            _ => prop_assert!(false, "{case}"),
        }
    }
}

/// The address of a run service is the server's word.
#[test]
fn an_address_that_is_none_is_an_error() {
    let bench = Bench::new(Choices::hardened(), |_| None).v2();
    let configuration = Configuration::load(&bench.disk, SETTINGS_FILE).unwrap();
    let runner = Runner::new(bench.machine(0), Choices::hardened(), configuration);
    let service = runner.run_service("no address\n");
    let done = bench.clock.run(service.acquire(&AcquireJobRequest::default(), None));
    assert!(matches!(done, Err(Failure::Unsendable(_))), "{done:?}");
}
