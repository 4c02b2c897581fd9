//! Reporting the end of a job, by the listener and by the worker, with the layers of retries that each has.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::{self, Mono};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::{Line, seconds};
use crate::distributed_task::retry_request::retry_request;
use crate::distributed_task::wire::v2::CompleteJobRequest;
use crate::distributed_task::wire::{JobEvent, JobMessage, TaskAgentJobRequest, TaskResult, TimelineRecord, event};

use super::conduct::{Conduct, CrashReport, NestedRetries, ReportReplay};
use super::dispatch::{Dispatch, Dispatcher};
use super::in_hand::Recorded;
use super::lease::{is_stale, lock_token, run_service_url};
use super::run_service::RunService;
use super::station::task_server_of;

/// Rounds of a completion and the pause between them (`Worker/JobRunner.cs:290-362`, `JobDispatcher.cs:1114-1163`).
pub const ROUNDS: u32 = 5;
/// See [`ROUNDS`].
pub const ROUND_PAUSE: Duration = Duration::from_secs(5);

/// The repaired runner has no layer of retries below its rounds. It renews the lease of a job for so long after it knew
/// the result, and goes on reporting for as long as the lease then lasts: a job that is renewed and does not end keeps
/// its runner from the next one, and a lease that nobody speaks of keeps the job from other runners.
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// What one of its rounds may take at the least, however little of the lease is left.
pub const SHORTEST_ROUND: Duration = Duration::from_secs(30);
const PATIENT_PAUSE: Range<Duration> = seconds(5..15);

/// From this version on, plans take a job's end as an event from the worker, and the listener is silent
/// (`PlanFeatures.JobCompletedPlanEvent`).
pub const PLANS_WITH_EVENTS: i32 = 8;

/// The listener's own completion (`CompleteJobRequestAsync`): V1 jobs of old plans only.
pub(super) async fn finish_request(
    dispatcher: &Dispatcher,
    dispatch: &Dispatch,
    result: TaskResult,
) -> Result<(), Failure> {
    if dispatcher.is_run_service(dispatch) {
        tracing::info!("Skip FinishAgentRequest call from Listener because it's RunServiceJob.");
        return Ok(());
    }
    if dispatch.job.plan.version >= PLANS_WITH_EVENTS {
        return Ok(());
    }
    finish_with_rounds(dispatcher, dispatch, result).await
}

async fn finish_with_rounds(dispatcher: &Dispatcher, dispatch: &Dispatch, result: TaskResult) -> Result<(), Failure> {
    let station = &dispatcher.station;
    let lock = lock_token(station.conduct.fencing, &dispatch.job).unwrap_or_default();
    let mut round = 0;
    loop {
        let request = TaskAgentJobRequest {
            request_id: dispatch.job.request_id,
            finish_time: Some(station.line.clock.wall()),
            result: Some(result),
            ..TaskAgentJobRequest::default()
        };
        round += 1;
        match station.server.update_job_request(&request, lock, None).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is_any(&[key::JOB_NOT_FOUND, key::JOB_TOKEN_EXPIRED]) => return Ok(()),
            Err(failure) if round == ROUNDS => return Err(failure),
            Err(failure) => {
                tracing::warn!("Failed to finish request {}: {failure}", dispatch.job.request_id);
                pause(&station.line, &station.conduct).await;
            }
        }
    }
}

/// A worker ended without a result (`LogWorkerProcessUnhandledException`).
pub(super) async fn report_crash(dispatcher: &Dispatcher, dispatch: &Dispatch, until: Mono) {
    let station = &dispatcher.station;
    let recorded = recorded(dispatcher, dispatch);
    if dispatcher.is_run_service(dispatch) {
        complete_from_listener(dispatcher, dispatch, TaskResult::Failed, recorded, until).await;
        return;
    }
    let result = recorded.map_or(TaskResult::Failed, |recorded| recorded.result);
    if let Err(failure) = mark_timeline(dispatcher, dispatch, result).await {
        tracing::warn!("Failed to report the unhandled exception of the worker: {failure}");
    }
    if station.conduct.crash_report == CrashReport::RecordedResult {
        raise_from_listener(dispatcher, dispatch, TaskResult::Failed, recorded, until).await;
    }
}

