//! Requests that reach the server late, and without a caller who has gone meanwhile.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_channel::oneshot::{self, Sender};
use futures_util::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};

use super::rules::Rule;
use super::{BoxError, Passage};
use crate::fault::FaultKind;

/// Carries a request on whose caller may be gone, in the server's process: it ends with that at the latest.
pub(super) type Carrier = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

type Answer = Result<Response<Body>, BoxError>;

/// The server ended before it had answered.
#[derive(Debug, thiserror::Error)]
#[error("the gateway lost the request")]
struct RequestLost;

impl Passage {
    /// Takes a request in whole, waits as these rules say, asks the server then, and hands the answer to the caller if he
    /// is still there.
    pub(super) async fn comes_late<S>(&self, request: Request<Body>, server: S, hits: Vec<Arc<Rule>>) -> Answer
    where
        S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send> + Send + 'static,
    {
        let (head, body) = request.into_parts();
        // Of a caller who goes before he has said everything the server never hears.
        let request = Request::from_parts(head, Body::new(body.collect().await?));
        let (caller, answer) = oneshot::channel();
        let carried = self.clone().carry(request, server, hits, caller);
        match &self.post.carrier {
            Some(carrier) => carrier(carried.boxed()),
            None => carried.await,
        }
        answer.await.unwrap_or_else(|_| Err(RequestLost.into()))
    }

    async fn carry<S>(self, request: Request<Body>, server: S, hits: Vec<Arc<Rule>>, caller: Sender<Answer>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>>,
    {
        for rule in hits {
            let FaultKind::Late { by_ms, .. } = rule.kind() else { continue };
            // What comes before may have taken until this fault was over.
            if rule.is_lifted() {
                continue;
            }
            self.tell(&rule, format_args!("request to {} held back for {by_ms} ms", self.path()));
            self.hold_back(Duration::from_millis(*by_ms)).await;
            if caller.is_canceled() {
                self.note(&rule, format_args!("request to {} goes on without its caller", self.path()));
            }
        }
        let answer = server.oneshot(request).await.map_err(Into::into);
        // Nobody may be there any more.
        let _ = caller.send(answer);
    }
}
