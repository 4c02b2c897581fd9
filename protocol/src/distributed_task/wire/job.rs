//! The job itself, and the request by which a pool accounts for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::message::TaskAgent;
use super::time;
use crate::facts::Outcome;

/// How a job ended. Written in camel case, read in any case or as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TaskResult {
    Succeeded = 0,
    SucceededWithIssues = 1,
    Failed = 2,
    Canceled = 3,
    Skipped = 4,
    Abandoned = 5,
}

impl TaskResult {
    const NAMES: [(TaskResult, &str); 6] = [
        (Self::Succeeded, "succeeded"),
        (Self::SucceededWithIssues, "succeededWithIssues"),
        (Self::Failed, "failed"),
        (Self::Canceled, "canceled"),
        (Self::Skipped, "skipped"),
        (Self::Abandoned, "abandoned"),
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// The result with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(result, _)| result)
    }

    /// The result with this number; a worker's exit code is 100 more.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::NAMES.get(usize::try_from(number).ok()?).map(|(result, _)| *result)
    }

    /// The same in the vocabulary of facts.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Succeeded | Self::SucceededWithIssues | Self::Skipped => Outcome::Succeeded,
            Self::Failed => Outcome::Failed,
            Self::Canceled => Outcome::Cancelled,
            Self::Abandoned => Outcome::Abandoned,
        }
    }
}

impl From<Outcome> for TaskResult {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Canceled,
            Outcome::Abandoned => Self::Abandoned,
        }
    }
}

impl Serialize for TaskResult {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TaskResult {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let read = match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(name) => Self::from_name(&name),
            serde_json::Value::Number(number) => number.as_u64().and_then(Self::from_number),
            _ => None,
        };
        read.ok_or_else(|| serde::de::Error::custom("not a task result"))
    }
}

/// The plan that a job belongs to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanReference {
    /// The project.
    pub scope_identifier: Uuid,
    /// The plan.
    pub plan_id: Uuid,
    /// The hub: "actions", "build", ...
    pub plan_type: String,
    /// Which features its server has: 8 and more take the job's end as a plan event.
    pub version: i32,
}

/// The timeline of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct TimelineReference {
    pub id: Uuid,
    pub change_id: i64,
    pub location: Option<String>,
}

/// A service that the job may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// [`JobMessage::SYSTEM_CONNECTION`] for the server itself.
    pub name: String,
    /// Its base URL.
    pub url: String,
    /// How to speak to it.
    pub authorization: Authorization,
    /// More about it.
    pub data: BTreeMap<String, String>,
}

/// Credentials of an [`Endpoint`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorization {
    /// "OAuth".
    pub scheme: String,
    /// The token is `AccessToken`.
    pub parameters: BTreeMap<String, String>,
}

/// What a job may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct JobResources {
    pub endpoints: Vec<Endpoint>,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VariableValue {
    /// Its value.
    pub value: String,
    /// Is it to be kept out of logs?
    pub is_secret: bool,
}

/// The whole job: the body of a V1 message, and what acquirejob answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobMessage {
    /// `PipelineAgentJobRequest`.
    pub message_type: String,
    /// Its plan.
    pub plan: PlanReference,
    /// Its timeline.
    pub timeline: TimelineReference,
    /// The job.
    pub job_id: Uuid,
    /// For humans.
    pub job_display_name: String,
    /// In the plan.
    pub job_name: String,
    /// The pool's request for it (V1).
    pub request_id: i64,
    /// Until when the lease holds: the server's wall time.
    #[serde(with = "time::instant_option")]
    pub locked_until: Option<Timestamp>,
    /// Services.
    pub resources: JobResources,
    /// Contexts.
    pub context_data: BTreeMap<String, serde_json::Value>,
    /// Variables.
    pub variables: BTreeMap<String, VariableValue>,
    /// Steps.
    pub steps: Vec<serde_json::Value>,
    /// What to keep out of logs.
    pub mask: Vec<serde_json::Value>,
    /// Files that the job was made from.
    pub file_table: Vec<String>,
    /// Who pays (V2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
    /// The token of this attempt's lease, from servers that fence: see [`lock_token`]. No real server sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_token: Option<Uuid>,
}

impl JobMessage {
    /// The name of the endpoint that is the server itself.
    pub const SYSTEM_CONNECTION: &str = "SystemVssConnection";

    /// The variable with the number of the attempt.
    pub const ATTEMPT: &str = "system.jobAttempt";

    /// The job's own access token.
    pub fn access_token(&self) -> Option<&str> {
        let system = self.resources.endpoints.iter().find(|endpoint| endpoint.name == Self::SYSTEM_CONNECTION)?;
        let parameters = &system.authorization.parameters;
        parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("AccessToken")).map(|(_, token)| token.as_str())
    }

    /// Which attempt at the job this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.variables.get(Self::ATTEMPT).and_then(|variable| variable.value.parse().ok()).unwrap_or(1)
    }
}

/// The pool's account of a job: what renewing answers, and what renewing and finishing send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct TaskAgentJobRequest {
    pub request_id: i64,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub queue_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub assign_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub receive_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub finish_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub locked_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_agent: Option<TaskAgent>,
}

/// The token of a lease in the form it has on the wire.
pub fn lock_token(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

/// The number in a lease's token; `None` for the zero GUID, which says nothing, and for what is no such token.
pub fn token_number(token: Uuid) -> Option<u64> {
    u64::try_from(token.as_u128()).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::super::from_value;
    use super::*;

    #[test]
    fn results_are_read_in_any_case_and_as_numbers() {
        for (sent, meant) in [
            (serde_json::json!("Succeeded"), TaskResult::Succeeded),
            (serde_json::json!("succeededwithissues"), TaskResult::SucceededWithIssues),
            (serde_json::json!(3), TaskResult::Canceled),
        ] {
            assert_eq!(from_value::<TaskResult>(sent).unwrap(), meant);
        }
        for wrong in [serde_json::json!("done"), serde_json::json!(6), serde_json::json!(null), serde_json::json!(-1)] {
            assert!(from_value::<TaskResult>(wrong).is_err());
        }
        assert_eq!(serde_json::to_value(TaskResult::SucceededWithIssues).unwrap(), "succeededWithIssues");
    }

    #[test]
    fn a_job_names_its_token_and_attempt() {
        let job: JobMessage = from_value(serde_json::json!({
            "jobId": "00000000-0000-0000-0000-000000000005",
            "resources": {"endpoints": [{"name": "SystemVssConnection", "url": "http://x/", "authorization":
                {"scheme": "OAuth", "parameters": {"AccessToken": "t"}}}]},
            "variables": {"system.jobAttempt": {"value": "3"}},
            "lockedUntil": "2026-01-01T00:00:00.0000000Z",
        }))
        .unwrap();
        assert_eq!((job.access_token(), job.attempt()), (Some("t"), 3));
        assert_eq!(job.locked_until, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(JobMessage::default().access_token(), None);
    }

    #[test]
    fn a_job_survives_the_wire() {
        let job = JobMessage {
            job_id: Uuid::from_u128(9),
            locked_until: Some("2026-01-01T00:00:00.5Z".parse().unwrap()),
            lock_token: Some(lock_token(4)),
            ..JobMessage::default()
        };
        assert_eq!(from_value::<JobMessage>(serde_json::to_value(&job).unwrap()).unwrap(), job);
    }

    #[test]
    fn lock_tokens_come_back() {
        assert_eq!(token_number(lock_token(17)), Some(17));
        assert_eq!(token_number(Uuid::nil()), None);
        assert_eq!(token_number(Uuid::from_u128(u128::MAX)), None);
    }
}
