//! The HTTP client of a process: connections are reused, and closed with the process.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use squall_protocol::hyper_errors::transport_error;
use squall_protocol::{Body, Http, TransportError};
use tower::util::BoxCloneSyncService;

use super::exchange::{Failed, H1};
use super::rt::ProcessExecutor;
use crate::kernel::{ProcessId, lock};
use crate::net::{Alpn, ConnectError};
use crate::node::Node;
use crate::trace::What;

/// A new client for a process.
pub(crate) fn http(node: &Node, process: ProcessId) -> Http {
    BoxCloneSyncService::new(Client { inner: Arc::new(Inner { node: node.clone(), process, pool: Arc::default() }) })
}

/// A server, and the protocol spoken with it.
pub(crate) type Place = (Authority, Alpn);

/// Connections that wait for their next request.
#[derive(Default)]
pub(crate) struct Pool {
    h1: BTreeMap<String, Vec<H1>>,
    h2: BTreeMap<String, http2::SendRequest<Body>>,
}

impl Pool {
    pub(crate) fn put(&mut self, place: Place, connection: H1) {
        self.h1.entry(place.0.to_string()).or_default().push(connection);
    }

    fn take(&mut self, place: &Place) -> Option<H1> {
        let idle = self.h1.get_mut(place.0.as_str())?;
        while let Some(mut connection) = idle.pop() {
            if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    fn shared(&mut self, place: &Place) -> Option<http2::SendRequest<Body>> {
        let sender = self.h2.get(place.0.as_str()).filter(|sender| !sender.is_closed())?;
        Some(sender.clone())
    }
}

#[derive(Clone)]
struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    node: Node,
    process: ProcessId,
    pool: Arc<Mutex<Pool>>,
}

impl tower::Service<Request<Body>> for Client {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        async move {
            let world = inner.node.world();
            world.inner.kernel.step();
            let mut told = Told::sent(&inner.node, &request);
            let answer = inner.send(request).await;
            told.ended(&answer);
            answer
        }
        .boxed()
    }
}

impl Inner {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let Some(authority) = request.uri().authority().cloned() else {
            return Err(TransportError::Protocol(format!("{} names no host", request.uri())));
        };
        match request.version() {
            Version::HTTP_2 => self.send_h2(request, (authority, Alpn::H2)).await,
            _ => self.send_h1(to_origin_form(request, &authority)?, (authority, Alpn::H1)).await,
        }
    }

    async fn send_h1(&self, mut request: Request<Body>, place: Place) -> Result<Response<Body>, TransportError> {
        loop {
            let idle = lock(&self.pool).take(&place);
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

    async fn send_h2(&self, request: Request<Body>, place: Place) -> Result<Response<Body>, TransportError> {
        let shared = lock(&self.pool).shared(&place);
        let mut sender = match shared {
            Some(sender) => sender,
            None => self.open_h2(&place).await?,
        };
        let response = sender.send_request(request).await.map_err(|error| transport_error(&error))?;
        Ok(response.map(|incoming| H2Body(incoming).boxed_unsync()))
    }

    async fn open_h2(&self, place: &Place) -> Result<http2::SendRequest<Body>, TransportError> {
        let stream = self.connect(place).await?;
        let kernel = self.node.world().inner.kernel.clone();
        let executor = ProcessExecutor { kernel: kernel.clone(), process: self.process };
        let (sender, driver) = http2::handshake(executor, stream).await.map_err(|error| transport_error(&error))?;
        kernel.spawn(self.process, "h2-connection", async move {
            // Every request on the connection learns of its end by itself.
            let _ = driver.await;
        });
        lock(&self.pool).h2.insert(place.0.to_string(), sender.clone());
        Ok(sender)
    }

    async fn connect(&self, place: &Place) -> Result<crate::net::Stream, TransportError> {
        let (host, port) = (place.0.host(), place.0.port_u16().unwrap_or(80));
        let connected = self.node.world().inner.net.connect(self.node.id(), host, port, place.1).await;
        connected.map_err(|error| match error {
            ConnectError::NoName => TransportError::Dns { host: host.to_owned() },
            ConnectError::Refused => TransportError::Refused,
            ConnectError::TimedOut => TransportError::TimedOut,
        })
    }
}

/// HTTP/1.1 names the path in the request line and the host in a header.
fn to_origin_form(mut request: Request<Body>, authority: &Authority) -> Result<Request<Body>, TransportError> {
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|error| TransportError::Protocol(error.to_string()))?;
        request.headers_mut().insert(HOST, host);
    }
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
struct H2Body(Incoming);

impl http_body::Body for H2Body {
    type Data = bytes::Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, TransportError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map(|frame| frame.map(|read| read.map_err(|error| transport_error(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}
