//! Serving: a tower service, such as an axum `Router`, behind a port of a node.

use std::pin::pin;

use axum::body::Body;
use futures_util::TryFutureExt;
use futures_util::future::MapErr;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

use super::rt::ProcessExecutor;
use crate::net::{Alpn, Stream};
use crate::process::Process;

/// An error of any kind. One that a service returns ends the connection (HTTP/1.1) or resets the stream (HTTP/2, with
/// the code of an [`h2::Error`] if one is among its causes).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves `service` on a port of the process's machine, for as long as the process runs.
///
/// # Errors
/// [`std::io::ErrorKind::AddrInUse`].
pub async fn serve<S>(process: Process, port: u16, service: S) -> std::io::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let mut listener = process.listen(port)?;
    loop {
        let stream = listener.accept().await;
        process.spawn("connection", serve_connection(process.clone(), stream, service.clone()));
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2 as its ends agreed.
pub async fn serve_connection<S>(process: Process, stream: Stream, service: S)
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let service = OneShot(service);
    // hyper's own Date header comes from a cache of the thread, which outlives the world.
    let ended: Result<(), hyper::Error> = match stream.alpn() {
        Alpn::H1 => pin!(http1::Builder::new().auto_date_header(false).serve_connection(stream, service)).await,
        Alpn::H2 => {
            let executor =
                ProcessExecutor { kernel: process.node().world().inner.kernel.clone(), process: process.id() };
            pin!(http2::Builder::new(executor).auto_date_header(false).serve_connection(stream, service)).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// A tower service as hyper wants it: a fresh clone for each request.
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
