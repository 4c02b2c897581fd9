//! What a running job sends about itself: events of its plan, its timeline, its console, its logs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::job::{TaskResult, VariableValue};
use super::time;

/// Names of a [`JobEvent`].
pub mod event {
    /// The job has ended.
    pub const JOB_COMPLETED: &str = "JobCompleted";
    /// The job has begun.
    pub const JOB_STARTED: &str = "JobStarted";
}

/// An event of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobEvent {
    /// See [`event`].
    pub name: String,
    /// Which job.
    pub job_id: Uuid,
    /// The pool's request for it.
    pub request_id: i64,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// What it hands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<BTreeMap<String, VariableValue>>,
    /// The agent takes no further job (Azure, run-once).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_will_shut_down: Option<bool>,
    /// The token of the attempt's lease, for servers that fence. No real client sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_token: Option<Uuid>,
}

/// The body of a `JobMetadataUpdate` message (Azure).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct JobMetadata {
    pub job_id: Uuid,
    pub post_lines_frequency_millis: Option<i64>,
}

/// One line of a timeline. Times and states are kept as they were sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct TimelineRecord {
    pub id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<TaskLogReference>,
}

/// A log that a [`TimelineRecord`] refers to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct TaskLogReference {
    pub id: i64,
    pub location: Option<String>,
}

/// Lines of the console of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct FeedLines {
    pub count: i64,
    pub value: Vec<String>,
    pub step_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_line: Option<i64>,
}

/// A log of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "named as on the wire")]
pub struct TaskLog {
    pub id: i64,
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub created_on: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::instant_option")]
    pub last_changed_on: Option<Timestamp>,
    pub line_count: i64,
}
