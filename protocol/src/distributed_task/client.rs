//! A client of one server: retry handler outside, authentication and send time-out inside, as the VSS pipeline has it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use tower::ServiceExt;

use crate::clock::{self, Mono};
use crate::http::{self as wire, Body, TransportError};
use crate::retry::{self, Attempt, Outcome, RetryPolicy, Sent, http_date, retry_after};

use super::auth::Authenticate;
use super::failure::Failure;
use super::http_retry::{self, FullJitter, HOST_OFFLINE, VssHttpRetry};
use super::line::Line;

/// The largest answer that is read.
const MAX_BODY: usize = 16 << 20;

/// When present in a 401, the VSS handler starts no further round of authentication.
const AUTHENTICATE_ERROR: &str = "x-vss-authenticateerror";

/// A request, before a token is added.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The absolute address.
    pub url: String,
    /// Headers besides authorization and content type.
    pub headers: Vec<(HeaderName, String)>,
    /// A JSON body.
    pub body: Option<Bytes>,
    /// What one attempt may take, its authentication included.
    pub send_timeout: Duration,
}

impl Call {
    /// A call without a body.
    pub fn new(method: Method, url: impl Into<String>, send_timeout: Duration) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: None, send_timeout }
    }

    /// With a JSON body.
    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("wire types serialise").into());
        self
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((HeaderName::from_static(name), value.into()));
        self
    }

    /// The request, with a bearer's token if there is one.
    ///
    /// # Errors
    /// An address that is none, or a header that cannot be sent: servers say where jobs are, and hand out tokens.
    pub fn request(&self, token: Option<&str>) -> Result<Request<Body>, http::Error> {
        let mut request =
            Request::builder().method(&self.method).uri(&self.url).header(header::ACCEPT, "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        match &self.body {
            Some(body) => {
                request.header(header::CONTENT_TYPE, "application/json; charset=utf-8").body(wire::full(body.clone()))
            }
            None => request.body(wire::empty()),
        }
    }
}

/// An answer that was read to its end, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// When the attempt that drew this answer was sent. What the answer says was not true before.
    pub sent: Mono,
    /// How many attempts were made, this one included.
    pub attempts: u32,
}

impl Reply {
    /// Does the answer call itself JSON?
    pub fn is_json(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.to_ascii_lowercase().contains("json")
    }
}

/// Where reading the body of an answer stands in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyReading {
    /// Inside the send time-out and the retry handler (`VssHttpMessageHandler.cs:395-432`).
    WithinSendTimeout,
    /// After both, with no time-out at all (`RawHttpMessageHandler.cs:146-216`, `RawHttpClientBase.cs:63-66`).
    Unbounded,
}

/// The policy of the retry handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpRetries {
    /// [`VssHttpRetry`].
    Vss,
    /// [`FullJitter`].
    FullJitter,
    /// One attempt: the layer above retries.
    Single,
}

impl HttpRetries {
    fn policy(self) -> Box<dyn RetryPolicy> {
        match self {
            HttpRetries::Vss => Box::new(VssHttpRetry::ordinary()),
            HttpRetries::FullJitter => Box::new(FullJitter::ordinary()),
            HttpRetries::Single => Box::new(FullJitter::single()),
        }
    }

    /// The policy of a fetch of a token.
    pub(super) fn token_policy(self) -> Box<dyn RetryPolicy> {
        match self {
            HttpRetries::Vss => Box::new(VssHttpRetry::token()),
            HttpRetries::FullJitter => Box::new(FullJitter::token()),
            HttpRetries::Single => Box::new(FullJitter::single()),
        }
    }
}

/// How the two generations of clients differ below the level of calls.
#[derive(Clone, Copy, Debug)]
pub struct Pipeline {
    /// How many times a request is sent when each draws a 401: 3 for VSS connections, 2 for raw ones.
    pub auth_rounds: u32,
    /// Where the body is read.
    pub body: BodyReading,
    /// The retry handler.
    pub retries: HttpRetries,
}

/// Sends calls with a token, over and over where its retry handler says so.
#[derive(Clone)]
pub struct Client {
    line: Line,
    auth: Arc<dyn Authenticate>,
    pipeline: Pipeline,
}

impl Client {
    /// A client that takes its tokens from `auth`.
    pub fn new(line: Line, auth: Arc<dyn Authenticate>, pipeline: Pipeline) -> Self {
        Self { line, auth, pipeline }
    }

    /// The machine this client sends from.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The same client with another retry handler.
    pub fn retrying(&self, retries: HttpRetries) -> Self {
        Self { pipeline: Pipeline { retries, ..self.pipeline }, ..self.clone() }
    }

    /// Sends a call until it is answered or the retry handler gives up. An answer may have any status.
    ///
    /// # Errors
    /// What happened to the last attempt below the level of statuses.
    pub async fn send(&self, call: &Call) -> Result<Reply, Failure> {
        let mut policy = self.pipeline.retries.policy();
        let tell = |failed: &Attempt<'_>, next| http_retry::tell(&call.method, &call.url, failed, next);
        let Sent { last, at, attempts } =
            retry::send(&self.line, &mut *policy, || self.attempt(call), outcome, tell).await;
        let (head, body) = last?.into_parts();
        let body = wire::read(body, MAX_BODY).await.map_err(Failure::Transport)?;
        Ok(Reply { status: head.status, headers: head.headers, body, sent: at, attempts })
    }

    async fn attempt(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let work = async {
            let response = self.authenticated(call).await?;
            match self.pipeline.body {
                BodyReading::Unbounded => Ok(response),
                BodyReading::WithinSendTimeout => buffered(response).await,
            }
        };
        match clock::timeout(&*self.line.clock, call.send_timeout, work).await {
            Ok(done) => done,
            Err(clock::Timeout(limit)) => Err(Failure::TimedOut(limit)),
        }
    }

    async fn authenticated(&self, call: &Call) -> Result<Response<Body>, Failure> {
        for _ in 0..self.pipeline.auth_rounds {
            let token = self.auth.token(&self.line).await?;
            let request = call.request(token.as_deref()).map_err(|error| Failure::Unsendable(error.to_string()))?;
            let response = self.line.http.clone().oneshot(request).await.map_err(Failure::Transport)?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            self.auth.refused(token.as_deref());
            if response.headers().contains_key(AUTHENTICATE_ERROR) {
                break;
            }
        }
        Err(Failure::Unauthorized)
    }
}

async fn buffered(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let (head, body) = response.into_parts();
    let body = wire::read(body, MAX_BODY).await.map_err(Failure::Transport)?;
    Ok(Response::from_parts(head, wire::full(body)))
}

/// What the retry handler sees; `None` for what it never looks at.
pub(super) fn outcome<'a>(attempt: &'a Result<Response<Body>, Failure>, now: jiff::Timestamp) -> Option<Outcome<'a>> {
    match attempt {
        Ok(response) if response.status().is_success() || response.headers().contains_key(HOST_OFFLINE) => None,
        Ok(response) => {
            Some(Outcome::Status { status: response.status(), retry_after: retry_after(response.headers(), now) })
        }
        Err(Failure::Transport(error)) => Some(Outcome::Transport(error)),
        Err(Failure::TimedOut(_)) => Some(Outcome::TimedOut),
        Err(_) => None,
    }
}

/// The server's own time when it answered, in whole seconds, from the Date header.
pub fn server_time(headers: &HeaderMap) -> Option<jiff::Timestamp> {
    http_date(headers.get(header::DATE)?.to_str().ok()?)
}

/// Turns the transport's errors into failures.
impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Failure::Transport(error)
    }
}
