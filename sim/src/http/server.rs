//! Serving: a tower service, such as an axum `Router`, behind a port of a node.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::SystemTime;

use axum::body::Body;
use futures_util::TryFutureExt;
use futures_util::future::MapErr;
use http::header::{DATE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use squall_protocol::Clock;
use tower::util::Oneshot;
use tower::{Layer, Service, ServiceExt};

use super::rt::ProcessExecutor;
use crate::gateway::{BoxError, ConnectionControl};
use crate::net::{Alpn, Stream};
use crate::process::Process;

/// Serves `service` on a port of the process's machine, for as long as the process runs, behind the machine's gateway.
/// Answers are dated by the machine's clock.
///
/// # Errors
/// [`std::io::ErrorKind::AddrInUse`].
pub async fn serve<S>(process: Process, port: u16, service: S) -> std::io::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    let mut listener = process.listen(port)?;
    let clock = process.clock();
    let dated = service.map_response(move |response| with_date(response, &*clock));
    let service = process.node().gateway().layer(dated);
    loop {
        let stream = listener.accept().await;
        process.spawn("connection", serve_connection(process.clone(), stream, service.clone()));
    }
}

fn with_date(mut response: Response<Body>, clock: &dyn Clock) -> Response<Body> {
    response.headers_mut().entry(DATE).or_insert_with(|| {
        let date = httpdate::fmt_http_date(SystemTime::from(clock.wall()));
        HeaderValue::try_from(date).expect("a date is plain text")
    });
    response
}

/// Serves one connection, HTTP/1.1 or HTTP/2 as its ends agreed.
pub async fn serve_connection<S>(process: Process, stream: Stream, service: S)
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    let control = ConnectionControl::new(process.node().world().node_name(stream.peer()));
    let service = OneShot { service, control: control.clone() };
    // hyper's own Date header comes from a cache of the thread, which outlives the world.
    let ended: Result<(), hyper::Error> = match stream.alpn() {
        Alpn::H1 => pin!(http1::Builder::new().auto_date_header(false).serve_connection(stream, service)).await,
        Alpn::H2 => {
            let executor =
                ProcessExecutor { kernel: process.node().world().inner.kernel.clone(), process: process.id() };
            let mut builder = http2::Builder::new(executor);
            let mut connection = pin!(builder.auto_date_header(false).serve_connection(stream, service));
            let mut ending = false;
            poll_fn(|cx| {
                if !ending && control.poll_winding_down(cx) {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                connection.as_mut().poll(cx)
            })
            .await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// A tower service as hyper wants it: a fresh clone for each request.
struct OneShot<S> {
    service: S,
    control: ConnectionControl,
}

impl<S> hyper::service::Service<Request<Incoming>> for OneShot<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = MapErr<Oneshot<S, Request<Body>>, fn(S::Error) -> BoxError>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.control.clone());
        self.service.clone().oneshot(request.map(Body::new)).map_err(Into::into)
    }
}
