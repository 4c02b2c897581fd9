//! V2, the run service: jobs are acquired, renewed and completed.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use super::call::{Call, bare, ok, read, receipted};
use super::failure::{Failure, Part};
use super::jobs::Caller;
use super::state::{JobNumber, State, Subject, presented};
use super::{Server, answer};
use crate::distributed_task::wire::v2::{
    AcquireJobRequest, CompleteJobRequest, RenewJobRequest, RenewJobResponse, run_service,
};
use crate::http::path_of;

pub(super) fn routes(server: &Server) -> Router<Server> {
    let base = path_of(&server.parameters().addresses.run_service);
    let path = |name: &str| format!("{base}/{name}");
    Router::new()
        .route(&path(run_service::ACQUIRE_JOB), post(acquire))
        .route(&path(run_service::RENEW_JOB), post(renew))
        .route(&path(run_service::COMPLETE_JOB), post(complete))
}

async fn acquire(Store(server): Store<Server>, call: Call) -> Response {
    let acquired = server.with(|state, now| {
        let id = state.token_agent(&call, now)?;
        let sent: AcquireJobRequest = read(&call, "request")?;
        Ok(match state.acquire(id, &sent.job_message_id, now) {
            Ok((number, job)) => receipted(ok(&job), Some(state.receipt_of_job(number))),
            // A cancelled job (422) leaves its runner where it was (actions/runner#4618).
            Err(cancelled @ Failure::Unprocessable(_)) => cancelled.answer(Part::RunService),
            Err(lost) => receipted(lost.answer(Part::RunService), state.assignment_lost(id, now)),
        })
    });
    answer(Part::RunService, acquired)
}

async fn renew(Store(server): Store<Server>, call: Call) -> Response {
    let renewed = server.with(|state, now| {
        let subject = state.caller(&call, now)?;
        let sent: RenewJobRequest = read(&call, "request")?;
        let number = job(state, sent.plan_id, sent.job_id)?;
        let until = state.renew(number, &caller(subject, sent.lock_token), now)?;
        Ok(receipted(ok(&RenewJobResponse { locked_until: Some(until) }), state.receipt(number)))
    });
    answer(Part::RunService, renewed)
}

async fn complete(Store(server): Store<Server>, call: Call) -> Response {
    let completed = server.with(|state, now: Timestamp| {
        let subject = state.caller(&call, now)?;
        let sent: CompleteJobRequest = read(&call, "request")?;
        let number = job(state, sent.plan_id, sent.job_id)?;
        state.report(number, sent.conclusion, &caller(subject, sent.lock_token), now)
    });
    answer(Part::RunService, completed.map(|()| bare(StatusCode::OK)))
}

fn caller(subject: Subject, lock_token: Option<Uuid>) -> Caller {
    Caller { subject, lock: presented(lock_token) }
}

fn job(state: &State, plan: Uuid, job: Uuid) -> Result<JobNumber, Failure> {
    let known = state.job_by_id(job).filter(|known| known.plan == plan);
    known.map(|known| known.number).ok_or_else(|| Failure::JobNotFound(job.to_string()))
}
