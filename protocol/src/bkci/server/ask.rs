//! What an agent asks: heartbeat and claim in one, and the end of its workers (`ThirdPartyAgentService.kt`).

use std::time::Duration;

use jiff::Timestamp;

use super::broker::What;
use super::pipeline::{Phase, Place, job_name};
use super::redis::JobKey;
use super::section::{DISPATCH_LOCK, of_agent};
use super::state::{RowStatus, State, is_among};
use super::{Server, Trouble};
use crate::bkci::choices::{Claim, RowUpdate};
use crate::bkci::wire::{
    AgentAnswer, AgentStatus, AskInfo, AskResponse, BuildInfo, BuildJobType, BuildWithStatus, HeartbeatResponse,
    TaskInfo, code,
};
use crate::facts::{Fact, Outcome};

impl Server {
    /// The agent's process has started.
    pub(super) fn agent_started(&self, agent: &str) {
        self.with(|state, now| state.heard(agent, None, now));
    }

    /// Heartbeat and claim. They are carried out side by side, and one may fail without the other.
    pub(super) async fn ask(&self, agent: String, info: AskInfo) -> Result<AgentAnswer<AskResponse>, Trouble> {
        let troubled = self.with(|state, _| state.nuisances.database_fails(&mut state.mischance));
        if !troubled {
            self.with(|state, now| state.heard(&agent, Some(&info), now));
        }
        let build = match info.ask_enable.build {
            BuildJobType::All | BuildJobType::Binary => self.claim(&agent, &info.heartbeat.task_list).await?,
            BuildJobType::Docker | BuildJobType::None => None,
        };
        let heartbeat = (!troubled).then(|| HeartbeatResponse {
            parallel_task_count: info.heartbeat.parallel_task_count,
            agent_status: "IMPORT_OK".to_owned(),
        });
        Ok(AgentAnswer {
            status: code::OK,
            message: None,
            agent_status: (!troubled).then_some(AgentStatus::ImportOk),
            data: Some(AskResponse { heartbeat, build }),
        })
    }

    /// Gives the agent the oldest build in its queue (`startBuild`).
    async fn claim(&self, agent: &str, has: &[TaskInfo]) -> Result<Option<BuildInfo>, Trouble> {
        if self.with(|state, _| state.to_claim(agent, has)).is_none() {
            return Ok(None);
        }
        let who = format!("claim of {agent}");
        self.section(of_agent(agent), DISPATCH_LOCK, who, async {
            let chosen = self.with(|state, _| state.to_claim(agent, has));
            self.database().await?;
            Ok(chosen.and_then(|key| self.with(|state, now| state.claim(&key, agent, now))))
        })
        .await
    }

    /// A worker's process has ended, or could not be started.
    pub(super) async fn worker_finished(&self, agent: String, end: BuildWithStatus) -> Result<(), Trouble> {
        let Ok(seq) = end.build.vm_seq_id.parse::<u32>() else { return Ok(()) };
        let key = (end.build.build_id.clone(), seq);
        self.database().await.inspect_err(|_| self.with(|state, _| state.forget_end(&key, &end)))?;
        self.with(|state, now| {
            state.finish_row(&key, &agent, &end, now);
            state.finish_job(&key, &agent, &end, now);
        });
        Ok(())
    }
}

impl State {
    fn heard(&mut self, agent: &str, info: Option<&AskInfo>, now: Timestamp) {
        let Some(record) = self.agents.get_mut(agent) else { return };
        (record.heard, record.status) = (Some(now), AgentStatus::ImportOk);
        record.told = info.map(|_| now);
        record.tasks = info.map(|info| info.heartbeat.task_list.clone()).unwrap_or_default();
        self.show(agent);
    }

