//! The builds that an agent has: being prepared, and running in workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::gateway::{Gateway, Method};
use super::{AGENT_TIMEOUT, Configuration, FINISH_PAUSE};
use crate::bkci::choices::{Choices, PreInstanceKey, RunningWorkers};
use crate::bkci::wire::{BuildInfo, BuildWithStatus, FinishError, TaskInfo, code, path};
use crate::disk::Disk;
use crate::signal::Watch;
use crate::supervise::Exit;
use crate::workers::{Worker, WorkerError, Workers};

/// The file in which running workers are kept.
const RUNNING_FILE: &str = "running";

/// What the agent knows about its builds.
pub(super) struct Builds {
    gateway: Gateway,
    workers: Arc<dyn Workers>,
    disk: Arc<dyn Disk>,
    choices: Choices,
    configuration: Configuration,
    /// By [`Builds::key`].
    preparing: Watch<BTreeMap<Key, BuildInfo>>,
    /// Those that this process started.
    running: Watch<Vec<BuildInfo>>,
}

/// What a build is known by that is being prepared: its id, and the job and the attempt at it.
type Key = (String, Option<(String, Option<u32>)>);

impl Builds {
    pub(super) fn new(
        gateway: Gateway,
        workers: Arc<dyn Workers>,
        disk: Arc<dyn Disk>,
        choices: Choices,
        configuration: Configuration,
    ) -> Self {
        let (preparing, running) = (Watch::new(BTreeMap::new()), Watch::new(Vec::new()));
        Self { gateway, workers, disk, choices, configuration, preparing, running }
    }

    /// May there be one more?
    pub(super) fn has_room(&self) -> bool {
        let taken = self.preparing.see(BTreeMap::len) + self.running().len();
        taken < self.configuration.parallel_task_count as usize
    }

    /// What the server is told that there is.
    pub(super) fn task_list(&self) -> Vec<TaskInfo> {
        let mut builds = self.running();
        builds.extend(self.preparing.see(|preparing| preparing.values().cloned().collect::<Vec<_>>()));
        let task = |build: BuildInfo| TaskInfo {
            project_id: build.project_id,
            build_id: build.build_id,
            vm_seq_id: build.vm_seq_id,
            workspace: build.workspace,
            execute_count: build.execute_count,
        };
        builds.into_iter().map(task).collect()
    }

    /// Carries a build out, from the answer that brought it to the report of its worker's end.
    pub(super) async fn do_build(&self, build: BuildInfo) {
        let (id, seq, attempt) = (&build.build_id, &build.vm_seq_id, build.execute_count.unwrap_or(1));
        tracing::info!("buildInfo: build {id} vmSeq {seq} executeCount {attempt}");
        if !self.has_room() {
            tracing::warn!("no slot for build {} vmSeq {}", build.build_id, build.vm_seq_id);
            return;
        }
        let key = self.key(&build);
        self.preparing.change(|preparing| preparing.insert(key.clone(), build.clone()));
        self.prepare().await;
        let started = self.start(&build).await;
        self.preparing.change(|preparing| preparing.remove(&key));
        let ended = match started {
            Ok(mut worker) => {
                let exit = worker.ended().await;
                self.running.change(|running| running.retain(|other| *other != build));
                exit
            }
            Err(error) => return self.report_not_started(build, error).await,
        };
        self.report_end(build, ended).await;
    }

    async fn prepare(&self) {
        let preparation = &self.configuration.preparation;
        let slow = self.gateway.line.random.with(|random| random.next_u64() % 100) < preparation.slow_percent.into();
        let range = if slow { preparation.slow.clone() } else { preparation.usual.clone() };
        self.gateway.line.sleep_uniform(range).await;
    }

    async fn start(&self, build: &BuildInfo) -> Result<Box<dyn Worker>, WorkerError> {
        if self.choices.running_workers == RunningWorkers::OnDisk {
            add_running(&*self.disk, build).map_err(|_| WorkerError::NotStarted)?;
        }
        self.running.change(|running| running.push(build.clone()));
        let started = self.start_process(build).await;
        if started.is_err() {
            self.running.change(|running| running.retain(|other| other != build));
            remove_running(&*self.disk, build);
        }
        started
    }

    async fn start_process(&self, build: &BuildInfo) -> Result<Box<dyn Worker>, WorkerError> {
        let mut worker = self.workers.start().await?;
        worker.send(Bytes::from(serde_json::to_vec(build).expect("wire types are plain JSON"))).await?;
        Ok(worker)
    }

    async fn report_end(&self, build: BuildInfo, exit: Exit) {
        let success = exit == Exit::Code(0);
        let message = if success { String::new() } else { format!("worker process ended with {exit:?}") };
        if success {
            self.gateway.line.clock.sleep(FINISH_PAUSE).await;
        }
        self.report(&BuildWithStatus { build, success, message, error: None }).await;
    }

    async fn report_not_started(&self, build: BuildInfo, error: WorkerError) {
        let error = FinishError {
            error_type: "SYSTEM".to_owned(),
            error_message: error.to_string(),
            error_code: code::WORKER_NOT_STARTED,
        };
        let message = error.error_message.clone();
        self.report(&BuildWithStatus { build, success: false, message, error: Some(error) }).await;
    }

    /// One attempt, whatever comes of it.
    async fn report(&self, end: &BuildWithStatus) {
        let BuildWithStatus { build, success, .. } = end;
        match self.gateway.call(Method::POST, path::FINISH, &[], Some(end), AGENT_TIMEOUT).await {
            Ok(_) => {
                let (id, seq) = (&build.build_id, &build.vm_seq_id);
                tracing::info!("workerBuildFinish done: build {id} vmSeq {seq} success {success}");
            }
            Err(failure) => tracing::warn!("send worker build finish failed: {failure}"),
        }
    }

    fn key(&self, build: &BuildInfo) -> Key {
        match self.choices.pre_instance_key {
            PreInstanceKey::Build => (build.build_id.clone(), None),
            PreInstanceKey::Attempt => (build.build_id.clone(), Some((build.vm_seq_id.clone(), build.execute_count))),
        }
    }

    fn running(&self) -> Vec<BuildInfo> {
        match self.choices.running_workers {
            RunningWorkers::InMemory => self.running.get(),
            RunningWorkers::OnDisk => read_running(&*self.disk),
        }
    }
}

fn read_running(disk: &dyn Disk) -> Vec<BuildInfo> {
    disk.read(RUNNING_FILE).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Never synced: what was running when the machine crashed does not run any more.
fn write_running(disk: &dyn Disk, running: &[BuildInfo]) -> std::io::Result<()> {
    disk.write(RUNNING_FILE, &serde_json::to_vec(running).expect("wire types are plain JSON"))
}

fn add_running(disk: &dyn Disk, build: &BuildInfo) -> std::io::Result<()> {
    let mut running = read_running(disk);
    running.push(build.clone());
    write_running(disk, &running)
}

/// Called by a worker at its end, and by whoever could not start one.
pub(super) fn remove_running(disk: &dyn Disk, build: &BuildInfo) {
    let mut running = read_running(disk);
    let before = running.len();
    running.retain(|other| other != build);
    if running.len() < before && write_running(disk, &running).is_err() {
        // Less than before fits on any disk.
        tracing::warn!("the list of running workers could not be written");
    }
}
