//! What workers say: they have started, are alive, want a task, have done one, have no more (`EngineVMBuildService.kt`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::failure::Failure;
use super::monitor::WORKER_LEASE;
use super::pipeline::{Build, JobRun, Phase, Task, job_name};
use super::redis::JobKey;
use super::state::State;
use super::{Server, Trouble};
use crate::bkci::choices::{CompleteKey, StartCheck, WorkerAttempt};
use crate::bkci::wire::{
    BUILDS_ON, BuildTask, BuildTaskResult, BuildTaskStatus, BuildVariables, HeartBeatInfo, TASK_CANCELLED,
};
use crate::deadlines::after;
use crate::facts::{Fact, Job, Outcome};
use crate::http::Receipt;

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) agent: String,
    pub(super) project: String,
    pub(super) job: JobKey,
    /// The attempt, if it says so.
    pub(super) execute_count: Option<u32>,
    /// Which worker it is, if it says so.
    pub(super) worker: Option<String>,
    /// How often it says that it called before.
    pub(super) retry_count: u32,
}

impl Server {
    pub(super) async fn worker_started(&self, caller: Caller) -> Result<BuildVariables, Failure> {
        self.with(|state, _| state.may_start(&caller))?;
        self.database().await?;
        self.with(|state, now| {
            state.may_start(&caller)?;
            Ok(state.start_worker(&caller, now))
        })
    }

    /// A heartbeat. What is true once its answer has arrived comes with it.
    pub(super) fn worker_beats(&self, caller: &Caller) -> Result<(HeartBeatInfo, Option<Receipt>), Failure> {
        self.with(|state, now| state.beat(caller, now))
    }

    pub(super) fn worker_claims(&self, caller: &Caller) -> Result<BuildTask, Failure> {
        self.with(|state, _| state.claim_task(caller))
    }

    pub(super) async fn worker_completes(&self, caller: Caller, result: BuildTaskResult) -> Result<(), Failure> {
        if self.0.choices.complete_key == CompleteKey::NoKey {
            return self.complete(&caller, &result).await;
        }
        if !self.with(|state, _| state.redis.mark_completing(caller.job.clone())).map_err(Trouble::from)? {
            return Ok(());
        }
        let done = self.complete(&caller, &result).await;
        self.with(|state, _| state.redis.unmark_completing(&caller.job)).map_err(Trouble::from)?;
        done
    }

    async fn complete(&self, caller: &Caller, result: &BuildTaskResult) -> Result<(), Failure> {
        self.database().await?;
        self.with(|state, _| {
            let (_, job) = state.present(caller)?;
            if job.task == Task::Running && job.task_id() == result.task_id {
                job.task = Task::Done(match (result.success, result.error_code) {
                    (true, _) => Outcome::Succeeded,
                    (false, Some(TASK_CANCELLED)) => Outcome::Cancelled,
                    (false, _) => Outcome::Failed,
                });
            }
            Ok(())
        })
    }

    pub(super) async fn worker_ends(&self, caller: Caller) -> Result<(), Failure> {
        self.database().await?;
        self.with(|state, now| {
            let (_, job) = state.present(&caller)?;
            let outcome = match job.task {
                Task::Done(outcome) => outcome,
                Task::Queued | Task::Running if job.cancel_requested => Outcome::Cancelled,
                Task::Queued | Task::Running => Outcome::Failed,
            };
            state.end_job(&caller.job.0, caller.job.1, outcome, now);
            Ok(())
        })
    }
}

impl State {
    /// The job that a worker may act for.
    fn present(&mut self, caller: &Caller) -> Result<(u32, &mut JobRun), Failure> {
        let checked = self.choices.worker_attempt == WorkerAttempt::Checked;
        let fenced = self.choices.start_check == StartCheck::SameWorkerPasses;
        let build = self.builds.get_mut(&caller.job.0).ok_or(Failure::BuildNotFound)?;
        if build.ended.is_some() {
            return Err(Failure::BuildEnded);
        }
        let attempt = build.execute_count;
        let job = build.job_mut(caller.job.1).ok_or(Failure::BuildNotFound)?;
        let stale = checked && caller.execute_count.is_some_and(|told| told != job.execute_count);
        let another =
            fenced && matches!((&job.started, &caller.worker), (Some((_, Some(known))), Some(told)) if known != told);
        if stale || another || job.has_ended() {
            return Err(Failure::BuildEnded);
        }
        Ok((attempt, job))
    }