    /// The row that the agent would be given, which says that it has some.
    fn to_claim(&self, agent: &str, has: &[TaskInfo]) -> Option<JobKey> {
        let idempotent = self.choices.claim == Claim::WhenTheAgentHasIt;
        let mine = self.rows.iter().filter(|(_, row)| row.agent == agent);
        let offered = mine.filter(|(key, row)| match row.status {
            RowStatus::Queue => true,
            // Claimed, and the agent does not know of it: its answer was lost.
            RowStatus::Running => idempotent && !self.has_started(key) && !is_among(has, key, row.execute_count),
            RowStatus::Done | RowStatus::Failure => false,
        });
        offered.min_by_key(|(_, row)| row.updated).map(|(key, _)| key.clone())
    }

    fn has_started(&self, (build, seq): &JobKey) -> bool {
        let job = self.builds.get(build).and_then(|build| build.job(*seq));
        job.is_none_or(|job| job.started.is_some() || job.phase != Phase::Dispatched)
    }

    fn claim(&mut self, key: &JobKey, agent: &str, now: Timestamp) -> Option<BuildInfo> {
        let row = self.rows.get_mut(key).filter(|row| row.agent == agent)?;
        if !matches!(row.status, RowStatus::Queue | RowStatus::Running) {
            return None;
        }
        // Its age counts from the last answer that may have brought it to the agent.
        (row.status, row.updated) = (RowStatus::Running, now);
        let project = self.agents.get(agent).map(|record| record.project.clone()).unwrap_or_default();
        Some(BuildInfo {
            project_id: project,
            build_id: key.0.clone(),
            vm_seq_id: key.1.to_string(),
            workspace: String::new(),
            pipeline_id: format!("p-{}", key.0),
            execute_count: Some(row.execute_count),
            container_hash_id: Some(format!("c-{}", key.1)),
        })
    }

    /// A worker's end was told, and cannot be written down.
    fn forget_end(&self, (build, seq): &JobKey, end: &BuildWithStatus) {
        let Some(attempt) = end.build.execute_count else { return };
        let outcome = if end.success { Outcome::Succeeded } else { Outcome::Failed };
        self.record(Fact::JobReported { job: job_name(build, *seq).into(), attempt, outcome, accepted: false });
    }

    /// The dispatch's side of a worker's end.
    fn finish_row(&mut self, key: &JobKey, agent: &str, end: &BuildWithStatus, now: Timestamp) {
        let compare = self.choices.row_update == RowUpdate::CompareAndSet;
        let Some(row) = self.rows.get_mut(key) else { return };
        let told = end.build.execute_count;
        let same = row.agent == agent && told == Some(row.execute_count) && row.status == RowStatus::Running;
        if compare && !same {
            return;
        }
        row.status = if end.success { RowStatus::Done } else { RowStatus::Failure };
        row.updated = now;
        if let Some(attempt) = told.filter(|attempt| *attempt < row.execute_count) {
            let job = job_name(&key.0, key.1).into();
            let outcome = if end.success { Outcome::Succeeded } else { Outcome::Failed };
            self.record(Fact::JobReported { job, attempt, outcome, accepted: true });
        }
    }

    /// The engine's side of a worker's end: a job that has not ended by then has failed, or moves to another node.
    fn finish_job(&mut self, (id, seq): &JobKey, agent: &str, end: &BuildWithStatus, now: Timestamp) {
        let Some(build) = self.builds.get_mut(id).filter(|build| build.ended.is_none()) else { return };
        let attempt = build.execute_count;
        let Some(job) = build.job_mut(*seq) else { return };
        let current = end.build.execute_count.is_none_or(|told| told == attempt && told == job.execute_count);
        if !current || job.phase != Phase::Dispatched || job.agent.as_deref() != Some(agent) {
            return;
        }
        let not_started = end.error.as_ref().is_some_and(|error| error.error_code == code::WORKER_NOT_STARTED);
        if !(not_started && job.spec.place == Place::Environment && job.started.is_none()) {
            return self.end_job(id, *seq, Outcome::Failed, now);
        }
        job.avoid.insert(agent.to_owned());
        (job.phase, job.offered) = (Phase::Dispatching, false);
        let job = job_name(id, *seq).into();
        self.record(Fact::JobRequeued { job, attempt });
        self.publish(id, What::Dispatch { seq: *seq, tries: 0 }, Duration::ZERO, now);
    }
}
