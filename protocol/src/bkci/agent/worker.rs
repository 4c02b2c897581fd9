//! A worker's process: it says that it has started, does one task after another, and says that there is no more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, future, select_biased};
use serde::Serialize;

use super::gateway::{CallFailure, Gateway, Method, RawAnswer};
use super::retries::{self, WORKER_TIMEOUT};
use super::{Configuration, Machine, builds, workspace};
use crate::bkci::choices::{Choices, RunningWorkers, StartCheck, WorkerAttempt, WorkerFence, Workspace};
use crate::bkci::wire::{
    Answer, BUILDS_ON, BuildInfo, BuildTask, BuildTaskResult, BuildTaskStatus, BuildVariables, TASK_CANCELLED, code,
    header, path,
};
use crate::clock::Mono;
use crate::disk::Disk;
use crate::facts::Outcome;
use crate::line::{Line, SharedRandom};
use crate::retry;
use crate::signal::Watch;
use crate::supervise::Shutdown;
use crate::workers::Work;

/// The exit code of a worker that stopped itself because it was not heard.
pub const CODE_FENCED: i32 = 255;
/// The exit code of a worker that could not do its work.
const CODE_FAILED: i32 = 1;
/// Between two claims while there is nothing to do.
const WAIT_PAUSE: Duration = Duration::from_secs(5);

/// A worker's process for one job, as its agent was told to start it.
pub async fn worker(
    machine: Machine,
    choices: Choices,
    configuration: &Configuration,
    build: BuildInfo,
    work: Arc<dyn Work>,
) -> i32 {
    let line = Line { clock: machine.clock, http: machine.http, random: SharedRandom::new(machine.random) };
    let id = line.random.guid().to_string();
    let (started_at, cancelled) = (Watch::new(line.mono()), Watch::new(false));
    let gateway = Gateway::new(line, configuration);
    let process = Process { gateway, disk: machine.disk, choices, build, id, started_at, cancelled };
    let code = process.run(&*work).await;
    if process.choices.running_workers == RunningWorkers::OnDisk {
        builds::remove_running(&*process.disk, &process.build);
    }
    code
}

/// The repaired design: a worker that has not started by then is not waited for any more. The server waits for 10 min, up
/// to 6 of which may have gone before the worker's process began.
const START_WITHIN: Duration = Duration::from_secs(4 * 60);

pub(super) struct Process {
    gateway: Gateway,
    disk: Arc<dyn Disk>,
    pub(super) choices: Choices,
    build: BuildInfo,
    /// Which worker this is.
    id: String,
    /// When the call that started it was sent.
    pub(super) started_at: Watch<Mono>,
    /// Was it asked to end?
    pub(super) cancelled: Watch<bool>,
}

impl Process {
    pub(super) fn line(&self) -> &Line {
        &self.gateway.line
    }

    async fn run(&self, work: &dyn Work) -> i32 {
        let started = select_biased! {
            () = self.start_is_late().fuse() => return CODE_FENCED,
            started = self.set_started().fuse() => started,
        };
        let variables = match started {
            Ok(variables) => variables,
            Err(CallFailure::Refused { status: code::BUILD_ENDED, .. }) => return 0,
            Err(failure) => {
                tracing::warn!("worker could not start: {failure}");
                return CODE_FAILED;
            }
        };
        select_biased! {
            () = self.beat_until_fenced().fuse() => {
                tracing::warn!("worker of build {} stops itself", self.build.build_id);
                CODE_FENCED
            }
            done = self.do_tasks(&variables, work).fuse() => match done {
                Ok(()) | Err(CallFailure::Refused { status: code::BUILD_ENDED, .. }) => 0,
                Err(failure) => {
                    tracing::warn!("worker gives up: {failure}");
                    CODE_FAILED
                }
            }
        }
    }

    /// Ends when nobody waits for the worker's start any more.
    async fn start_is_late(&self) {
        match self.choices.worker_fence {
            WorkerFence::TwelveFailures => future::pending().await,
            WorkerFence::BeforeTheLease => self.line().clock.sleep(START_WITHIN).await,
        }
    }

    async fn set_started(&self) -> Result<BuildVariables, CallFailure> {
        let answer = self.repeated(Method::PUT, path::STARTED, None::<&()>, retries::TRIES).await?;
        Ok(answer.parse::<Answer<BuildVariables>>()?.into_result()?.unwrap_or_default())
    }

