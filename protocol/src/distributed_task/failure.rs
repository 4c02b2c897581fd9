//! How a call to a distributed-task server fails, in the names of the real clients' exceptions.

use std::time::Duration;

use http::StatusCode;

use super::wire::SKEW_MARKER;
use crate::http::TransportError;

/// Names of typed exceptions, as `typeKey` carries them or as a client derives them from a status.
pub mod key {
    use crate::distributed_task::wire::Exception;

    /// 409 on creating a session: another one of the same agent is live.
    pub const SESSION_CONFLICT: &str = Exception::TaskAgentSessionConflict.type_key();
    /// The session is not known any more.
    pub const SESSION_EXPIRED: &str = Exception::TaskAgentSessionExpired.type_key();
    /// The agent's registration is gone.
    pub const AGENT_NOT_FOUND: &str = Exception::TaskAgentNotFound.type_key();
    /// The pool is gone.
    pub const POOL_NOT_FOUND: &str = Exception::TaskAgentPoolNotFound.type_key();
    /// The access token was revoked.
    pub const TOKEN_EXPIRED: &str = Exception::TaskAgentAccessTokenExpired.type_key();
    /// 403.
    pub const ACCESS_DENIED: &str = Exception::AccessDenied.type_key();
    /// V1: the server knows no such job request, or has closed it.
    pub const JOB_NOT_FOUND: &str = Exception::TaskAgentJobNotFound.type_key();
    /// V1: the job request's lock is not ours any more.
    pub const JOB_TOKEN_EXPIRED: &str = Exception::TaskAgentJobTokenExpired.type_key();
    /// V1: the plan of a job is gone.
    pub const PLAN_NOT_FOUND: &str = Exception::TaskOrchestrationPlanNotFound.type_key();
    /// V1: the plan of a job has ended.
    pub const PLAN_TERMINATED: &str = Exception::TaskOrchestrationPlanTerminated.type_key();
    /// V1: the plan of a job is not for this caller.
    pub const PLAN_SECURITY: &str = Exception::TaskOrchestrationPlanSecurity.type_key();
    /// V2, run service 404.
    pub const ORCHESTRATION_JOB_NOT_FOUND: &str = Exception::TaskOrchestrationJobNotFound.type_key();
    /// V2, run service 409.
    pub const ORCHESTRATION_JOB_ALREADY_ACQUIRED: &str = "TaskOrchestrationJobAlreadyAcquiredException";
    /// V2, run service 422.
    pub const ORCHESTRATION_JOB_UNPROCESSABLE: &str = "TaskOrchestrationJobUnprocessableException";
    /// V2: the runner's registration is gone.
    pub const RUNNER_NOT_FOUND: &str = "RunnerNotFoundException";
    /// V2: a hosted runner's machine is being taken away.
    pub const HOSTED_RUNNER_DEPROVISIONED: &str = "HostedRunnerDeprovisionedException";
    /// V2: nobody waits for the acknowledgement.
    pub const ACKNOWLEDGE_JOB_NOT_FOUND: &str = "AcknowledgeJobNotFoundException";
    /// V2: this version of the runner is refused.
    pub const RUNNER_VERSION_TOO_OLD: &str = "RunnerVersionTooOldException";
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The transport failed (`HttpRequestException`).
    #[error("HttpRequestException: {0}")]
    Transport(TransportError),
    /// The send time-out passed (`TimeoutException`).
    #[error("TimeoutException: no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Every round of authentication drew a 401 (`VssUnauthorizedException`).
    #[error("VssUnauthorizedException")]
    Unauthorized,
    /// The token endpoint refused (`VssOAuthTokenRequestException`).
    #[error("VssOAuthTokenRequestException: {error}: {description}")]
    Token {
        /// The OAuth error code.
        error: String,
        /// `error_description`.
        description: String,
    },
    /// The token endpoint answered something that is no OAuth answer. Upstream never shows it: it goes on without a
    /// token and ends as [`Failure::Unauthorized`].
    #[error("token endpoint answered {status}")]
    TokenService {
        /// Its status.
        status: StatusCode,
    },
    /// The server named an exception.
    #[error("{key}: {message}")]
    Service {
        /// One of [`key`], or whatever the server sent.
        key: String,
        /// The status.
        status: StatusCode,
        /// Its text.
        message: String,
    },
    /// A status with no body that a client understands (`VssServiceResponseException`).
    #[error("VssServiceResponseException: {status}")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// A 2xx whose body is not what was asked for.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
    /// An address or a token that the server gave is none, so that there is nothing to send (`FormatException`, of which
    /// `UriFormatException` is a kind).
    #[error("FormatException: {0}")]
    Unsendable(String),
    /// A connection to the server was never established, or an object is missing that should be there.
    #[error("InvalidOperationException: {0}")]
    InvalidOperation(String),
    /// The agent's code stepped on a value that is not there (`NullReferenceException`).
    #[error("NullReferenceException")]
    NullReference,
}

impl Failure {
    /// An exception that the server named.
    pub fn service(key: &str, status: StatusCode, message: impl Into<String>) -> Self {
        Failure::Service { key: key.to_owned(), status, message: message.into() }
    }

    /// Did the server name this exception?
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Failure::Service { key, .. } if key == name)
    }

    /// Did the server name one of these exceptions?
    pub fn is_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    /// The status that came with it, if any did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Failure::Service { status, .. } | Failure::Status { status } | Failure::TokenService { status } => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// `invalid_client`: what the token endpoint says when a registration is gone, and also when a clock is wrong.
    pub fn is_invalid_client(&self) -> bool {
        matches!(self, Failure::Token { error, .. } if error.eq_ignore_ascii_case("invalid_client"))
    }

    /// Does the token endpoint's text say that the clocks disagree? actions/runner#532 shows the marker.
    pub fn is_clock_skew(&self) -> bool {
        matches!(self, Failure::Token { description, .. } if description.contains(SKEW_MARKER))
    }
}
