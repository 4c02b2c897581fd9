//! What can be wrong with a call, and how each of the server's parts says so.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::call::json;
use crate::call::BadBody;
use crate::distributed_task::wire::v2::{BrokerError, BrokerErrorKind, RunServiceError};
use crate::distributed_task::wire::{Dialect, Exception, ServiceError};

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("TF400813: The user '' is not authorized to access this resource.")]
    Unauthorized,
    #[error("Access denied. {0}")]
    AccessDenied(&'static str),
    #[error("Maximum request length exceeded.")]
    TooLarge,
    #[error("The request body ended before it was complete.")]
    BodyCutShort,
    #[error("{0}")]
    NotJson(String),
    #[error("{0}")]
    WrongShape(String),
    #[error("Value cannot be null.\r\nParameter name: {0}")]
    Missing(&'static str),
    #[error("Specified argument was out of the range of valid values.\r\nParameter name: {0}")]
    OutOfRange(&'static str),
    #[error("The controller for path '{0}' was not found or does not implement IController.")]
    NoRoute(String),
    #[error("The requested resource does not support http method '{0}'.")]
    NoMethod(String),
    #[error("{}", session_conflict(agent, owner.as_deref()))]
    SessionConflict { agent: String, owner: Option<String> },
    #[error("The session is no longer valid.")]
    SessionGone,
    #[error("The agent was not found.")]
    AgentNotFound,
    #[error("Agent pool {0} was not found.")]
    PoolNotFound(String),
    #[error("The job {0} was not found.")]
    JobNotFound(String),
    #[error("The lock token does not belong to the present lease of job {0}.")]
    StaleLease(String),
    #[error("The job {0} has already been acquired. (MissingKey)")]
    AlreadyAcquired(String),
    #[error("The job {0} cannot be processed any more.")]
    Unprocessable(String),
    #[error("No job waits for the acknowledgement {0}.")]
    NothingToAcknowledge(String),
    #[error("The plan {0} was not found.")]
    PlanNotFound(String),
    #[error("The plan {0} has ended.")]
    PlanTerminated(String),
    #[error("The token is not one of plan {0}.")]
    PlanSecurity(String),
    #[error("The log {0} was not found.")]
    LogNotFound(i64),
}

/// A runner's service does not say whose session it is.
fn session_conflict(agent: &str, owner: Option<&str>) -> String {
    match owner {
        Some(owner) => format!("The task agent {agent} already has an active session for owner {owner}."),
        None => format!("The actions runner {agent} already has an active session."),
    }
}

/// A part of the server with its own way to say what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Vss(Dialect),
    Broker,
    RunService,
}

impl Failure {
    /// What is wrong with a body that is called `what` where it is missing.
    pub(super) fn of_body(bad: BadBody, what: &'static str) -> Self {
        match bad {
            BadBody::TooLarge => Self::TooLarge,
            BadBody::CutShort => Self::BodyCutShort,
            BadBody::Missing => Self::Missing(what),
            BadBody::NotJson(why) => Self::NotJson(why),
            BadBody::WrongShape(why) => Self::WrongShape(why),
        }
    }

    /// The answer of `part`.
    pub(crate) fn answer(&self, part: Part) -> Response {
        let exception = self.exception();
        let status = self.status(exception);
        let message = self.to_string();
        let mut answer = match part {
            Part::Vss(dialect) => error(status, &ServiceError::new(exception, dialect, message)),
            Part::Broker => error(status, &BrokerError::new(self.broker_kind(), status, message)),
            Part::RunService => error(status, &RunServiceError::new(status, message)),
        };
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }

    fn status(&self, exception: Exception) -> StatusCode {
        match self {
            Self::AlreadyAcquired(_) => StatusCode::CONFLICT,
            Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => exception.status(),
        }
    }

    fn exception(&self) -> Exception {
        match self {
            Self::Unauthorized => Exception::UnauthorizedRequest,
            Self::AccessDenied(_) => Exception::AccessDenied,
            Self::TooLarge => Exception::RequestTooLong,
            Self::BodyCutShort | Self::Missing(_) => Exception::ArgumentNull,
            Self::NotJson(_) => Exception::JsonReader,
            Self::WrongShape(_) => Exception::JsonSerialization,
            Self::OutOfRange(_) => Exception::ArgumentOutOfRange,
            Self::NoRoute(_) => Exception::NoSuchRoute,
            Self::NoMethod(_) => Exception::NoSuchMethod,
            Self::SessionConflict { .. } => Exception::TaskAgentSessionConflict,
            Self::SessionGone => Exception::TaskAgentSessionExpired,
            Self::AgentNotFound => Exception::TaskAgentNotFound,
            Self::PoolNotFound(_) => Exception::TaskAgentPoolNotFound,
            Self::JobNotFound(_) | Self::NothingToAcknowledge(_) => Exception::TaskAgentJobNotFound,
            Self::StaleLease(_) | Self::AlreadyAcquired(_) => Exception::TaskAgentJobTokenExpired,
            Self::Unprocessable(_) => Exception::TaskOrchestrationJobNotFound,
            Self::PlanNotFound(_) => Exception::TaskOrchestrationPlanNotFound,
            Self::PlanTerminated(_) => Exception::TaskOrchestrationPlanTerminated,
            Self::PlanSecurity(_) => Exception::TaskOrchestrationPlanSecurity,
            Self::LogNotFound(_) => Exception::TaskOrchestrationPlanLogNotFound,
        }
    }

    fn broker_kind(&self) -> BrokerErrorKind {
        match self {
            Self::AgentNotFound => BrokerErrorKind::RunnerNotFound,
            Self::SessionGone => BrokerErrorKind::RunnerSessionInvalid,
            Self::NothingToAcknowledge(_) => BrokerErrorKind::AcknowledgeJobNotFound,
            _ => BrokerErrorKind::Other,
        }
    }
}

fn error(status: StatusCode, body: &impl Serialize) -> Response {
    json(status, body)
}