    async fn do_tasks(&self, variables: &BuildVariables, work: &dyn Work) -> Result<(), CallFailure> {
        loop {
            let answer = self.repeated(Method::GET, path::CLAIM, None::<&()>, retries::TRIES).await?;
            let task = answer.parse::<Answer<BuildTask>>()?.into_result()?;
            match task {
                Some(task) if task.status == BuildTaskStatus::Do => self.do_task(task, variables, work).await?,
                Some(task) if task.status == BuildTaskStatus::End => break,
                _ => self.line().clock.sleep(WAIT_PAUSE).await,
            }
        }
        match self.repeated(Method::POST, path::END, None::<&()>, retries::END_TRIES).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn do_task(&self, task: BuildTask, variables: &BuildVariables, work: &dyn Work) -> Result<(), CallFailure> {
        let outcome = self.execute(variables, work).await;
        let cancelled = outcome == Outcome::Cancelled;
        let result = BuildTaskResult {
            task_id: task.task_id.unwrap_or_default(),
            element_id: task.element_id.unwrap_or_default(),
            success: outcome == Outcome::Succeeded,
            execute_count: self.build.execute_count,
            error_code: cancelled.then_some(TASK_CANCELLED),
            ..BuildTaskResult::default()
        };
        self.repeated(Method::POST, path::COMPLETE, Some(&result), retries::TRIES).await.map(drop)
    }

    async fn execute(&self, variables: &BuildVariables, work: &dyn Work) -> Outcome {
        let puts_back = self.choices.workspace == Workspace::PutBack;
        if let Some(earlier) = variables.variables.get(BUILDS_ON).filter(|_| puts_back)
            && let Err(error) = workspace::put_back(&*self.disk, &self.build.build_id, earlier)
        {
            tracing::warn!("the workspace could not be put back: {error}");
            return Outcome::Failed;
        }
        let cancelled = self.cancelled.clone();
        let asked = Shutdown::when(async move { cancelled.is(|cancelled| *cancelled).await });
        let name = variables.vm_name.as_str().into();
        let outcome = work.execute(name, self.build.execute_count.unwrap_or(1), asked).await;
        if outcome == Outcome::Succeeded
            && puts_back
            && let Err(error) = workspace::keep(&*self.disk, &self.build.build_id, &self.build.vm_seq_id)
        {
            tracing::warn!("the workspace could not be kept: {error}");
            return Outcome::Failed;
        }
        outcome
    }

    /// Repeats a call until it is answered; a refusal is an answer.
    async fn repeated(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        tries: u32,
    ) -> Result<RawAnswer, CallFailure> {
        let mut failed = 0;
        let attempt = || {
            let path = format!("{path}?retryCount={failed}");
            failed += 1;
            let method = method.clone();
            async move {
                let answer = self.call(method, &path, body).await.and_then(answered);
                if let Some(failure) = answer.as_ref().err().filter(|failure| !failure.is_refusal()) {
                    tracing::warn!("{path} failed: {failure}");
                }
                answer
            }
        };
        let mut policy = retries::Outer { tries };
        let sent = retry::send(self.line(), &mut policy, attempt, retries::unanswered, |_, _| ()).await;
        if sent.last.is_ok() {
            self.started_at.change(|at| *at = (*at).max(sent.at));
        }
        sent.last
    }

    /// One call, which the HTTP client itself may send several times.
    async fn call(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<RawAnswer, CallFailure> {
        let attempt = || self.call_once(method.clone(), path, body, WORKER_TIMEOUT);
        let mut policy = retries::Inner { method: method.clone() };
        retry::send(self.line(), &mut policy, attempt, retries::by_status, |_, _| ()).await.last
    }

    pub(super) async fn call_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        limit: Duration,
    ) -> Result<RawAnswer, CallFailure> {
        let mut headers =
            vec![(header::BUILD_ID, self.build.build_id.clone()), (header::VM_SEQ_ID, self.build.vm_seq_id.clone())];
        if self.choices.worker_attempt == WorkerAttempt::Checked {
            headers.extend(self.build.execute_count.map(|count| (header::EXECUTE_COUNT, count.to_string())));
        }
        if self.choices.start_check == StartCheck::SameWorkerPasses {
            headers.push((header::WORKER_ID, self.id.clone()));
        }
        self.gateway.call(method, path, &headers, body, limit).await
    }
}

/// An answer of the server, be it a refusal; anything else is a failure to be repeated.
fn answered(answer: RawAnswer) -> Result<RawAnswer, CallFailure> {
    match answer.parse::<Answer<serde_json::Value>>()?.into_result() {
        // The server's own trouble, not its judgement.
        Err(CallFailure::Refused { status: 500..=599, message }) => {
            Err(CallFailure::NoAnswer { status: answer.status.as_u16(), why: message })
        }
        Err(refused) => Err(refused),
        Ok(_) => Ok(answer),
    }
}
