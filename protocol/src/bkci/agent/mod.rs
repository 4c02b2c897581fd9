//! The agent and its workers.
//!
//! The agent asks its server every 5 s; the asking is heartbeat and claim in one. What it is given to do it hands to a
//! worker process of its own, which reports to the server by itself, and whose end the agent reports once.

mod builds;
mod gateway;
mod heartbeat;
mod retries;
#[cfg(test)]
mod tests;
mod worker;
mod workspace;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, select_biased};
use serde::{Deserialize, Serialize};

use self::builds::Builds;
use self::gateway::{Gateway, Method};
use super::choices::{Choices, UnknownStatus};
use super::wire::{
    AgentAnswer, AgentHeartbeat, AgentStatus, Answer, AskEnable, AskInfo, AskResponse, BuildInfo, BuildJobType,
    StartInfo, path,
};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::http::Http;
use crate::line::{Line, SharedRandom};
use crate::random::Random;
use crate::signal::Tasks;
use crate::supervise::{Always, Shutdown};
use crate::workers::Workers;

pub use self::gateway::CallFailure;
pub use self::heartbeat::{FENCE_AFTER, FIRST_HEARTBEAT, HEARTBEAT_EVERY, HEARTBEAT_FAILURES};
pub use self::worker::{CODE_FENCED, worker};
pub use self::workspace::{WORKSPACE, snapshot};

/// Between two askings, and between two tries to start (`agent.go`).
pub const ASK_EVERY: Duration = Duration::from_secs(5);
/// How long the agent waits for an answer (`config.go:313-315`).
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after a worker's good end the agent reports it (`job/build.go`).
pub const FINISH_PAUSE: Duration = Duration::from_secs(8);
/// How soon the daemon starts the agent again.
pub const RELAUNCH_AFTER: Duration = Duration::from_secs(5);

/// What the agent and its workers are told of themselves (`.agent.properties`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Where the server is, such as `http://bkci`.
    pub gateway: String,
    /// The agent's project.
    pub project_id: String,
    /// The agent.
    pub agent_id: String,
    /// Its secret.
    pub secret_key: String,
    /// How many workers it runs at once.
    pub parallel_task_count: u32,
    /// How long it takes to get a worker ready: Java, the worker's archive.
    pub preparation: Preparation,
}

/// How long it takes to get a worker ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// As a rule.
    pub usual: Range<Duration>,
    /// When something has to be downloaded first.
    pub slow: Range<Duration>,
    /// How often that is so, in a hundred.
    pub slow_percent: u8,
}

/// What a process of the agent has of its machine.
pub struct Machine {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's network.
    pub http: Http,
    /// The process's generator.
    pub random: Random,
    /// Starts workers. A worker itself starts none.
    pub workers: Arc<dyn Workers>,
    /// The machine's disk.
    pub disk: Arc<dyn Disk>,
}

/// The daemon that starts the agent again whenever it ends.
pub fn daemon() -> Always {
    Always { delay: RELAUNCH_AFTER }
}

/// The agent's process, until `shutdown` is requested or its server has deleted it. Workers that it leaves behind run on.
pub async fn run(machine: Machine, choices: Choices, configuration: Configuration, shutdown: Shutdown) -> i32 {
    let line = Line { clock: machine.clock, http: machine.http, random: SharedRandom::new(machine.random) };
    let tasks = Tasks::new();
    let gateway = Gateway::new(line, &configuration);
    let builds = Builds::new(gateway.clone(), machine.workers, machine.disk, choices.clone(), configuration.clone());
    let agent = Agent { gateway, builds: Arc::new(builds), choices, configuration, tasks: tasks.clone() };
    tasks
        .beside(async {
            select_biased! {
                () = shutdown.requested().fuse() => {}
                () = agent.serve().fuse() => {}
            }
            0
        })
        .await
}

struct Agent {
    gateway: Gateway,
    builds: Arc<Builds>,
    choices: Choices,
    configuration: Configuration,
    tasks: Tasks,
}

/// What is left to do after an asking.
#[derive(PartialEq, Eq)]
enum Next {
    AskAgain,
    Uninstall,
}

impl Agent {
    async fn serve(&self) {
        while let Err(failure) = self.start_up().await {
            tracing::warn!("agent startup failed: {failure}");
            self.gateway.line.clock.sleep(ASK_EVERY).await;
        }
        while self.ask().await == Next::AskAgain {
            self.gateway.line.clock.sleep(ASK_EVERY).await;
        }
        tracing::warn!("agent has deleted, uninstall");
    }

    async fn start_up(&self) -> Result<(), CallFailure> {
        let start = StartInfo { detect_os: "Linux".into(), ..StartInfo::default() };
        let answer = self.gateway.call(Method::POST, path::STARTUP, &[], Some(&start), AGENT_TIMEOUT).await?;
        answer.parse::<Answer<serde_json::Value>>()?.into_result().map(drop)
    }

    async fn ask(&self) -> Next {
        let info = self.ask_info();
        let answer = self.gateway.call(Method::POST, path::ASK, &[], Some(&info), AGENT_TIMEOUT).await;
        let answer = match answer.and_then(|answer| answer.parse::<AgentAnswer<AskResponse>>()) {
            Ok(answer) => answer,
            Err(failure) => {
                tracing::warn!("ask request failed: {failure}");
                return Next::AskAgain;
            }
        };
        if answer.status != 0 {
            tracing::warn!("ask request result failed: {}", answer.message.unwrap_or_default());
            return Next::AskAgain;
        }
        let taken = match (answer.agent_status, self.choices.unknown_status) {
            (Some(AgentStatus::ImportOk), _) | (None, UnknownStatus::BuildTaken) => true,
            (Some(AgentStatus::Delete), _) => return Next::Uninstall,
            (status, _) => {
                tracing::warn!("agent status [{status:?}] not ok");
                false
            }
        };
        let build = answer.data.and_then(|data| data.build).filter(|_| info.ask_enable.build != BuildJobType::None);
        if let Some(build) = build.filter(|_| taken) {
            self.start(build);
        }
        Next::AskAgain
    }

    fn start(&self, build: BuildInfo) {
        let builds = self.builds.clone();
        self.tasks.add(async move { builds.do_build(build).await });
    }

    fn ask_info(&self) -> AskInfo {
        let build = if self.builds.has_room() { BuildJobType::Binary } else { BuildJobType::None };
        AskInfo {
            ask_enable: AskEnable { build, upgrade: false, docker_debug: false, pipeline: false },
            heartbeat: AgentHeartbeat {
                parallel_task_count: self.configuration.parallel_task_count,
                task_list: self.builds.task_list(),
                ..AgentHeartbeat::default()
            },
            upgrade: None,
        }
    }
}
