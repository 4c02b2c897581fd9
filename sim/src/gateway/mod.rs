//! The gateway: what stands before a server and answers in its place, or spoils what it answers.
//!
//! It is a tower [`Layer`] over any service with axum's bodies, and knows neither a world nor a runtime: only a
//! [`Clock`] and the [`Rules`] that hold at present. So the same code stands before simulated and real servers.
//!
//! What happens *before* the server has acted is decided when a request comes; everything else when its answer goes.
//! A long poll that began before a fault did is therefore hit as well. Where several rules hit one answer they act in
//! the order of the plan, each on what the former left. A request that the gateway answers itself is not held back.

mod answer;
mod body;
mod connection;
mod late;
mod rules;

use std::fmt::Arguments;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use futures_util::future::{self, BoxFuture, Either, FutureExt};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use pin_project_lite::pin_project;
use squall_protocol::Clock;
use tower::util::Oneshot;
use tower::{Layer, Service, ServiceExt};

pub use self::connection::ConnectionControl;
use self::late::Carrier;
pub use self::rules::Rules;
use self::rules::{Moment, Rule};
use crate::effects::FaultId;
use crate::fault::{FaultKind, When};

/// An error of any kind. One that a service returns ends the connection (HTTP/1.1) or resets the stream (HTTP/2, with
/// the code of an [`h2::Error`] if one is among its causes).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Is told of everything that a gateway does.
pub trait Witness: Send + Sync + 'static {
    /// `fault`, which is of family `kind`, has changed one exchange.
    fn saw(&self, fault: FaultId, kind: &str, what: Arguments<'_>);
}

/// Puts a [`Gateway`] before a server.
#[derive(Clone)]
pub struct GatewayLayer {
    post: Arc<Post>,
}

/// Where a gateway stands, and what it goes by.
#[derive(Clone)]
struct Post {
    server: Arc<str>,
    rules: Rules,
    clock: Arc<dyn Clock>,
    witness: Option<Arc<dyn Witness>>,
    carrier: Option<Carrier>,
    connection: Option<ConnectionControl>,
}

impl GatewayLayer {
    /// For the server of this name, as fault plans call it, with the clock that dates are told by.
    pub fn new(server: impl Into<Arc<str>>, rules: Rules, clock: Arc<dyn Clock>) -> Self {
        let (server, witness, carrier, connection) = (server.into(), None, None, None);
        Self { post: Arc::new(Post { server, rules, clock, witness, carrier, connection }) }
    }

    /// Tells `witness` what the gateway does.
    #[must_use]
    pub fn witnessed_by(self, witness: Arc<dyn Witness>) -> Self {
        Self { post: Arc::new(Post { witness: Some(witness), ..(*self.post).clone() }) }
    }

    /// Lets `carrier` run what becomes of requests that are held back, even when their callers go: for instance as a
    /// task of tokio that ends with the server's process. Without one they are held while their callers wait, and no longer.
    #[must_use]
    pub fn carried_by(self, carrier: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static) -> Self {
        Self { post: Arc::new(Post { carrier: Some(Arc::new(carrier)), ..(*self.post).clone() }) }
    }

    /// For the requests of one connection. Others tell theirs in the extensions of each request.
    #[must_use]
    pub fn on_connection(&self, control: ConnectionControl) -> Self {
        Self { post: Arc::new(Post { connection: Some(control), ..(*self.post).clone() }) }
    }
}

impl<S> Layer<S> for GatewayLayer {
    type Service = Gateway<S>;

    fn layer(&self, inner: S) -> Gateway<S> {
        Gateway { inner, post: self.post.clone() }
    }
}

/// A server with a gateway before it.
#[derive(Clone)]
pub struct Gateway<S> {
    inner: S,
    post: Arc<Post>,
}

impl<S> Service<Request<Body>> for Gateway<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Passing<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let passage = Passage::of(&self.post, &request);
        let hits = passage.hits(Moment::Arrival);
        if hits.is_empty() {
            return Passing::asked(passage, self.inner.call(request));
        }
        Passing::disturbed(passage.arrives(request, self.inner.clone(), hits))
    }
}

