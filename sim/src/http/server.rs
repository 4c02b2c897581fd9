//! Serving: a tower service, such as an axum `Router`, behind a port of a node.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use http::header::{DATE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use squall_protocol::Clock;
use tower::util::Oneshot;
use tower::{Layer, Service, ServiceExt};

use super::receipts;
use super::rt::ProcessExecutor;
use crate::gateway::{BoxError, ConnectionControl, Gateway, Passing};
use crate::net::{Alpn, Stream};
use crate::one_thread::OneThread;
use crate::process::Process;

/// Serves `service` on a port of the process's machine, for as long as the process runs, behind the machine's gateway.
/// Answers are dated by the machine's clock.
///
/// # Errors
/// [`std::io::ErrorKind::AddrInUse`].
pub async fn serve<S>(process: Process, port: u16, service: S) -> std::io::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
{
    let mut listener = process.listen(port)?;
    let calendar = Arc::new(Calendar { clock: process.clock(), latest: OneThread::default() });
    let world = process.node().world().clone();
    let dated = service.map_response(move |response| receipts::leaving(calendar.date(response), &world));
    let carrier = process.clone();
    let gateway = process.node().gateway().carried_by(move |request| carrier.spawn("late request", request));
    loop {
        let stream = listener.accept().await;
        let control = ConnectionControl::new(process.node().world().node_name(stream.peer()));
        let service = gateway.on_connection(control.clone()).layer(dated.clone());
        process.spawn("connection", serve_connection(process.clone(), stream, Guarded(service), control));
    }
}

/// Writes Date headers. Most answers fall into the same second as the one before.
struct Calendar {
    clock: Arc<dyn Clock>,
    latest: OneThread<Option<(i64, HeaderValue)>>,
}

impl Calendar {
    fn date(&self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().entry(DATE).or_insert_with(|| self.now());
        response
    }

    fn now(&self) -> HeaderValue {
        let now = self.clock.wall();
        let mut latest = self.latest.borrow_mut();
        match &*latest {
            Some((second, date)) if *second == now.as_second() => date.clone(),
            _ => {
                let date = httpdate::fmt_http_date(SystemTime::from(now));
                let date = HeaderValue::try_from(date).expect("a date is plain text");
                *latest = Some((now.as_second(), date.clone()));
                date
            }
        }
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2 as its ends agreed.
async fn serve_connection<S>(process: Process, stream: Stream, service: Guarded<S>, control: ConnectionControl)
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
{
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

/// A server behind its gateway as hyper wants it.
struct Guarded<S>(Gateway<S>);

impl<S> hyper::service::Service<Request<Incoming>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Passing<Oneshot<S, Request<Body>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.0.pass(request.map(Body::new))
    }
}
