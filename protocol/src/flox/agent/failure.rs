//! What can go wrong with a download, in curl's words.

use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::flox::wire::{Digest, ResetCode};
use crate::http::TransportError;
use crate::retry::Outcome;

/// Why a download, or one attempt of it, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The transport failed. The server may be down, or something in between cuts connections.
    #[error("{error}")]
    Broken {
        /// How.
        error: TransportError,
        /// When.
        during: During,
    },
    /// The client's own limit ended it. Nothing came, or it came too slowly.
    #[error("Operation timed out after {} milliseconds", .0.as_millis())]
    TimedOut(Duration),
    /// The server refused. With a 4xx the address is wrong; with a 5xx the server is in trouble.
    #[error("The requested URL returned error: {}", status.as_u16())]
    Status {
        /// The status.
        status: StatusCode,
        /// What Retry-After asks for.
        retry_after: Option<Duration>,
    },
    /// The answer is something else: a login page, or a bug of the server.
    #[error("the answer is no {expected}")]
    SomethingElse {
        /// What was asked for.
        expected: &'static str,
    },
    /// The file has another digest than the published one. It was changed meanwhile, or put together wrongly.
    #[error("SHA256 checksum mismatch: expected {expected}, got {actual}")]
    Mismatch {
        /// The published digest.
        expected: Digest,
        /// That of the file.
        actual: Digest,
    },
    /// There is a file already where the download is to go. An earlier job left it behind.
    #[error("Destination file path {0} already exists")]
    Exists(String),
    /// The disk failed. It may be full.
    #[error("{path}: {why}")]
    Disk {
        /// The file.
        path: String,
        /// How.
        why: io::ErrorKind,
    },
}

/// The exit code of what comes after curl in a script, such as `sha256sum`.
pub const NOT_OF_CURL: i32 = 1;

/// How far an exchange had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// The head of the answer was not there yet.
    Head,
    /// The body was under way.
    Body,
}

/// To a retry policy an answer that is of no use is one that broke off: it knows only what the network does.
static OF_NO_USE: TransportError = TransportError::ClosedEarly;

impl Failure {
    /// What a retry policy makes of it.
    pub fn outcome(&self) -> Outcome<'_> {
        match self {
            Failure::Broken { error, .. } => Outcome::Transport(error),
            Failure::TimedOut(_) => Outcome::TimedOut,
            Failure::Status { status, retry_after } => Outcome::Status { status: *status, retry_after: *retry_after },
            Failure::SomethingElse { .. } | Failure::Mismatch { .. } | Failure::Exists(_) | Failure::Disk { .. } => {
                Outcome::Transport(&OF_NO_USE)
            }
        }
    }

    /// curl's exit code (`include/curl/curl.h`); [`NOT_OF_CURL`] for what curl does not know.
    pub fn exit_code(&self) -> i32 {
        match self {
            Failure::Broken { error, during } => match (error, during) {
                (TransportError::Dns { .. }, _) => 6,
                (TransportError::Refused | TransportError::Unreachable, _) => 7,
                (TransportError::TimedOut, During::Head) => 28,
                (TransportError::ClosedEarly, During::Head) => 52,
                (TransportError::ClosedEarly, During::Body) => 18,
                (TransportError::StreamReset { code }, _) if is_refused(*code) => 56,
                (TransportError::StreamReset { .. } | TransportError::GoAway { .. }, _) => 92,
                _ => 56,
            },
            Failure::Status { .. } => 22,
            Failure::Disk { .. } => 23,
            Failure::TimedOut(_) => 28,
            Failure::SomethingElse { .. } | Failure::Mismatch { .. } | Failure::Exists(_) => NOT_OF_CURL,
        }
    }

    /// The line in which curl tells of it, when so many bytes were missing.
    pub fn line(&self, missing: Option<u64>) -> String {
        let text = match (self, missing) {
            (Failure::Broken { error: TransportError::StreamReset { code }, .. }, _) if is_refused(*code) => {
                "Failure when receiving data from the peer".to_owned()
            }
            (Failure::Broken { error: TransportError::StreamReset { code }, .. }, _) => {
                format!("HTTP/2 stream 1 was not closed cleanly: {} (err {code})", ResetCode::of(*code))
            }
            (Failure::Broken { error: TransportError::ClosedEarly, during: During::Head }, _) => {
                "Empty reply from server".to_owned()
            }
            (Failure::Broken { error: TransportError::ClosedEarly, .. }, Some(missing)) => {
                format!("transfer closed with {missing} bytes remaining to read")
            }
            (Failure::Broken { error: TransportError::Dns { host }, .. }, _) => {
                format!("Could not resolve host: {host}")
            }
            (Failure::Broken { error: TransportError::Reset, .. }, _) => {
                "Recv failure: Connection reset by peer".to_owned()
            }
            _ => self.to_string(),
        };
        format!("curl: ({}) {text}", self.exit_code())
    }
}

/// curl says nothing of its own about a stream that was refused.
fn is_refused(code: u32) -> bool {
    ResetCode::of(code) == ResetCode::REFUSED_STREAM
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(error: TransportError, during: During) -> Failure {
        Failure::Broken { error, during }
    }

    #[test]
    fn the_incident_reads_as_it_did() {
        let reset = broken(TransportError::StreamReset { code: 2 }, During::Body);
        let told = "curl: (92) HTTP/2 stream 1 was not closed cleanly: INTERNAL_ERROR (err 2)";
        assert_eq!(reset.line(Some(5)), told);
        let short = broken(TransportError::ClosedEarly, During::Body);
        assert_eq!(short.line(Some(5)), "curl: (18) transfer closed with 5 bytes remaining to read");
    }

    #[test]
    fn each_failure_has_curl_s_code() {
        let dns = TransportError::Dns { host: "pkgs".to_owned() };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let codes = [
            (broken(dns, During::Head), 6),
            (broken(TransportError::Refused, During::Head), 7),
            (broken(TransportError::ClosedEarly, During::Head), 52),
            (broken(TransportError::StreamReset { code: 7 }, During::Body), 56),
            (broken(TransportError::Reset, During::Body), 56),
            (Failure::Status { status, retry_after: None }, 22),
            (Failure::Disk { path: "f".to_owned(), why: io::ErrorKind::StorageFull }, 23),
            (Failure::TimedOut(Duration::from_secs(300)), 28),
        ];
        for (failure, code) in codes {
            assert_eq!(failure.exit_code(), code, "{failure}");
        }
    }
}
