//! What the scripted server is asked and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::VirtualClock;
use crate::clock::Clock;
use crate::http::TransportError;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Duration,
    /// Method and last part of the path, as in "POST session".
    pub what: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: http::HeaderMap,
    pub body: Value,
    /// How many requests of this kind there were before.
    pub before: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What the server does about a request.
pub enum Answer {
    Json(u16, Value),
    /// A status without a body.
    Status(u16),
    /// A status, a content type, and these bytes.
    Raw(u16, &'static str, Vec<u8>),
    /// A status, and JSON's content type with more bytes than anybody reads.
    Oversized(u16),
    With(u16, &'static str, &'static str),
    /// A login page.
    Page,
    /// Headers, and then nothing.
    Stall,
    Fails(TransportError),
    /// No answer at all.
    Silence,
    After(Duration, Box<Answer>),
}

pub fn after(wait: Duration, answer: Answer) -> Answer {
    Answer::After(wait, Box::new(answer))
}

/// The server's own answers, where the script has none.
pub fn usual(asked: &Asked, clock: &VirtualClock) -> Answer {
    let until = crate::distributed_task::wire::time::format_instant(clock.wall() + LEASE);
    match asked.what.as_str() {
        "POST token" => {
            Answer::Json(200, json!({"access_token": "runner-token", "expires_in": 3000, "token_type": "bearer"}))
        }
        "GET ConnectionData" => Answer::Json(200, json!({})),
        "POST session" | "POST sessions" => {
            let mut session = asked.body.clone();
            session["sessionId"] = json!(Uuid::from_u128(77).to_string());
            Answer::Json(200, session)
        }
        "GET message" | "GET messages" => after(HOLD, Answer::Status(202)),
        "POST renewjob" => Answer::Json(200, json!({"lockedUntil": until})),
        "PATCH jobrequests" => Answer::Json(200, json!({"requestId": asked.body["requestId"], "lockedUntil": until})),
        "POST acquirejob" => Answer::Json(200, job_body(1)),
        _ => Answer::Status(200),
    }
}

/// How long the usual server holds a poll, and how long its leases are.
pub const HOLD: Duration = Duration::from_secs(50);
pub const LEASE: Duration = Duration::from_secs(600);

pub const BASE: &str = "http://server";

pub fn job_id(number: u128) -> Uuid {
    Uuid::from_u128(1000 + number)
}

/// A job as its worker gets it, of a plan that takes its end as an event.
pub fn job_body(number: u128) -> Value {
    json!({
        "messageType": "PipelineAgentJobRequest",
        "plan": {"scopeIdentifier": Uuid::nil(), "planId": Uuid::from_u128(500 + number), "planType": "actions", "version": 12},
        "timeline": {"id": Uuid::from_u128(600 + number)},
        "jobId": job_id(number), "jobName": format!("job-{number}"), "requestId": number as i64,
        "lockToken": Uuid::from_u128(9),
        "resources": {"endpoints": [{"name": "SystemVssConnection", "url": BASE,
            "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": "job-token"}}}]},
    })
}

pub fn v1_job(message: i64, number: u128) -> Answer {
    let body = job_body(number).to_string();
    Answer::Json(200, json!({"messageId": message, "messageType": "PipelineAgentJobRequest", "body": body}))
}

pub fn v2_job(message: i64) -> Answer {
    let body = json!({"id": "m", "runner_request_id": format!("r{message}"), "run_service_url": format!("{BASE}/run/"),
        "should_acknowledge": true});
    Answer::Json(200, json!({"messageId": message, "messageType": "RunnerJobRequest", "body": body.to_string()}))
}

pub fn cancellation(message: i64, number: u128, timeout: &str) -> Answer {
    let body = json!({"jobId": job_id(number), "timeout": timeout});
    Answer::Json(200, json!({"messageId": message, "messageType": "JobCancellation", "body": body.to_string()}))
}

pub fn exception(status: u16, key: &str) -> Answer {
    Answer::Json(status, json!({"$id": "1", "message": key, "typeKey": key, "errorCode": 0}))
}

pub fn broker_error(status: u16, kind: &str) -> Answer {
    Answer::Json(
        status,
        json!({"source": "actions-broker-listener", "errorKind": kind, "statusCode": status, "errorMessage": kind}),
    )
}

pub fn run_service_error(status: u16) -> Answer {
    Answer::Json(status, json!({"source": "actions-run-service", "statusCode": status, "errorMessage": "no"}))
}
