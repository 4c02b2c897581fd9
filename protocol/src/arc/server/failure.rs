//! What can be wrong with a call, and how the service says so.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use crate::answers;
pub(super) use crate::answers::bare;
use crate::arc::wire::{ApiError, Exception, exception};
use crate::call::BadBody;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("Bad credentials")]
    BadCredentials,
    #[error("The user is not authorized to access this resource.")]
    Unauthorized,
    #[error("{0}")]
    BadBody(#[from] BadBody),
    #[error("The runner scale set {set} already has an active session for owner {owner}.")]
    SessionConflict { set: String, owner: String },
    #[error("The session {0} has expired.")]
    SessionExpired(String),
    #[error("The session {0} was not found.")]
    SessionUnknown(String),
    #[error("The runner scale set {0} was not found.")]
    ScaleSetNotFound(String),
    #[error("A runner scale set of the name {0} exists.")]
    ScaleSetExists(String),
    #[error("The message {0} was not found.")]
    MessageNotFound(String),
    #[error("A runner of the name {0} exists.")]
    AgentExists(String),
    #[error("The runner {0} was not found.")]
    AgentNotFound(String),
    #[error("The runner {0} executes a job.")]
    JobStillRunning(String),
    #[error("There is nothing at {0}.")]
    NoRoute(String),
}

impl Failure {
    fn status_and_type(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadCredentials | Self::Unauthorized => (S::UNAUTHORIZED, exception::UNAUTHORIZED),
            Self::BadBody(BadBody::TooLarge) => (S::PAYLOAD_TOO_LARGE, exception::TOO_LARGE),
            Self::BadBody(_) => (S::BAD_REQUEST, exception::BAD_BODY),
            Self::SessionConflict { .. } => (S::CONFLICT, exception::SESSION_CONFLICT),
            Self::SessionExpired(_) => (S::BAD_REQUEST, exception::SESSION_EXPIRED),
            Self::SessionUnknown(_) => (S::NOT_FOUND, exception::ADMIN),
            Self::ScaleSetNotFound(_) => (S::NOT_FOUND, exception::SCALE_SET_NOT_FOUND),
            Self::ScaleSetExists(_) => (S::CONFLICT, exception::SCALE_SET_EXISTS),
            Self::MessageNotFound(_) => (S::NOT_FOUND, exception::MESSAGE_NOT_FOUND),
            Self::AgentExists(_) => (S::CONFLICT, exception::AGENT_EXISTS),
            Self::AgentNotFound(_) => (S::NOT_FOUND, exception::AGENT_NOT_FOUND),
            Self::JobStillRunning(_) => (S::BAD_REQUEST, exception::JOB_STILL_RUNNING),
            Self::NoRoute(_) => (S::NOT_FOUND, exception::NO_ROUTE),
        }
    }
}

/// Who answers: the GitHub API has errors of its own shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Api,
    Service,
}

/// The answer of a handler, from its result.
pub(super) fn answer(part: Part, result: Result<Response, Failure>) -> Response {
    result.unwrap_or_else(|failure| {
        let ((status, kind), message) = (failure.status_and_type(), failure.to_string());
        match part {
            Part::Service => json(status, &Exception::new(kind, message)),
            Part::Api => {
                let documentation_url = "https://docs.github.com/rest".to_owned();
                json(status, &ApiError { message, documentation_url })
            }
        }
    })
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    answers::json(status, "application/json; charset=utf-8; api-version=6.0-preview.1", body)
}