/// What the worker wrote down before it reported it, where that counts.
pub(super) fn recorded(dispatcher: &Dispatcher, dispatch: &Dispatch) -> Option<Recorded> {
    match dispatcher.station.conduct.crash_report {
        CrashReport::AlwaysFailed => None,
        CrashReport::RecordedResult => Recorded::read(&*dispatcher.station.disk, &dispatch.job),
    }
}

/// No worker will report: tells the server whatever takes the job out of the agent's hands. That is the `recorded`
/// result, and `otherwise` where there is none. The last round begins before `until`.
pub(super) async fn report_in_place_of_worker(
    dispatcher: &Dispatcher,
    dispatch: &Dispatch,
    otherwise: TaskResult,
    recorded: Option<Recorded>,
    until: Mono,
) {
    if dispatcher.is_run_service(dispatch) {
        complete_from_listener(dispatcher, dispatch, otherwise, recorded, until).await;
    } else if dispatch.job.plan.version >= PLANS_WITH_EVENTS {
        raise_from_listener(dispatcher, dispatch, otherwise, recorded, until).await;
    } else {
        let result = recorded.map_or(otherwise, |recorded| recorded.result);
        if let Err(failure) = finish_with_rounds(dispatcher, dispatch, result).await {
            tracing::warn!("Failed to finish request {}: {failure}", dispatch.job.request_id);
        }
    }
}

async fn raise_from_listener(
    dispatcher: &Dispatcher,
    dispatch: &Dispatch,
    otherwise: TaskResult,
    recorded: Option<Recorded>,
    until: Mono,
) {
    let line = &dispatcher.station.line;
    let end = recorded.unwrap_or_else(|| Recorded::now(otherwise, line));
    let report = Report::until(line, &dispatcher.station.conduct, &dispatch.job, until);
    let _ = report.by_event(end.result, Some(end.key)).await;
}

async fn complete_from_listener(
    dispatcher: &Dispatcher,
    dispatch: &Dispatch,
    otherwise: TaskResult,
    recorded: Option<Recorded>,
    until: Mono,
) {
    let station = &dispatcher.station;
    let service = station.run_service_of(&dispatch.job, &run_service_url(dispatch));
    let end = recorded.unwrap_or_else(|| Recorded::now(otherwise, &station.line));
    let report = Report::until(&station.line, &station.conduct, &dispatch.job, until);
    let done = match station.conduct.nested_retries {
        NestedRetries::Multiplied => report.by_run_service_once(&service, end.result, Some(end.key)).await,
        NestedRetries::OneLayer => report.by_run_service(&service, end.result, Some(end.key)).await,
    };
    if let Err(failure) = done {
        tracing::warn!("Failed to complete job {}: {failure}", dispatch.job.job_id);
    }
}

async fn mark_timeline(dispatcher: &Dispatcher, dispatch: &Dispatch, result: TaskResult) -> Result<(), Failure> {
    let station = &dispatcher.station;
    let record = TimelineRecord {
        id: dispatch.job.job_id,
        state: Some("completed".into()),
        result: Some(result.name().into()),
        ..TimelineRecord::default()
    };
    let server = task_server_of(&station.line, &station.conduct, &dispatch.job);
    server.update_timeline(&dispatch.job.plan, dispatch.job.timeline.id, vec![record]).await
}

/// Waits between two rounds.
async fn pause(line: &Line, conduct: &Conduct) {
    match conduct.nested_retries {
        NestedRetries::Multiplied => line.clock.sleep(ROUND_PAUSE).await,
        NestedRetries::OneLayer => _ = line.sleep_uniform(PATIENT_PAUSE).await,
    }
}

/// A report of a job.
pub(super) struct Report<'a> {
    line: &'a Line,
    conduct: &'a Conduct,
    job: &'a JobMessage,
    /// No round begins later, where patience is what ends them.
    until: Mono,
}

impl<'a> Report<'a> {
    /// A report that is tried until then.
    pub fn until(line: &'a Line, conduct: &'a Conduct, job: &'a JobMessage, until: Mono) -> Self {
        Self { line, conduct, job, until }
    }

    /// V2: rounds around the runner's own retries around those of the handler. 401 and 404 end it at once.
    pub async fn by_run_service(
        &self,
        service: &RunService,
        result: TaskResult,
        key: Option<Uuid>,
    ) -> Result<(), Failure> {
        let round = || self.by_run_service_once(service, result, key);
        self.in_rounds(|failure| self.is_final(failure), round).await
    }

