//! A server on a real port.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use futures_util::TryFutureExt;
use futures_util::future::{self, Either, MapErr};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

use super::client::without_delay;
use crate::supervise::Shutdown;

/// An error of any kind. One that a service returns ends the connection (HTTP/1.1) or resets the stream (HTTP/2, with
/// the code of an `h2::Error` if one is among its causes).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long to wait before the next connection is accepted when the machine has no more file descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Serves a tower service, such as an axum `Router`, with HTTP/1.1 and HTTP/2 on one port.
///
/// Once asked to stop it accepts nothing more, closes idle connections, and ends when the last request has been
/// answered. How long to wait for that is the caller's business.
pub async fn serve<S>(listener: TcpListener, service: S, shutdown: Shutdown)
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    let graceful = GracefulShutdown::new();
    let mut asked = pin!(shutdown.requested());
    loop {
        let accepted = match future::select(asked.as_mut(), pin!(listener.accept())).await {
            Either::Left(_) => break,
            Either::Right((accepted, _)) => accepted,
        };
        match accepted.and_then(|(stream, _)| without_delay(stream)) {
            Ok(stream) => {
                let connection = auto::Builder::new(TokioExecutor::new());
                let connection = connection.serve_connection(TokioIo::new(stream), OneShot(service.clone()));
                spawn(graceful.watch(connection.into_owned()));
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

#[expect(clippy::disallowed_methods, reason = "a real server runs each connection as a task of the real runtime")]
fn spawn(connection: impl Future<Output = Result<(), BoxError>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a real server waits in real time")]
async fn pause_after(error: &io::Error) {
    match error.kind() {
        // The peer was gone before it was accepted.
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput => {}
        _ => {
            tracing::warn!(%error, "no connection accepted");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

/// A tower service as hyper wants it: a fresh clone for each request.
#[derive(Clone)]
struct OneShot<S>(S);

impl<S> hyper::service::Service<Request<Incoming>> for OneShot<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = MapErr<Oneshot<S, Request<Body>>, fn(S::Error) -> BoxError>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.clone().oneshot(request.map(Body::new)).map_err(Into::into)
    }
}
