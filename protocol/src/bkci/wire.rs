//! What agents, workers and the server say to each other: paths, headers and JSON as on the real wire.
//!
//! Every answer is a [`Answer`]: `status` is 0, or an error's number. Calls of the agent itself are answered with the
//! agent's status beside it. Fields and headers that the repaired design adds are optional.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Paths below the gateway.
pub mod path {
    /// The agent's process has started.
    pub const STARTUP: &str = "/ms/environment/api/buildAgent/agent/thirdPartyAgent/startup";
    /// Heartbeat, claim and upgrade in one.
    pub const ASK: &str = "/ms/dispatch/api/buildAgent/agent/thirdPartyAgent/ask";
    /// A worker's process has ended.
    pub const FINISH: &str = "/ms/dispatch/api/buildAgent/agent/thirdPartyAgent/workerBuildFinish";
    /// A worker has started.
    pub const STARTED: &str = "/ms/process/api/build/worker/started";
    /// The next task for a worker.
    pub const CLAIM: &str = "/ms/process/api/build/worker/claim";
    /// A task has ended.
    pub const COMPLETE: &str = "/ms/process/api/build/worker/complete";
    /// A worker has no more to do.
    pub const END: &str = "/ms/process/api/build/worker/end";
    /// A worker is alive.
    pub const HEARTBEAT: &str = "/ms/process/api/build/worker/heartbeat/v1";
}

/// Names of headers.
pub mod header {
    /// Always [`super::BUILD_TYPE`].
    pub const BUILD_TYPE: &str = "X-DEVOPS-BUILD-TYPE";
    /// The project.
    pub const PROJECT_ID: &str = "X-DEVOPS-PROJECT-ID";
    /// The agent.
    pub const AGENT_ID: &str = "X-DEVOPS-AGENT-ID";
    /// The agent's secret.
    pub const SECRET_KEY: &str = "X-DEVOPS-AGENT-SECRET-KEY";
    /// The build that a worker is for.
    pub const BUILD_ID: &str = "X-DEVOPS-BUILD-ID";
    /// The job that a worker is for.
    pub const VM_SEQ_ID: &str = "X-DEVOPS-VM-SID";
    /// The attempt that a worker is for; of the repaired design.
    pub const EXECUTE_COUNT: &str = "X-DEVOPS-EXECUTE-COUNT";
    /// Which worker calls; of the repaired design.
    pub const WORKER_ID: &str = "X-DEVOPS-WORKER-ID";
}

/// What agents on machines of their own say that they are.
pub const BUILD_TYPE: &str = "AGENT";

/// Numbers of errors.
pub mod code {
    /// All is well.
    pub const OK: i64 = 0;
    /// The job's worker has started already (`buildVMStarted`).
    pub const STARTED_ALREADY: i64 = 2_101_255;
    /// The build has ended.
    pub const BUILD_ENDED: i64 = 2_101_182;
    /// The agent could not start a worker; a job of an environment moves to another node.
    pub const WORKER_NOT_STARTED: i64 = 2_128_040;
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<T> {
    /// [`code::OK`], or an error's number.
    pub status: i64,
    /// What is wrong.
    #[serde(default)]
    pub message: Option<String>,
    /// What was asked for.
    #[serde(default = "none")]
    pub data: Option<T>,
}

/// An answer to an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentAnswer<T> {
    /// [`code::OK`], or an error's number.
    pub status: i64,
    /// What is wrong.
    #[serde(default)]
    pub message: Option<String>,
    /// What the server takes the agent for; unknown when that could not be found out.
    #[serde(default)]
    pub agent_status: Option<AgentStatus>,
    /// What was asked for.
    #[serde(default = "none")]
    pub data: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

/// What the server takes an agent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AgentStatus {
    /// Installed and not imported.
    UnImport,
    /// Installed, heard of and not imported.
    UnImportOk,
    /// Imported and heard of.
    ImportOk,
    /// Imported and silent.
    ImportException,
    /// Deleted: it is to uninstall itself.
    Delete,
}

/// The body of [`path::STARTUP`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartInfo {
    /// The machine's name.
    pub hostname: String,
    /// The machine's address.
    pub host_ip: String,
    /// The machine's operating system.
    #[serde(rename = "detectOS")]
    pub detect_os: String,
    /// The agent's version.
    pub master_version: String,
    /// The worker's version.
    pub version: String,
}

/// The body of [`path::ASK`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskInfo {
    /// What the agent would take.
    pub ask_enable: AskEnable,
    /// How it is.
    pub heartbeat: AgentHeartbeat,
    /// What it has installed.
    #[serde(default)]
    pub upgrade: Option<serde_json::Value>,
}

/// What an agent would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskEnable {
    /// Which builds.
    pub build: BuildJobType,
    /// Upgrades.
    pub upgrade: bool,
    /// Debugging of containers.
    pub docker_debug: bool,
    /// Pipelines of the agent's own.
    pub pipeline: bool,
}

/// Which builds an agent would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BuildJobType {
    /// Any.
    All,
    /// Those in containers.
    Docker,
    /// Those on the machine itself.
    Binary,
    /// None.
    None,
}

/// How an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentHeartbeat {
    /// The agent's version.
    pub master_version: String,
    /// The worker's version.
    pub slave_version: String,
    /// The machine's name.
    pub host_name: String,
    /// The machine's address.
    pub agent_ip: String,
    /// How many workers it runs at once.
    pub parallel_task_count: u32,
    /// Where it is installed.
    #[serde(default)]
    pub agent_install_path: String,
    /// As whom it runs.
    #[serde(default)]
    pub started_user: String,
    /// The builds that it has.
    #[serde(default)]
    pub task_list: Vec<TaskInfo>,
}