    /// V1: an event of the plan, in rounds, from version [`PLANS_WITH_EVENTS`] on. A plan that is gone ends it at once.
    pub async fn by_event(&self, result: TaskResult, key: Option<Uuid>) -> Result<(), Failure> {
        if self.job.plan.version < PLANS_WITH_EVENTS {
            return Ok(());
        }
        let server = task_server_of(self.line, self.conduct, self.job);
        let event = JobEvent {
            name: event::JOB_COMPLETED.to_owned(),
            job_id: self.job.job_id,
            request_id: self.job.request_id,
            result: Some(result),
            lock_token: lock_token(self.conduct.fencing, self.job),
            ..JobEvent::default()
        };
        let key = self.key(key);
        let round = || server.raise_event(&self.job.plan, &event, key);
        self.in_rounds(|failure| self.is_over(failure), round).await
    }

    async fn in_rounds<F: Future<Output = Result<(), Failure>>>(
        &self,
        is_final: impl Fn(&Failure) -> bool,
        mut round: impl FnMut() -> F,
    ) -> Result<(), Failure> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            match self.patiently(round()).await {
                Ok(()) => return Ok(()),
                Err(failure) if is_final(&failure) || self.is_enough(rounds) => return Err(failure),
                Err(failure) => {
                    tracing::warn!("Catch exception while attempting to report the end of the job: {failure}");
                    pause(self.line, self.conduct).await;
                }
            }
        }
    }

    /// One round, cut off where patience ends.
    async fn patiently(&self, round: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        match self.conduct.nested_retries {
            NestedRetries::Multiplied => round.await,
            NestedRetries::OneLayer => {
                let limit = self.until.since(self.line.mono()).max(SHORTEST_ROUND);
                let done = clock::timeout(&*self.line.clock, limit, round).await;
                done.unwrap_or_else(|clock::Timeout(limit)| Err(Failure::TimedOut(limit)))
            }
        }
    }

    /// V2, one round.
    pub async fn by_run_service_once(
        &self,
        service: &RunService,
        result: TaskResult,
        key: Option<Uuid>,
    ) -> Result<(), Failure> {
        let request = CompleteJobRequest {
            plan_id: self.job.plan.plan_id,
            job_id: self.job.job_id,
            conclusion: result,
            outputs: None,
            step_results: None,
            annotations: None,
            telemetry: None,
            environment_url: None,
            billing_owner_id: self.job.billing_owner_id.clone(),
            infrastructure_failure_category: None,
            lock_token: lock_token(self.conduct.fencing, self.job),
        };
        let key = self.key(key);
        let done = match self.conduct.nested_retries {
            NestedRetries::Multiplied => {
                retry_request(self.line, |failure| !self.is_final(failure), || service.complete(&request, key)).await
            }
            NestedRetries::OneLayer => service.complete(&request, key).await,
        };
        match done {
            Err(failure) if self.is_closed(&failure) && self.conduct.report_replay == ReportReplay::Keyed => {
                tracing::info!("Job {} is closed already: {failure}", self.job.job_id);
                Ok(())
            }
            done => done,
        }
    }

    /// V1: there is no plan to tell, or it is another attempt's by now.
    pub fn is_over(&self, failure: &Failure) -> bool {
        failure.is_any(&[key::PLAN_NOT_FOUND, key::PLAN_TERMINATED, key::PLAN_SECURITY])
            || is_stale(self.conduct.fencing, failure)
    }

    fn is_final(&self, failure: &Failure) -> bool {
        let refused = *failure == Failure::Unauthorized && self.conduct.report_replay == ReportReplay::Blind;
        refused || self.is_closed(failure)
    }

    fn is_closed(&self, failure: &Failure) -> bool {
        failure.is(key::ORCHESTRATION_JOB_NOT_FOUND) || is_stale(self.conduct.fencing, failure)
    }

    fn is_enough(&self, rounds: u32) -> bool {
        match self.conduct.nested_retries {
            NestedRetries::Multiplied => rounds == ROUNDS,
            NestedRetries::OneLayer => self.line.mono() >= self.until,
        }
    }

    fn key(&self, key: Option<Uuid>) -> Option<Uuid> {
        key.filter(|_| self.conduct.report_replay == ReportReplay::Keyed)
    }
}
