//! What running jobs send about themselves: events, timelines, console, logs. Only the end of a job has an effect.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{patch, post};
use http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use super::call::{Call, bare, ok, read};
use super::discovery::{collection, item};
use super::failure::Failure;
use super::jobs::Caller;
use super::state::{JobNumber, Phase, State, Subject, presented};
use super::{Server, answer};
use crate::distributed_task::wire::{
    FeedLines, JobEvent, TaskLog, TaskResult, TimelineRecord, WrappedList, event, locations,
};

pub(super) fn routes(server: &Server) -> Router<Server> {
    Router::new()
        .route(&item(server, &locations::PLAN_EVENTS), post(raise_event))
        .route(&item(server, &locations::TIMELINE_RECORDS), patch(update_records))
        .route(&item(server, &locations::FEED), post(append_feed))
        .route(&collection(server, &locations::LOGS), post(create_log))
        .route(&item(server, &locations::LOGS), post(append_log))
}

/// The most logs that one plan may have.
const LOGS_OF_A_PLAN: i64 = 10_000;

impl State {
    /// Who calls about the plan in the path, and the plan's job.
    fn plan(&self, call: &Call, now: Timestamp) -> Result<(JobNumber, Subject), Failure> {
        let subject = self.caller(call, now)?;
        let text = call.parameter("planId");
        let plan = text.parse::<Uuid>().ok();
        let job = match subject {
            // The token names its job; that saves looking.
            Subject::Attempt(number, _) => self.jobs.get(&number),
            Subject::Agent(_) => self.jobs.values().find(|job| Some(job.plan) == plan),
        };
        let job = job.ok_or_else(|| Failure::PlanNotFound(text.into()))?;
        if Some(job.plan) != plan {
            let known = self.jobs.values().any(|job| Some(job.plan) == plan);
            return Err(if known { Failure::PlanSecurity(text.into()) } else { Failure::PlanNotFound(text.into()) });
        }
        Ok((job.number, subject))
    }
}

async fn raise_event(Store(server): Store<Server>, call: Call) -> Response {
    let raised = server.with(|state, now| {
        let (number, subject) = state.plan(&call, now)?;
        let sent: JobEvent = read(&call, "eventData")?;
        if !sent.name.eq_ignore_ascii_case(event::JOB_COMPLETED) {
            return Ok(());
        }
        let job = &state.jobs[&number];
        if sent.job_id != job.id {
            return Err(Failure::JobNotFound(sent.job_id.to_string()));
        }
        let (plan, ended) = (job.plan.to_string(), matches!(job.phase, Phase::Closed(_)));
        let caller = Caller { subject, lock: presented(sent.lock_token) };
        let reported = state.report(number, sent.result.unwrap_or(TaskResult::Succeeded), &caller, now);
        reported.map_err(|failure| match failure {
            Failure::JobNotFound(_) if ended => Failure::PlanTerminated(plan),
            other => other,
        })
    });
    answer(server.vss(), raised.map(|()| bare(StatusCode::OK)))
}

async fn update_records(Store(server): Store<Server>, call: Call) -> Response {
    let updated = server.with(|state, now| {
        state.plan(&call, now)?;
        read::<WrappedList<TimelineRecord>>(&call, "records")
    });
    answer(server.vss(), updated.map(|records| ok(&WrappedList::from(records.value))))
}

async fn append_feed(Store(server): Store<Server>, call: Call) -> Response {
    let appended = server.with(|state, now| {
        state.plan(&call, now)?;
        read::<FeedLines>(&call, "lines")
    });
    answer(server.vss(), appended.map(|_| bare(StatusCode::OK)))
}

async fn create_log(Store(server): Store<Server>, call: Call) -> Response {
    let created = server.with(|state, now| {
        let (number, _) = state.plan(&call, now)?;
        let log: TaskLog = read(&call, "log")?;
        let job = state.jobs.get_mut(&number).ok_or(Failure::AccessDenied("The plan is gone."))?;
        if job.logs == LOGS_OF_A_PLAN {
            return Err(Failure::AccessDenied("The plan has too many logs."));
        }
        job.logs += 1;
        Ok(TaskLog { id: job.logs, ..log })
    });
    answer(server.vss(), created.map(|log| ok(&log)))
}

async fn append_log(Store(server): Store<Server>, call: Call) -> Response {
    let appended = server.with(|state, now| {
        let (number, _) = state.plan(&call, now)?;
        let lines =
            call.bytes().map_err(|bad| Failure::of_body(bad, "log"))?.iter().filter(|byte| **byte == b'\n').count();
        let id = call.number("logId").ok_or(Failure::OutOfRange("logId"))?;
        if !(1..=state.jobs[&number].logs).contains(&id) {
            return Err(Failure::LogNotFound(id));
        }
        let line_count = i64::try_from(lines).unwrap_or(i64::MAX);
        Ok(TaskLog { id, line_count, last_changed_on: Some(now), ..TaskLog::default() })
    });
    answer(server.vss(), appended.map(|log| ok(&log)))
}
