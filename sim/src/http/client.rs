//! The HTTP client of a process: connections are reused, and closed with the process.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use squall_protocol::hyper_errors::transport_error;
use squall_protocol::{Body, Http, TransportError};
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use super::exchange::{Failed, H1};
use super::pool::{Found, H2, Opening, Place, Pool};
use super::rt::ProcessExecutor;
use crate::kernel::{Kernel, ProcessId, lock};
use crate::net::{Alpn, ConnectError, Stream};
use crate::node::Node;
use crate::trace::What;

/// A new client for a process, whose connections end with it.
pub(crate) fn http(node: &Node, process: ProcessId) -> Http {
    let pool = Arc::new(Mutex::new(Pool::default()));
    let inner = Inner { node: node.clone(), process, pool: Arc::downgrade(&pool) };
    node.world().inner.kernel.entrust(process, pool);
    let inner = Arc::new(inner);
    BoxCloneSyncService::new(service_fn(move |request| {
        let inner = inner.clone();
        async move {
            inner.node.world().inner.kernel.step();
            let mut told = Told::sent(&inner.node, &request);
            let answer = inner.send(request).await;
            told.ended(&answer);
            answer
        }
    }))
}

struct Inner {
    node: Node,
    process: ProcessId,
    pool: Weak<Mutex<Pool>>,
}

impl Inner {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let Some(authority) = request.uri().authority().cloned() else {
            return Err(TransportError::Protocol(format!("{} names no host", request.uri())));
        };
        match request.version() {
            // Boxed, so that the far more common requests over HTTP/1.1 do not carry its size.
            Version::HTTP_2 => Box::pin(self.send_h2(request, (authority, Alpn::H2))).await,
            _ => self.send_h1(to_origin_form(request, &authority)?, (authority, Alpn::H1)).await,
        }
    }

    async fn send_h1(&self, mut request: Request<Body>, place: Place) -> Result<Response<Body>, TransportError> {
        loop {
            let idle = self.idle(&place);
            let reused = idle.is_some();
            let connection = match idle {
                Some(connection) => connection,
                None => H1::open(self.connect(&place).await?).await?,
            };
            match connection.exchange(request, &self.pool, &place).await {
                Ok(response) => return Ok(response),
                // An idle connection turned out closed before anything was written: nobody saw the request.
                Err(Failed { unsent: Some(unsent), .. }) if reused => request = unsent,
                Err(Failed { error, .. }) => return Err(error),
            }
        }
    }

    /// An idle connection that is still good.
    fn idle(&self, place: &Place) -> Option<H1> {
        let pool = self.pool.upgrade()?;
        loop {
            // Outside the lock: a connection that is looked at may still send a body that comes from another one.
            let mut connection = lock(&pool).take(place)?;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    async fn send_h2(&self, mut request: Request<Body>, place: Place) -> Result<Response<Body>, TransportError> {
        loop {
            let found = self.pool.upgrade().and_then(|pool| lock(&pool).shared(&place));
            let reused = found.is_some();
            let H2 { mut sender, connection } = match found {
                Some(Found::Open(h2)) => h2,
                Some(Found::Opening(opening)) => self.opened(&place, opening).await?,
                None => self.opened(&place, self.open_h2(&place)).await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let kernel = self.node.world().inner.kernel.clone();
                    return Ok(response.map(|incoming| H2Body { incoming, kernel }.boxed_unsync()));
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => {
                        if let Some(pool) = self.pool.upgrade() {
                            lock(&pool).forget(&place, connection);
                        }
                        request = unsent;
                    }
                    _ => return Err(transport_error(failed.error())),
                },
            }
        }
    }

    /// Opens a connection that all who need one at the same time wait for and share.
    fn open_h2(&self, place: &Place) -> Opening {
        let (node, process, of) = (self.node.clone(), self.process, place.clone());
        let opening = async move {
            let stream = connect(&node, &of).await?;
            let connection = stream.connection();
            let kernel = &node.world().inner.kernel;
            let executor = ProcessExecutor { kernel: kernel.clone(), process };
            let (sender, driver) = http2::handshake(executor, stream).await.map_err(|error| transport_error(&error))?;
            kernel.spawn(process, "h2-connection", async move {
                // Every request on the connection learns of its end by itself.
                let _ = driver.await;
            });
            Ok(H2 { sender, connection })
        };
        let opening = opening.boxed().shared();
        if let Some(pool) = self.pool.upgrade() {
            lock(&pool).opening(place, &opening);
        }
        opening
    }

    async fn opened(&self, place: &Place, opening: Opening) -> Result<H2, TransportError> {
        let h2 = opening.await?;
        if let Some(pool) = self.pool.upgrade() {
            lock(&pool).opened(place, &h2);
        }
        Ok(h2)
    }

    async fn connect(&self, place: &Place) -> Result<Stream, TransportError> {
        connect(&self.node, place).await
    }
}

async fn connect(node: &Node, place: &Place) -> Result<Stream, TransportError> {
    let (host, port) = (place.0.host(), place.0.port_u16().unwrap_or(80));
    let connected = node.world().inner.net.connect(node.id(), host, port, place.1).await;
    connected.map_err(|error| match error {
        ConnectError::NoName => TransportError::Dns { host: host.to_owned() },
        ConnectError::Refused => TransportError::Refused,
        ConnectError::TimedOut => TransportError::TimedOut,
    })
}

/// HTTP/1.1 names the path in the request line and the host in a header.
fn to_origin_form(mut request: Request<Body>, authority: &Authority) -> Result<Request<Body>, TransportError> {
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|error| TransportError::Protocol(error.to_string()))?;
        request.headers_mut().insert(HOST, host);
    }
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(request)
}

/// Tells the trace of one request, to its end.
struct Told {
    node: Node,
    id: u64,
    open: bool,
}

impl Told {
    fn sent(node: &Node, request: &Request<Body>) -> Self {
        let id = node.world().next_request(node.id());
        let told = Self { node: node.clone(), id, open: true };
        told.note(|id| What::RequestSent {
            id,
            to: request.uri().authority().map(ToString::to_string).unwrap_or_default(),
            method: request.method().to_string(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        });
        told
    }

    fn ended(&mut self, answer: &Result<Response<Body>, TransportError>) {
        self.open = false;
        match answer {
            Ok(response) => {
                self.node.world().count_exchange();
                self.note(|id| What::Answered { id, status: response.status().as_u16() });
            }
            Err(error) => self.note(|id| What::RequestFailed { id, error: error.to_string() }),
        }
    }

    fn note(&self, what: impl FnOnce(u64) -> What) {
        let world = self.node.world();
        world.inner.trace.note(world.now(), self.node.id(), || what(self.id));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if self.open {
            self.note(|id| What::RequestDropped { id });
        }
    }
}

/// A body of an HTTP/2 answer; its errors are the transport's.
struct H2Body {
    incoming: Incoming,
    kernel: Arc<Kernel>,
}

impl http_body::Body for H2Body {
    type Data = bytes::Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, TransportError>>> {
        // It tells its error as often as it is asked.
        self.kernel.step();
        let read = Pin::new(&mut self.incoming).poll_frame(cx);
        read.map(|frame| frame.map(|read| read.map_err(|error| transport_error(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
