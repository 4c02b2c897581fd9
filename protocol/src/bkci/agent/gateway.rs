//! One call to the server, and what it came to.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use super::Configuration;
use crate::bkci::wire::{Answer, BUILD_TYPE, code, header};
use crate::clock;
use crate::http::{self as seam, TransportError};
use crate::line::Line;

pub(super) use http::Method;

/// The largest answer that is read.
pub(super) const ANSWER_LIMIT: usize = 1 << 20;

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The transport failed. The server may have done what it was asked.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// There was no answer in time. The server may have done what it was asked.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The answer is none of the server's: a proxy, a login page, a body cut short.
    #[error("HTTP {status} with what is no answer of the server: {why}")]
    NoAnswer {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        why: String,
    },
    /// The server refuses, and says why.
    #[error("refused with {status}: {message}")]
    Refused {
        /// The error's number, see [`code`].
        status: i64,
        /// In words.
        message: String,
    },
}

impl CallFailure {
    /// Did the server judge the call?
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// The server, as an agent or a worker reaches it.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) line: Line,
    origin: String,
    credentials: [(&'static str, String); 4],
}

/// An answer, not yet understood.
pub(super) struct RawAnswer {
    pub(super) status: StatusCode,
    body: Bytes,
}

impl Gateway {
    pub(super) fn new(line: Line, configuration: &Configuration) -> Self {
        let credentials = [
            (header::BUILD_TYPE, BUILD_TYPE.to_owned()),
            (header::PROJECT_ID, configuration.project_id.clone()),
            (header::AGENT_ID, configuration.agent_id.clone()),
            (header::SECRET_KEY, configuration.secret_key.clone()),
        ];
        Self { line, origin: configuration.gateway.trim_end_matches('/').to_owned(), credentials }
    }

    /// Makes one request and reads its answer, whatever its status, within `limit`.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Option<&impl Serialize>,
        limit: Duration,
    ) -> Result<RawAnswer, CallFailure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.origin));
        for (name, value) in self.credentials.iter().chain(headers) {
            request = request.header(*name, value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(http::header::CONTENT_TYPE, "application/json; charset=UTF-8");
                seam::full(serde_json::to_vec(body).expect("wire types are plain JSON"))
            }
            None => seam::empty(),
        };
        let request = request.body(body).map_err(|error| TransportError::Protocol(error.to_string()))?;
        let http = self.line.http.clone();
        let exchange = async move {
            let (head, body) = http.oneshot(request).await?.into_parts();
            Ok(RawAnswer { status: head.status, body: seam::read(body, ANSWER_LIMIT).await? })
        };
        match clock::timeout(&*self.line.clock, limit, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(CallFailure::TimedOut(limit)),
        }
    }
}

impl RawAnswer {
    /// The answer as JSON, whatever the HTTP status.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, CallFailure> {
        let no_answer =
            |why: serde_json::Error| CallFailure::NoAnswer { status: self.status.as_u16(), why: why.to_string() };
        serde_json::from_slice(&self.body).map_err(no_answer)
    }
}

impl<T> Answer<T> {
    /// The data, or the refusal.
    pub(super) fn into_result(self) -> Result<Option<T>, CallFailure> {
        match self.status {
            code::OK => Ok(self.data),
            status => Err(CallFailure::Refused { status, message: self.message.unwrap_or_default() }),
        }
    }
}
