//! What listeners and the service say to each other (SS `types.go`, `client.go`, `session_client.go`).
//!
//! The real client is a Go program: a member that is missing reads as empty.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The GitHub API of a self-hosted GitHub: every host but github.com and its like (SS `config.go`).
pub const API: &str = "/api/v3";
/// Exchanges a registration token for an admin connection, under [`API`].
pub const RUNNER_REGISTRATION: &str = "/actions/runner-registration";
/// Scale sets, under the address of the admin connection.
pub const SCALE_SETS: &str = "_apis/runtime/runnerscalesets";
/// Runner groups, under the address of the admin connection.
pub const RUNNER_GROUPS: &str = "_apis/runtime/runnergroups/";
/// Runners, under the address of the admin connection.
pub const AGENTS: &str = "_apis/distributedtask/pools/0/agents";
/// The version of the API that clients ask for.
pub const API_VERSION: &str = "api-version=6.0-preview";
/// The scheme of a registration token.
pub const REMOTE_AUTH: &str = "RemoteAuth";
/// How many runners there may be at most, said with every poll.
pub const MAX_CAPACITY: &str = "x-scalesetmaxcapacity";
/// The name of a creation, however often it is sent: of the repaired design alone.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The one type of message that listeners know.
pub const JOB_MESSAGES: &str = "RunnerScaleSetJobMessages";
/// The path of the registration tokens of an organisation, under [`API`].
pub fn registration_token_path(organization: &str) -> String {
    format!("/orgs/{organization}/actions/runners/registration-token")
}

/// Types of exceptions, as `typeName` ends.
pub mod exception {
    /// 409: another session is live.
    pub const SESSION_CONFLICT: &str = "RunnerScaleSetSessionConflictException";
    /// 400: the session that is to be deleted has ended.
    pub const SESSION_EXPIRED: &str = "RunnerScaleSetSessionExpiredException";
    /// 404: there is no such scale set.
    pub const SCALE_SET_NOT_FOUND: &str = "RunnerScaleSetNotFoundException";
    /// 409: there is a scale set of this name.
    pub const SCALE_SET_EXISTS: &str = "RunnerScaleSetExistsException";
    /// 404: there is no such session to be refreshed.
    pub const ADMIN: &str = "RunnerAdminException";
    /// 409: there is a runner of this name.
    pub const AGENT_EXISTS: &str = "AgentExistsException";
    /// 404: there is no such runner.
    pub const AGENT_NOT_FOUND: &str = "AgentNotFoundException";
    /// 400: the runner that is to be removed executes a job.
    pub const JOB_STILL_RUNNING: &str = "JobStillRunningException";
    /// 401.
    pub const UNAUTHORIZED: &str = "UnauthorizedRequestException";
    /// 404: there is no such message.
    pub const MESSAGE_NOT_FOUND: &str = "MessageNotFoundException";
    /// 400: the body cannot be read.
    pub const BAD_BODY: &str = "InvalidRequestBodyException";
    /// 413.
    pub const TOO_LARGE: &str = "HttpException";
    /// 404 and 405: there is nothing here.
    pub const NO_ROUTE: &str = "VssResourceNotFoundException";
}

/// `registration-token`, and the access token of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Asks for an admin connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminRequest {
    /// The organisation's address.
    pub url: String,
    /// `register`.
    pub runner_event: String,
}

/// An admin connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdminConnection {
    /// The base of everything else.
    pub url: Option<String>,
    /// A JSON web token, whose end its client reads from it.
    pub token: Option<String>,
}

/// Counts of a scale set. Listeners look at `total_assigned_jobs` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Statistics {
    pub total_available_jobs: u32,
    pub total_acquired_jobs: u32,
    pub total_assigned_jobs: u32,
    pub total_running_jobs: u32,
    pub total_registered_runners: u32,
    pub total_busy_runners: u32,
    pub total_idle_runners: u32,
}

/// A label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Label {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
}

/// How runners of a set behave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RunnerSetting {
    pub disable_update: bool,
}

/// A scale set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ScaleSet {
    pub id: i64,
    pub name: String,
    pub runner_group_id: i64,
    pub runner_group_name: String,
    pub labels: Vec<Label>,
    /// With a large first letter, unlike all else.
    #[serde(rename = "RunnerSetting")]
    pub runner_setting: RunnerSetting,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_on: Option<Timestamp>,
    pub runner_jit_config_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listed<T> {
    /// How many.
    pub count: usize,
    /// They.
    pub value: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, value: Vec::new() }
    }
}

impl<T> From<Vec<T>> for Listed<T> {
    fn from(value: Vec<T>) -> Self {
        Self { count: value.len(), value }
    }
}

/// A group of runners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RunnerGroup {
    pub id: i64,
    pub name: String,
    pub size: u32,
    pub is_default_group: bool,
}

