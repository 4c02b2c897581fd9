//! Paths and JSON of the V2 flow of the GitHub Actions runner: the broker and the run service.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{TaskResult, VariableValue, time};

/// Paths below the base URL of the broker (`ServerUrlV2`).
pub mod broker {
    /// POST creates a session, DELETE ends it; the real client names none in the request.
    pub const SESSION: &str = "session";
    /// GET polls.
    pub const MESSAGE: &str = "message";
    /// POST confirms that a job message has arrived.
    pub const ACKNOWLEDGE: &str = "acknowledge";
}

/// Paths below the base URL of the run service (`run_service_url`).
pub mod run_service {
    /// POST takes a job.
    pub const ACQUIRE_JOB: &str = "acquirejob";
    /// POST extends its lease.
    pub const RENEW_JOB: &str = "renewjob";
    /// POST ends it.
    pub const COMPLETE_JOB: &str = "completejob";
}

/// The body of a `RunnerJobRequest` message: where the job can be acquired.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerJobRequestRef {
    /// The message's own id.
    pub id: String,
    /// What acquirejob and acknowledge are called with.
    pub runner_request_id: String,
    /// Should the arrival be confirmed?
    pub should_acknowledge: bool,
    /// The base URL of the run service. It ends with a slash, because clients resolve against it.
    pub run_service_url: String,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
}

/// The body of acknowledge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct AcknowledgeRequest {
    pub runner_request_id: String,
}

/// The body of acquirejob; its answer is a [`JobMessage`](crate::distributed_task::wire::JobMessage).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct AcquireJobRequest {
    pub job_message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "runnerOS")]
    pub runner_os: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
}

/// The body of renewjob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenewJobRequest {
    /// The plan.
    pub plan_id: Uuid,
    /// The job.
    pub job_id: Uuid,
    /// The token of the attempt's lease, for servers that fence. No real client sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_token: Option<Uuid>,
}

/// The answer of renewjob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RenewJobResponse {
    /// Until when the lease holds: the server's wall time.
    #[serde(with = "time::instant_option")]
    pub locked_until: Option<Timestamp>,
}

/// The body of completejob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteJobRequest {
    /// The plan.
    #[serde(default)]
    pub plan_id: Uuid,
    /// The job.
    #[serde(default)]
    pub job_id: Uuid,
    /// How it ended.
    pub conclusion: TaskResult,
    /// What it hands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<BTreeMap<String, VariableValue>>,
    /// Its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_results: Option<Vec<serde_json::Value>>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Vec<serde_json::Value>>,
    /// Measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Vec<serde_json::Value>>,
    /// Where what it deployed can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_url: Option<String>,
    /// Who pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
    /// Whose fault it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_failure_category: Option<String>,
    /// The token of the attempt's lease, for servers that fence. No real client sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_token: Option<Uuid>,
}

/// What the broker's `errorKind` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as on the wire")]
pub enum BrokerErrorKind {
    AcknowledgeJobNotFound,
    RunnerNotFound,
    RunnerVersionTooOld,
    HostedRunnerDeprovisioned,
    RunnerSessionInvalid,
    /// None of the kinds that clients know: they look at the status alone.
    Other,
}

impl BrokerErrorKind {
    const NAMED: [BrokerErrorKind; 5] = [
        Self::AcknowledgeJobNotFound,
        Self::RunnerNotFound,
        Self::RunnerVersionTooOld,
        Self::HostedRunnerDeprovisioned,
        Self::RunnerSessionInvalid,
    ];

    /// The text on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeJobNotFound => "AcknowledgeJobNotFound",
            Self::RunnerNotFound => "RunnerNotFound",
            Self::RunnerVersionTooOld => "RunnerVersionTooOld",
            Self::HostedRunnerDeprovisioned => "HostedRunnerDeprovisioned",
            Self::RunnerSessionInvalid => "RunnerSessionInvalid",
            Self::Other => "",
        }
    }
}

/// An error of the broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct BrokerError {
    pub source: String,
    pub error_kind: String,
    pub status_code: u16,
    pub error_message: String,
}

impl BrokerError {
    /// By this text in `source` a client knows that the broker itself is speaking; anything else is some proxy.
    pub const SOURCE: &str = "actions-broker-listener";

    /// An error of the broker.
    pub fn new(kind: BrokerErrorKind, status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            source: Self::SOURCE.into(),
            error_kind: kind.name().into(),
            status_code: status.as_u16(),
            error_message: message.into(),
        }
    }

    /// What kind of error it is; `None` when the broker did not write it.
    pub fn kind(&self) -> Option<BrokerErrorKind> {
        if self.source != Self::SOURCE {
            return None;
        }
        let known = BrokerErrorKind::NAMED.into_iter().find(|kind| kind.name() == self.error_kind);
        Some(known.unwrap_or(BrokerErrorKind::Other))
    }
}

/// An error of the run service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct RunServiceError {
    pub source: String,
    pub status_code: u16,
    pub error_message: String,
}

impl RunServiceError {
    /// By this text in `source` a client knows that the run service itself is speaking; anything else is some proxy.
    pub const SOURCE: &str = "actions-run-service";

    /// An error of the run service.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { source: Self::SOURCE.into(), status_code: status.as_u16(), error_message: message.into() }
    }

    /// The status that counts: that of the body, not that of the answer. `None` when the run service did not write it.
    pub fn status(&self) -> Option<StatusCode> {
        if self.source != Self::SOURCE {
            return None;
        }
        StatusCode::from_u16(self.status_code).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed_task::wire::from_value;

    #[test]
    fn a_reference_to_a_job_is_in_snake_case() {
        let reference = RunnerJobRequestRef {
            id: "m".into(),
            runner_request_id: "r".into(),
            should_acknowledge: true,
            run_service_url: "http://run/".into(),
            billing_owner_id: None,
        };
        let json = serde_json::json!({
            "id": "m", "runner_request_id": "r", "should_acknowledge": true, "run_service_url": "http://run/",
        });
        assert_eq!(serde_json::to_value(reference).unwrap(), json);
    }

    #[test]
    fn completions_are_read_from_both_clients() {
        let request: CompleteJobRequest = from_value(serde_json::json!({
            "planId": "00000000-0000-0000-0000-000000000001", "jobId": "00000000-0000-0000-0000-000000000002",
            "conclusion": "Succeeded",
        }))
        .unwrap();
        assert_eq!(request.conclusion, TaskResult::Succeeded);
        let numbered: CompleteJobRequest = from_value(serde_json::json!({"conclusion": 2})).unwrap();
        assert_eq!(numbered.conclusion, TaskResult::Failed);
        assert!(from_value::<CompleteJobRequest>(serde_json::json!({})).is_err());
    }

    #[test]
    fn only_the_services_own_errors_count() {
        let error = BrokerError::new(BrokerErrorKind::RunnerNotFound, StatusCode::NOT_FOUND, "gone");
        assert_eq!(error.kind(), Some(BrokerErrorKind::RunnerNotFound));
        assert_eq!(BrokerError { source: "nginx".into(), ..error }.kind(), None);
        let error = RunServiceError::new(StatusCode::CONFLICT, "taken");
        assert_eq!(error.status(), Some(StatusCode::CONFLICT));
        assert_eq!(RunServiceError { source: String::new(), ..error }.status(), None);
    }
}
