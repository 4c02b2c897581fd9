//! Exchanges with servers, within the limits that the client sets itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::failure::{During, Failure};
use crate::clock::{self, Clock};
use crate::flox::choices::Stall;
use crate::http::{self as wire, Body, Http};
use crate::retry::retry_after;

/// `--max-time` of the action, over a whole attempt.
pub const MAX_TIME: Duration = Duration::from_secs(300);
/// After so long without a byte the repaired download begins a new attempt: curl's own window, `--speed-time 30`.
pub const STALLED: Duration = Duration::from_secs(30);
/// How long the client of tool-cache waits for the head of an answer (`http-client/index.ts`).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(180);

/// The most that is read of an answer that is read as a whole.
const TEXT_MAX_BYTES: usize = 1 << 20;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    head: Option<Duration>,
    silence: Option<Duration>,
    whole: Option<Duration>,
}

impl Limits {
    fn of(stall: Stall) -> Self {
        match stall {
            Stall::MaxTime => Self { head: None, silence: None, whole: Some(MAX_TIME) },
            Stall::Guard => Self { head: Some(STALLED), silence: Some(STALLED), whole: None },
            Stall::Unguarded => Self { head: Some(HEAD_TIMEOUT), silence: None, whole: None },
        }
    }
}

/// A way to servers.
#[derive(Clone)]
pub(super) struct Line {
    http: Http,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

impl Line {
    pub(super) fn new(http: Http, clock: Arc<dyn Clock>, stall: Stall) -> Self {
        Self { http, clock, limits: Limits::of(stall) }
    }

    /// Runs an attempt for as long as one may take.
    pub(super) async fn attempt<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.within(self.limits.whole, work).await
    }

    /// Sends a request and waits for the head of its answer, whatever its status.
    pub(super) async fn head(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let broken = |error| Failure::Broken { error, during: During::Head };
        let sent = self.http.clone().oneshot(request);
        self.within(self.limits.head, async { sent.await.map_err(broken) }).await
    }

    /// The next bytes of a body; `None` at its end.
    pub(super) async fn next(&self, body: &mut Body) -> Result<Option<Bytes>, Failure> {
        let broken = |error| Failure::Broken { error, during: During::Body };
        loop {
            let read = async { body.frame().await.transpose().map_err(broken) };
            let Some(frame) = self.within(self.limits.silence, read).await? else { return Ok(None) };
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// A body as a whole.
    pub(super) async fn whole(&self, mut body: Body, most: usize) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next(&mut body).await? {
            if all.len() + bytes.len() > most {
                let error = crate::http::TransportError::TooLarge { limit: most };
                return Err(Failure::Broken { error, during: During::Body });
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// The text behind an address, and its status.
    pub(super) async fn text(&self, request: http::request::Builder) -> Result<Response<String>, Failure> {
        let request = with_body(request, wire::empty())?;
        self.attempt(async {
            let (head, body) = self.head(request).await?.into_parts();
            let text = self.whole(body, TEXT_MAX_BYTES).await?;
            Ok(Response::from_parts(head, String::from_utf8_lossy(&text).into_owned()))
        })
        .await
    }

    /// A status that is no success as the failure that it is.
    pub(super) fn refused<B>(&self, answer: &Response<B>) -> Failure {
        let retry_after = retry_after(answer.headers(), self.clock.wall());
        Failure::Status { status: answer.status(), retry_after }
    }

    async fn within<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match limit {
            None => work.await,
            Some(limit) => clock::timeout(&*self.clock, limit, work).await.unwrap_or(Err(Failure::TimedOut(limit))),
        }
    }
}

/// A request with its body. What a server told may be no address.
pub(super) fn with_body(request: http::request::Builder, body: Body) -> Result<Request<Body>, Failure> {
    let request = request.header(header::USER_AGENT, USER_AGENT).body(body);
    request.map_err(|_| Failure::SomethingElse { expected: "address" })
}

/// What the action calls itself (`main.ts`).
const USER_AGENT: &str = "action-setup-tailscale";