/// A build that an agent has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// The project.
    pub project_id: String,
    /// The build.
    pub build_id: String,
    /// The job.
    pub vm_seq_id: String,
    /// Where it runs.
    #[serde(default)]
    pub workspace: String,
    /// The attempt; of the repaired design.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execute_count: Option<u32>,
}

/// The data of the answer to [`path::ASK`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskResponse {
    /// What the server makes of the heartbeat.
    #[serde(default)]
    pub heartbeat: Option<HeartbeatResponse>,
    /// A build to do.
    #[serde(default)]
    pub build: Option<BuildInfo>,
}

/// What the server makes of an agent's heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatResponse {
    /// How many workers the agent may run at once.
    pub parallel_task_count: u32,
    /// The agent's status, as text.
    #[serde(default)]
    pub agent_status: String,
}

/// A build to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// The project.
    pub project_id: String,
    /// The build.
    pub build_id: String,
    /// The job.
    pub vm_seq_id: String,
    /// Where to run it; the agent's own default when empty.
    #[serde(default)]
    pub workspace: String,
    /// The pipeline.
    #[serde(default)]
    pub pipeline_id: String,
    /// The attempt.
    #[serde(default)]
    pub execute_count: Option<u32>,
    /// The job's identity over builds.
    #[serde(default)]
    pub container_hash_id: Option<String>,
}

/// The body of [`path::FINISH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildWithStatus {
    /// The build.
    #[serde(flatten)]
    pub build: BuildInfo,
    /// Did the worker's process end well?
    pub success: bool,
    /// What went wrong.
    #[serde(default)]
    pub message: String,
    /// What went wrong, in numbers.
    #[serde(default)]
    pub error: Option<FinishError>,
}

/// What went wrong with a worker's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishError {
    /// Whose fault it is.
    pub error_type: String,
    /// In words.
    pub error_message: String,
    /// [`code::WORKER_NOT_STARTED`] or another number.
    pub error_code: i64,
}

/// The data of the answer to [`path::STARTED`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildVariables {
    /// The build.
    pub build_id: String,
    /// The job.
    pub vm_seq_id: String,
    /// The job's name.
    pub vm_name: String,
    /// The project.
    pub project_id: String,
    /// The pipeline.
    pub pipeline_id: String,
    /// The build's variables.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// After how many milliseconds the worker ends its job.
    #[serde(default)]
    pub timeout_mills: u64,
}

/// The variable with the job on whose workspace a job builds; of the repaired design.
pub const BUILDS_ON: &str = "agent.reuse.buildsOn";

/// The data of the answer to [`path::CLAIM`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildTask {
    /// The build.
    pub build_id: String,
    /// The job.
    pub vm_seq_id: String,
    /// What to do.
    pub status: BuildTaskStatus,
    /// The task.
    #[serde(default)]
    pub task_id: Option<String>,
    /// The task's place in the pipeline.
    #[serde(default)]
    pub element_id: Option<String>,
    /// The task's name.
    #[serde(default)]
    pub element_name: Option<String>,
    /// The task's kind.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// The attempt.
    #[serde(default)]
    pub execute_count: Option<u32>,
}

/// What a worker is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BuildTaskStatus {
    /// A task.
    Do,
    /// Nothing for now.
    Wait,
    /// Nothing more.
    End,
}

/// The body of [`path::COMPLETE`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildTaskResult {
    /// The task.
    pub task_id: String,
    /// The task's place in the pipeline.
    pub element_id: String,
    /// The job's identity over builds.
    #[serde(default)]
    pub container_id: Option<String>,
    /// Did it succeed?
    pub success: bool,
    /// The attempt.
    #[serde(default)]
    pub execute_count: Option<u32>,
    /// Variables that it set.
    pub build_result: BTreeMap<String, String>,
    /// What went wrong.
    #[serde(default)]
    pub message: Option<String>,
    /// The task's kind.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Whose fault it is.
    #[serde(default)]
    pub error_type: Option<String>,
    /// Its number.
    #[serde(default)]
    pub error_code: Option<i64>,
}

/// The error's number of a task that was asked to end.
pub const TASK_CANCELLED: i64 = 2_199_007;

/// The data of the answer to [`path::HEARTBEAT`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartBeatInfo {
    /// The project.
    pub project_id: String,
    /// The build.
    pub build_id: String,
    /// The job.
    pub vm_seq_id: String,
    /// Tasks that are to end.
    #[serde(default)]
    pub cancel_task_ids: Option<BTreeSet<String>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_as_on_the_wire() {
        let ask = AskInfo {
            ask_enable: AskEnable { build: BuildJobType::Binary, upgrade: true, docker_debug: false, pipeline: false },
            heartbeat: AgentHeartbeat { parallel_task_count: 4, ..AgentHeartbeat::default() },
            upgrade: None,
        };
        let ask = serde_json::to_value(ask).unwrap();
        assert_eq!(ask["askEnable"]["build"], "BINARY");
        assert_eq!(ask["heartbeat"]["parallelTaskCount"], 4);
        let answer = json!({"status": 0, "agentStatus": "IMPORT_OK", "data": {"build": {
            "projectId": "p", "buildId": "b-1", "vmSeqId": "1", "executeCount": 2, "unknown": 7}}});
        let answer: AgentAnswer<AskResponse> = serde_json::from_value(answer).unwrap();
        assert_eq!(answer.agent_status, Some(AgentStatus::ImportOk));
        assert_eq!(answer.data.unwrap().build.unwrap().execute_count, Some(2));
        let finish = BuildWithStatus { success: true, ..BuildWithStatus::default() };
        assert_eq!(serde_json::to_value(finish).unwrap()["vmSeqId"], "");
    }
}