impl<S> Gateway<S> {
    /// Lets one request pass, to a server of its own.
    pub(crate) fn pass(&self, request: Request<Body>) -> Passing<Oneshot<S, Request<Body>>>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let passage = Passage::of(&self.post, &request);
        let hits = passage.hits(Moment::Arrival);
        if hits.is_empty() {
            return Passing::asked(passage, self.inner.clone().oneshot(request));
        }
        Passing::disturbed(passage.arrives(request, self.inner.clone(), hits))
    }
}

pin_project! {
    /// A request that passes a gateway; ends with what the caller is to see of the answer.
    pub struct Passing<F> {
        #[pin]
        step: Step<F>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F> {
        /// The server has not answered.
        Asked { #[pin] answer: F, passage: Option<Passage> },
        /// Something becomes of the request or its answer. That is rare, so only then does it cost an allocation.
        Disturbed { answer: BoxFuture<'static, Result<Response<Body>, BoxError>> },
    }
}

impl<F> Passing<F> {
    fn asked(passage: Passage, answer: F) -> Self {
        Self { step: Step::Asked { answer, passage: Some(passage) } }
    }

    fn disturbed(answer: impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static) -> Self {
        Self { step: Step::Disturbed { answer: answer.boxed() } }
    }
}

impl<F, E> Future for Passing<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        let mut disturbed = match step.as_mut().project() {
            StepProjection::Disturbed { answer } => return answer.poll_unpin(cx),
            StepProjection::Asked { answer, passage } => {
                let response = ready!(answer.poll(cx)).map_err(Into::into)?;
                let passage = passage.take().expect("polled after its end");
                let hits = passage.hits(Moment::Answer);
                if hits.is_empty() {
                    return Poll::Ready(Ok(response));
                }
                passage.leaves(response, hits).boxed()
            }
        };
        let polled = disturbed.poll_unpin(cx);
        step.set(Step::Disturbed { answer: disturbed });
        polled
    }
}

/// One request on its way through a gateway.
#[derive(Clone)]
struct Passage {
    post: Arc<Post>,
    /// Copied, or the whole head of the request would stay in memory until it is answered.
    path: Box<str>,
    version: Version,
    control: Option<ConnectionControl>,
}

impl Passage {
    fn of<B>(post: &Arc<Post>, request: &Request<B>) -> Self {
        let control = request.extensions().get::<ConnectionControl>().cloned();
        let path = request.uri().path_and_query().map_or("", |path| path.as_str()).into();
        Self { post: post.clone(), path, version: request.version(), control }
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn control(&self) -> Option<&ConnectionControl> {
        self.control.as_ref().or(self.post.connection.as_ref())
    }

    fn caller(&self) -> &str {
        self.control().map_or("", ConnectionControl::caller)
    }

    /// The rules that hit at this moment, in the order of the plan.
    fn hits(&self, moment: Moment) -> Vec<Arc<Rule>> {
        self.post.rules.hits(moment, &self.post.server, self.caller(), self.path())
    }

    /// A rule has changed one exchange.
    fn tell(&self, rule: &Rule, what: Arguments<'_>) {
        self.post.rules.count(rule);
        self.note(rule, what);
    }

    /// A word more about an exchange that a rule has changed.
    fn note(&self, rule: &Rule, what: Arguments<'_>) {
        if let Some(witness) = &self.post.witness {
            witness.saw(rule.fault(), rule.kind().family(), what);
        }
    }

    /// What becomes of a request that the server has not seen.
    async fn arrives<S>(
        self,
        request: Request<Body>,
        server: S,
        hits: Vec<Arc<Rule>>,
    ) -> Result<Response<Body>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send> + Send + 'static,
    {
        if let Some(refusal) = hits.iter().find_map(|rule| self.refuses(rule)) {
            return refusal;
        }
        let response = self.comes_late(request, server, hits).await?;
        let hits = self.hits(Moment::Answer);
        self.leaves(response, hits).await
    }

    /// What the gateway says in the server's place, if anything.
    fn refuses(&self, rule: &Rule) -> Option<Result<Response<Body>, BoxError>> {
        match rule.kind() {
            FaultKind::Status { status, retry_after, .. } => {
                self.tell(rule, format_args!("{status} in place of the server to {}", self.path()));
                Some(Ok(answer::status(*status, retry_after.as_ref(), self.post.clock.wall())))
            }
            FaultKind::LoginPage { .. } => {
                self.tell(rule, format_args!("login page in place of the server to {}", self.path()));
                Some(Ok(answer::login_page()))
            }
            FaultKind::StreamReset { code, .. } => {
                self.tell(rule, format_args!("reset with {code:#x} in place of the server to {}", self.path()));
                Some(Err(reset(*code)))
            }
            _ => None,
        }
    }

    /// What becomes of the server's answer.
    async fn leaves(self, mut response: Response<Body>, hits: Vec<Arc<Rule>>) -> Result<Response<Body>, BoxError> {
        for rule in hits {
            // An earlier rule may have held the answer back until this one was over.
            if rule.is_lifted() {
                continue;
            }
            response = self.spoil(&rule, response).await?;
        }
        Ok(response)
    }

    async fn spoil(&self, rule: &Arc<Rule>, mut response: Response<Body>) -> Result<Response<Body>, BoxError> {
        let (path, answered) = (self.path(), response.status());
        match rule.kind() {
            FaultKind::Status { status, retry_after, when: When::AfterCommit, .. } => {
                self.tell(rule, format_args!("{status} in place of {answered} to {path}"));
                Ok(answer::status(*status, retry_after.as_ref(), self.post.clock.wall()))
            }
            FaultKind::DropReply { .. } => {
                self.tell(rule, format_args!("reply {answered} to {path} dropped"));
                Err(ReplyDropped.into())
            }
            FaultKind::StreamReset { code, when: When::AfterCommit, .. } => {
                self.tell(rule, format_args!("reset with {code:#x} in place of {answered} to {path}"));
                Err(reset(*code))
            }
            FaultKind::Delay { by_ms, .. } => {
                self.tell(rule, format_args!("reply {answered} to {path} held back for {by_ms} ms"));
                self.hold_back(Duration::from_millis(*by_ms)).await;
                Ok(response)
            }
            FaultKind::Truncate { bytes, .. } => {
                let cut = body::Cut::new(self.clone(), rule.clone(), body::Then::Break, *bytes);
                Ok(response.map(|inner| cut.over(inner)))
            }
            FaultKind::Stall { bytes, .. } => {
                let cut = body::Cut::new(self.clone(), rule.clone(), body::Then::Silence, *bytes);
                Ok(response.map(|inner| cut.over(inner)))
            }
            FaultKind::GoAway { .. } => {
                if self.wind_connection_down(&mut response) {
                    self.tell(rule, format_args!("connection of {path} going away"));
                }
                Ok(response)
            }
            _ => Ok(response),
        }
    }

    /// Waits for so long. What is left at heal is worked off faster, and not all at once: else whoever waits would go on in
    /// step with all others, for no reason of his own.
    async fn hold_back(&self, by: Duration) {
        let clock = &self.post.clock;
        let due = clock.mono() + by;
        let held = future::select(clock.sleep(by), self.post.rules.healed()).await;
        if let Either::Right(_) = held {
            clock.sleep((due.since(clock.mono()) / CATCH_UP).min(CAUGHT_UP)).await;
        }
    }

    /// Lets the connection end with this answer (HTTP/1.1) or with the requests under way (HTTP/2).
    ///
    /// Returns whether that could be said.
    fn wind_connection_down(&self, response: &mut Response<Body>) -> bool {
        if self.version != Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return true;
        }
        self.control().is_some_and(ConnectionControl::wind_down)
    }
}

/// How many times as fast a server that was slow works off what has piled up by heal.
const CATCH_UP: u32 = 4;
/// By so long after heal it has.
const CAUGHT_UP: Duration = Duration::from_secs(30);

/// A reset of the stream with this code.
fn reset(code: u32) -> BoxError {
    StreamReset(h2::Error::from(h2::Reason::from(code))).into()
}

/// The server has acted and its answer is lost.
#[derive(Debug, thiserror::Error)]
#[error("the gateway dropped the reply")]
struct ReplyDropped;

/// The gateway resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("the gateway reset the stream")]
struct StreamReset(#[source] h2::Error);
