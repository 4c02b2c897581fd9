//! Why a call is refused, and how the server says so: its mappers of exceptions turn each into status and a body of
//! `status`, `message` and `data`.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::Trouble;
use super::routes::BODY_LIMIT;
use crate::answers;
use crate::bkci::wire::{Answer, code};
use crate::call::BadBody;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("Parameter {0} cannot be empty")]
    ParamBlank(&'static str),
    #[error("Invalid request parameters: {0}")]
    Json(String),
    #[error("Request body is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("Request body ended early")]
    CutShort,
    #[error("Agent is not permitted: {0}")]
    Forbidden(&'static str),
    #[error("Build not found")]
    BuildNotFound,
    #[error("Build has ended")]
    BuildEnded,
    #[error("Repeat start VM")]
    StartedAlready,
    #[error("Resource path not found")]
    NoRoute,
    #[error("Method not allowed")]
    NoMethod,
    #[error("Unauthorized")]
    Unauthorized,
    #[error("{0}")]
    Conflict(String),
    #[error("System is busy: {0}")]
    Trouble(#[from] Trouble),
    #[error("System is busy: the call was lost in a restart")]
    Lost,
}

impl From<BadBody> for Failure {
    fn from(body: BadBody) -> Self {
        match body {
            BadBody::TooLarge => Self::TooLarge,
            BadBody::CutShort => Self::CutShort,
            BadBody::Missing | BadBody::NotJson(_) | BadBody::WrongShape(_) => Self::Json(body.to_string()),
        }
    }
}

impl Failure {
    /// The HTTP status and the number of the error.
    fn numbers(&self) -> (StatusCode, i64) {
        let plain = |status: StatusCode| (status, i64::from(status.as_u16()));
        match self {
            Self::ParamBlank(_) | Self::Json(_) | Self::CutShort => plain(StatusCode::BAD_REQUEST),
            Self::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE),
            Self::Forbidden(_) => plain(StatusCode::FORBIDDEN),
            Self::BuildNotFound | Self::NoRoute => plain(StatusCode::NOT_FOUND),
            Self::NoMethod => plain(StatusCode::METHOD_NOT_ALLOWED),
            Self::Unauthorized => plain(StatusCode::UNAUTHORIZED),
            Self::Conflict(_) => plain(StatusCode::CONFLICT),
            Self::Trouble(_) | Self::Lost => plain(StatusCode::INTERNAL_SERVER_ERROR),
            // `ErrorCodeException` has its own number, and 500 unless it says otherwise.
            Self::BuildEnded => (StatusCode::INTERNAL_SERVER_ERROR, code::BUILD_ENDED),
            Self::StartedAlready => (StatusCode::INTERNAL_SERVER_ERROR, code::STARTED_ALREADY),
        }
    }

    pub(super) fn answer(&self) -> Response {
        let (http_status, status) = self.numbers();
        json(http_status, &Answer::<serde_json::Value> { status, message: Some(self.to_string()), data: None })
    }
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    answers::json(status, "application/json", body)
}
