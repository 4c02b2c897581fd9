//! How a listener's call fails, in the words of its real client.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::arc::wire::exception;
use crate::http::TransportError;

/// What a single attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The transport failed.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// The time that a call may take passed (`context deadline exceeded`).
    #[error("context deadline exceeded (Client.Timeout or context cancellation after {} s)", .0.as_secs())]
    TimedOut(Duration),
    /// The server is in trouble.
    #[error("unexpected HTTP status {0}")]
    Status(StatusCode),
    /// The process was asked to stop meanwhile.
    #[error("context canceled")]
    Cancelled,
    /// An address, a name or a token that a server gave is none, so that there is nothing to send.
    #[error("failed to create a request: {0}")]
    Unsendable(String),
}

impl From<http::Error> for Trouble {
    fn from(error: http::Error) -> Self {
        Trouble::Unsendable(error.to_string())
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The retry handler gave up.
    #[error("{method} {url} giving up after {attempts} attempt(s): {cause}")]
    GaveUp {
        /// The call's method.
        method: Method,
        /// The call's address.
        url: String,
        /// How many attempts were made.
        attempts: u32,
        /// What the last one came to.
        cause: Trouble,
    },
    /// The answer's body could not be read to its end.
    #[error("failed to read the response body: {0}")]
    Body(Trouble),
    /// The answer's body is not what was asked for.
    #[error("failed to decode the response: {0}")]
    Unreadable(String),
    /// The server says no.
    #[error("unexpected status code {status}: {exception}: {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The type of the server's exception; empty when it named none.
        exception: String,
        /// Its text.
        message: String,
    },
    /// The GitHub API does not accept the credential.
    #[error("failed to get runner registration token (401 Unauthorized): {0}")]
    Credentials(String),
    /// The queue does not accept its token.
    #[error("message queue token expired")]
    QueueToken,
    /// The session has no queue, because a refresh took its address away.
    #[error("failed to parse message queue url: empty url")]
    NoQueue,
    /// A message is of a type that is not known.
    #[error("unsupported message type: {kind}")]
    UnknownMessage {
        /// Its number.
        id: i64,
        /// Its type.
        kind: String,
    },
    /// A session without statistics.
    #[error("session statistics is nil")]
    NoStatistics,
    /// The process dereferenced what is not there.
    #[error("runtime error: invalid memory address or nil pointer dereference")]
    NilDereference,
    /// The cluster's API failed.
    #[error("could not patch: {0}")]
    Cluster(Trouble),
    /// The process was asked to stop, and no attempt was under way.
    #[error("context canceled")]
    Cancelled,
}

impl Failure {
    /// Did the server name this exception?
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Failure::Refused { exception, .. } if exception.contains(name))
    }

    /// Is another session live?
    pub fn is_conflict(&self) -> bool {
        self.is(exception::SESSION_CONFLICT)
    }

    /// Is the scale set unknown?
    pub fn is_missing_set(&self) -> bool {
        self.is(exception::SCALE_SET_NOT_FOUND)
    }

    /// Is the session unknown?
    pub fn is_session_gone(&self) -> bool {
        self.is(exception::ADMIN)
    }

    /// Was it refused as unauthorised?
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Failure::Refused { status: StatusCode::UNAUTHORIZED, .. })
    }
}