/// A session, asked for with `owner_name` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Session {
    pub session_id: Uuid,
    pub owner_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_scale_set: Option<ScaleSet>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_queue_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_queue_access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
}

/// A message: a batch of [`JobMessage`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Message {
    /// Its number, which grows.
    pub message_id: i64,
    /// [`JOB_MESSAGES`].
    pub message_type: String,
    /// A JSON array, as text.
    pub body: String,
    /// The set's counts when it was handed out.
    pub statistics: Option<Statistics>,
}

/// What is said about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "messageType")]
pub enum JobMessage {
    /// It may be acquired.
    JobAvailable {
        /// Where; no client uses it.
        #[serde(rename = "acquireJobUrl", default)]
        acquire_job_url: String,
        /// The job.
        #[serde(flatten)]
        job: JobFields,
    },
    /// It is this set's.
    JobAssigned {
        /// The job.
        #[serde(flatten)]
        job: JobFields,
    },
    /// A runner has it.
    JobStarted {
        /// The runner.
        #[serde(flatten)]
        runner: RunnerFields,
        /// The job.
        #[serde(flatten)]
        job: JobFields,
    },
    /// It has ended.
    JobCompleted {
        /// `succeeded`, `failed`, `canceled`.
        #[serde(default)]
        result: String,
        /// The runner.
        #[serde(flatten)]
        runner: RunnerFields,
        /// The job.
        #[serde(flatten)]
        job: JobFields,
    },
    /// Whatever else there may be: it is passed over, as the real listener does.
    #[serde(other)]
    Unknown,
}

/// A runner, in messages about jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RunnerFields {
    pub runner_id: i64,
    pub runner_name: String,
}

/// A job, in messages about jobs. Go reads no empty text as a time, so each is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct JobFields {
    pub runner_request_id: i64,
    pub repository_name: String,
    pub owner_name: String,
    pub job_id: String,
    pub job_workflow_ref: String,
    pub job_display_name: String,
    pub workflow_run_id: i64,
    pub event_name: String,
    pub request_labels: Vec<String>,
    pub queue_time: Timestamp,
    pub scale_set_assign_time: Timestamp,
    pub runner_assign_time: Timestamp,
    pub finish_time: Timestamp,
}

impl Default for JobFields {
    fn default() -> Self {
        let never = NEVER;
        Self {
            runner_request_id: 0,
            repository_name: String::new(),
            owner_name: String::new(),
            job_id: String::new(),
            job_workflow_ref: String::new(),
            job_display_name: String::new(),
            workflow_run_id: 0,
            event_name: String::new(),
            request_labels: Vec::new(),
            queue_time: never,
            scale_set_assign_time: never,
            runner_assign_time: never,
            finish_time: never,
        }
    }
}

/// What has not happened has happened in the year 1.
pub const NEVER: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// Asks for the configuration of a runner that is to be used once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct JitRequest {
    pub name: String,
    pub work_folder: String,
}

/// A runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RunnerReference {
    pub id: i64,
    pub name: String,
    pub runner_scale_set_id: i64,
}

/// The configuration of a runner that is to be used once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct JitConfig {
    pub runner: Option<RunnerReference>,
    #[serde(rename = "encodedJITConfig")]
    pub encoded: String,
}

/// An error of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Exception {
    pub type_name: String,
    pub type_key: String,
    pub message: String,
    pub error_code: i32,
    pub event_id: i32,
}

impl Exception {
    /// The service's error of this type, as .NET names it.
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        const LIBRARY: &str = "GitHub.Actions.Runtime.WebApi";
        Self {
            type_name: format!("{LIBRARY}.{key}, {LIBRARY}"),
            type_key: key.to_owned(),
            message: message.into(),
            error_code: 0,
            event_id: 3_000,
        }
    }
}

/// An error of the GitHub API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ApiError {
    pub message: String,
    pub documentation_url: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_about_jobs_are_flat() {
        let runner = RunnerFields { runner_id: 7, runner_name: "r-1".into() };
        let job = JobFields { runner_request_id: 42, ..JobFields::default() };
        let text = serde_json::to_value(JobMessage::JobStarted { runner, job }).unwrap();
        assert_eq!((&text["messageType"], &text["runnerId"]), (&json!("JobStarted"), &json!(7)));
        assert_eq!((&text["runnerRequestId"], &text["queueTime"]), (&json!(42), &json!("0001-01-01T00:00:00Z")));
        let unknown: JobMessage = serde_json::from_value(json!({"messageType": "JobPostponed", "x": 1})).unwrap();
        assert_eq!(unknown, JobMessage::Unknown);
    }

    #[test]
    fn what_is_missing_is_empty() {
        assert_eq!(serde_json::from_str::<Session>("{}").unwrap(), Session::default());
        assert_eq!(serde_json::from_str::<Message>("{\"messageId\":3}").unwrap().message_id, 3);
    }
}
