//! The calls to the run service (V2): acquire, renew, complete.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::conduct::NotJson;
use crate::distributed_task::client::{Call, Client, Reply};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::wire::v2::{
    AcquireJobRequest, CompleteJobRequest, RenewJobRequest, RenewJobResponse, RunServiceError, run_service,
};
use crate::distributed_task::wire::{self, IDEMPOTENCY_KEY, JobMessage};

/// Send time-out of raw connections (`RawConnection.cs`).
pub const SEND_TIMEOUT: Duration = Duration::from_secs(100);

/// A run service, seen by one runner or one job.
#[derive(Clone)]
pub struct RunService {
    client: Client,
    base: String,
    not_json: NotJson,
}

impl RunService {
    /// The run service at `base`.
    pub fn new(client: Client, base: &str, not_json: NotJson) -> Self {
        Self { client, base: format!("{}/", base.trim_end_matches('/')), not_json }
    }

    /// Takes a job; `None` when the answer was a success without a job in it. All attempts with the same key are one.
    ///
    /// # Errors
    /// The job is somebody else's, among others.
    pub async fn acquire(
        &self,
        request: &AcquireJobRequest,
        key: Option<Uuid>,
    ) -> Result<Option<(JobMessage, Reply)>, Failure> {
        self.ask(self.call(run_service::ACQUIRE_JOB, request, key, SEND_TIMEOUT)).await
    }

    /// Extends a job's lease; `None` when the answer was a success without a lease in it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn renew(
        &self,
        request: &RenewJobRequest,
        send_timeout: Duration,
    ) -> Result<Option<(RenewJobResponse, Reply)>, Failure> {
        self.ask(self.call(run_service::RENEW_JOB, request, None, send_timeout)).await
    }

    /// Ends a job. All reports with the same key are one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn complete(&self, request: &CompleteJobRequest, key: Option<Uuid>) -> Result<(), Failure> {
        let reply = self.send(self.call(run_service::COMPLETE_JOB, request, key, SEND_TIMEOUT)).await?;
        // Nothing is read from the answer, so what is strict looks at its kind alone.
        let a_page = !reply.body.is_empty() && !reply.is_json();
        match self.not_json {
            NotJson::Error if a_page => Err(Failure::Unreadable(format!("{} without JSON", reply.status))),
            _ => Ok(()),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<Option<(T, Reply)>, Failure> {
        let reply = self.send(call).await?;
        Ok(result(&reply, self.not_json)?.map(|result| (result, reply)))
    }

    async fn send(&self, call: Call) -> Result<Reply, Failure> {
        let reply = self.client.send(&call).await?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(named(&reply)),
        }
    }

    fn call(&self, path: &str, request: &impl Serialize, key: Option<Uuid>, send_timeout: Duration) -> Call {
        let call = Call::new(Method::POST, format!("{}{path}", self.base), send_timeout).json(request);
        match key {
            Some(key) => call.header(IDEMPOTENCY_KEY, key.to_string()),
            None => call,
        }
    }
}

/// The exception that the runner builds from an error of the run service; what a proxy says is only a status.
fn named(reply: &Reply) -> Failure {
    let status = reply.status;
    let Ok(error) = wire::from_slice::<RunServiceError>(&reply.body) else { return Failure::Status { status } };
    let key = match error.status() {
        Some(StatusCode::NOT_FOUND) => key::ORCHESTRATION_JOB_NOT_FOUND,
        Some(StatusCode::CONFLICT) => key::ORCHESTRATION_JOB_ALREADY_ACQUIRED,
        Some(StatusCode::UNPROCESSABLE_ENTITY) => key::ORCHESTRATION_JOB_UNPROCESSABLE,
        _ => return Failure::Status { status },
    };
    Failure::service(key, status, error.error_message)
}

/// The result of a raw call. A 2xx that is not JSON, or is broken JSON, has none; whether that is an error is a choice.
///
/// # Errors
/// [`Failure`].
pub fn result<T: DeserializeOwned>(reply: &Reply, not_json: NotJson) -> Result<Option<T>, Failure> {
    if !reply.status.is_success() {
        return Err(Failure::Status { status: reply.status });
    }
    let read = match reply.is_json() {
        true => wire::from_slice::<Option<T>>(&reply.body).map_err(|error| error.to_string()),
        false => Err(format!("{} without JSON", reply.status)),
    };
    match (read, not_json) {
        (Ok(Some(result)), _) => Ok(Some(result)),
        (_, NotJson::NullResult) => Ok(None),
        (Ok(None), NotJson::Error) => Err(Failure::Unreadable("null".into())),
        (Err(error), NotJson::Error) => Err(Failure::Unreadable(error)),
    }
}