    fn may_start(&mut self, caller: &Caller) -> Result<(), Failure> {
        let check = self.choices.start_check;
        let checked = self.choices.worker_attempt == WorkerAttempt::Checked;
        let build = self.builds.get(&caller.job.0).ok_or(Failure::BuildNotFound)?;
        let job = build.job(caller.job.1).ok_or(Failure::BuildNotFound)?;
        let stale = checked && caller.execute_count.is_some_and(|told| told != job.execute_count);
        if build.ended.is_some() || job.has_ended() || stale {
            return Err(Failure::BuildEnded);
        }
        let admitted = match (check, &job.started) {
            (StartCheck::RepeatedCallsPass, None) => true,
            (StartCheck::RepeatedCallsPass, Some(_)) => caller.retry_count > 0,
            (StartCheck::SameWorkerPasses, None) => {
                job.phase == Phase::Dispatched && job.agent.as_deref() == Some(&caller.agent)
            }
            (StartCheck::SameWorkerPasses, Some((_, worker))) => *worker == caller.worker && worker.is_some(),
        };
        if admitted { Ok(()) } else { Err(Failure::StartedAlready) }
    }

    fn start_worker(&mut self, caller: &Caller, now: Timestamp) -> BuildVariables {
        let (id, seq) = &caller.job;
        let Some(build) = self.builds.get_mut(id) else { return BuildVariables::default() };
        let (name, attempt) = (build.job_fact(*seq), build.execute_count);
        let variables = variables(build, *seq, &caller.project);
        let Some(job) = build.job_mut(*seq) else { return variables };
        if job.started.is_none() {
            job.started = Some((now, caller.worker.clone()));
            self.record(Fact::LeaseGranted {
                job: name,
                attempt,
                agent: caller.agent.as_str().into(),
                until: after(now, WORKER_LEASE),
            });
            self.watch(id, *seq, now);
        }
        variables
    }

    fn beat(&mut self, caller: &Caller, now: Timestamp) -> Result<(HeartBeatInfo, Option<Receipt>), Failure> {
        let (attempt, job) = self.present(caller)?;
        let (leased, is_to_end) = (job.started.is_some(), job.cancel_requested);
        self.redis.beat(caller.job.clone(), now).map_err(Trouble::from)?;
        let (id, seq) = &caller.job;
        let name: Job = job_name(id, *seq).into();
        if leased {
            self.record(Fact::LeaseRenewed { job: name.clone(), attempt, until: after(now, WORKER_LEASE) });
        }
        let tasks = self.tasks_to_cancel(id, *seq);
        let info = HeartBeatInfo {
            project_id: caller.project.clone(),
            build_id: id.clone(),
            vm_seq_id: seq.to_string(),
            cancel_task_ids: (!tasks.is_empty()).then_some(tasks),
        };
        Ok((info, is_to_end.then_some(Fact::JobCancelAnswered { job: name, attempt }.into())))
    }

    /// The next task, or the one that the worker has: its answer may have been lost.
    fn claim_task(&mut self, caller: &Caller) -> Result<BuildTask, Failure> {
        let (_, job) = self.present(caller)?;
        if job.task == Task::Queued && !job.cancel_requested {
            job.task = Task::Running;
        }
        let status = match job.task {
            Task::Running => BuildTaskStatus::Do,
            Task::Queued | Task::Done(_) => BuildTaskStatus::End,
        };
        let id = (status == BuildTaskStatus::Do).then(|| job.task_id());
        Ok(BuildTask {
            build_id: caller.job.0.clone(),
            vm_seq_id: caller.job.1.to_string(),
            status,
            element_id: id.clone(),
            element_name: id.clone(),
            kind: id.is_some().then(|| "linuxScript".to_owned()),
            task_id: id,
            execute_count: Some(job.execute_count),
        })
    }
}

fn variables(build: &Build, seq: u32, project: &str) -> BuildVariables {
    let mut variables: BTreeMap<String, String> = build.variables.clone();
    if let Some(earlier) = build.builds_on(seq) {
        variables.insert(BUILDS_ON.to_owned(), earlier.to_string());
    }
    BuildVariables {
        build_id: build.id.clone(),
        vm_seq_id: seq.to_string(),
        vm_name: job_name(&build.id, seq),
        project_id: project.to_owned(),
        pipeline_id: format!("p-{}", build.id),
        variables,
        timeout_mills: 900 * 60 * 1_000,
    }
}
