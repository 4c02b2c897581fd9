//! The HTTP client of a process: connections are reused, and closed with the process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use squall_protocol::hyper_errors::transport_error;
use squall_protocol::{Body, Fact, Http, TransportError, retry};
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use super::exchange::{Failed, H1};
use super::pool::{Found, H2, Opening, Pool, ServerId};
use super::receipts;
use super::repeats::{self, Again, Failed as FailedCall, Failures};
use super::rt::ProcessExecutor;
use super::waits::Waiting;
use crate::kernel::{Kernel, ProcessId};
use crate::net::{Alpn, ConnectError, Stream};
use crate::node::Node;
use crate::one_thread::OneThread;
use crate::trace::What;

/// A new client for a process, whose connections end with it.
pub(crate) fn http(node: &Node, process: ProcessId) -> Http {
    let (pool, failures) = (OneThread::default(), Failures::default());
    let client = Arc::new(Client { node: node.clone(), process, pool, failures });
    node.world().inner.kernel.entrust(process, ClosedAtLast(client.clone()));
    BoxCloneSyncService::new(service_fn(move |request| client.clone().send(request)))
}

/// The client of one process.
pub(super) struct Client {
    pub(super) node: Node,
    process: ProcessId,
    pub(super) pool: OneThread<Pool>,
    failures: Failures,
}

/// Closes a client's connections when its process ends.
struct ClosedAtLast(Arc<Client>);

impl Drop for ClosedAtLast {
    fn drop(&mut self) {
        // Dropped when the pool is free again: a connection may hold a body that comes from another one.
        let closed = self.0.pool.borrow_mut().close();
        drop(closed);
    }
}

impl Client {
    fn kernel(&self) -> &Arc<Kernel> {
        &self.node.world().inner.kernel
    }

    async fn send(self: Arc<Self>, mut request: Request<Body>) -> Result<Response<Body>, TransportError> {
        self.kernel().step();
        let mut told = Told::sent(&self, &request);
        let Some(authority) = request.uri().authority() else {
            let error = Err(TransportError::Protocol(format!("{} names no host", request.uri())));
            told.ended(&error);
            return error;
        };
        let server = self.pool.borrow_mut().server(authority);
        let waiting = Waiting::begin(&self, server);
        // What is rare is boxed, so that the others do not carry its size: fleets have thousands of them under way.
        let answer = match request.version() {
            Version::HTTP_2 => Box::pin(self.send_h2(request, server)).await,
            _ => {
                self.to_origin_form(&mut request, server);
                match self.idle(server) {
                    Some(idle) => match idle.exchange(request, &self, server).await {
                        // It turned out closed before anything was written: nobody saw the request.
                        Err(Failed { unsent: Some(unsent), .. }) => Box::pin(self.send_h1(unsent, server)).await,
                        done => done.map_err(|failed| failed.error),
                    },
                    None => Box::pin(self.send_h1(request, server)).await,
                }
            }
        };
        drop(waiting);
        told.ended(&answer);
        answer.map(|response| receipts::arriving(response, &self.node))
    }

    /// Sends on any connection that is left, or else on a new one.
    async fn send_h1(
        self: &Arc<Self>,
        mut request: Request<Body>,
        server: ServerId,
    ) -> Result<Response<Body>, TransportError> {
        while let Some(idle) = self.idle(server) {
            match idle.exchange(request, self, server).await {
                Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
                done => return done.map_err(|failed| failed.error),
            }
        }
        let fresh = H1::open(self.connect(server, Alpn::H1).await?).await?;
        fresh.exchange(request, self, server).await.map_err(|failed| failed.error)
    }

    /// HTTP/1.1 names the path in the request line and the host in a header.
    fn to_origin_form(&self, request: &mut Request<Body>, server: ServerId) {
        let host = || self.pool.borrow_mut().host(server).clone();
        request.headers_mut().entry(HOST).or_insert_with(host);
        *request.version_mut() = Version::HTTP_11;
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }

    /// An idle connection that is still good.
    fn idle(&self, server: ServerId) -> Option<H1> {
        let net = &self.node.world().inner.net;
        loop {
            // Not while the pool is borrowed: a connection that is looked at may still send a body that comes from
            // another one.
            let mut connection = self.pool.borrow_mut().take(server)?;
            if connection.is_usable(net) {
                return Some(connection);
            }
        }
    }

    async fn send_h2(
        self: &Arc<Self>,
        mut request: Request<Body>,
        server: ServerId,
    ) -> Result<Response<Body>, TransportError> {
        loop {
            let found = self.pool.borrow_mut().shared(server);
            let reused = found.is_some();
            let H2 { mut sender, connection } = match found {
                Some(Found::Open(h2)) => h2,
                Some(Found::Opening(opening)) => self.opened(server, opening).await?,
                None => self.opened(server, self.open_h2(server)).await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let client = self.clone();
                    return Ok(
                        response.map(|incoming| H2Body { incoming, client, server, waiting: None }.boxed_unsync())
                    );
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => {
                        self.pool.borrow_mut().forget(server, connection);
                        request = unsent;
                    }
                    _ => return Err(transport_error(failed.error())),
                },
            }
        }
    }

    /// Opens a connection that all who need one at the same time wait for and share.
    fn open_h2(self: &Arc<Self>, server: ServerId) -> Opening {
        let client = self.clone();
        let opening = async move {
            let stream = client.connect(server, Alpn::H2).await?;
            let connection = stream.connection();
            let (kernel, process) = (client.kernel(), client.process);
            let executor = ProcessExecutor { kernel: kernel.clone(), process };
            let (sender, driver) = http2::handshake(executor, stream).await.map_err(|error| transport_error(&error))?;
            kernel.spawn(process, "h2-connection", async move {
                // Every request on the connection learns of its end by itself.
                let _ = driver.await;
            });
            Ok(H2 { sender, connection })
        };
        let opening = opening.boxed().shared();
        self.pool.borrow_mut().opening(server, &opening);
        opening
    }

    async fn opened(&self, server: ServerId, opening: Opening) -> Result<H2, TransportError> {
        let h2 = opening.await?;
        self.pool.borrow_mut().opened(server, &h2);
        Ok(h2)
    }

    async fn connect(&self, server: ServerId, alpn: Alpn) -> Result<Stream, TransportError> {
        let authority: Authority = self.pool.borrow_mut().authority(server).clone();
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(80));
        let connected = self.node.world().inner.net.connect(self.node.id(), host, port, alpn).await;
        connected.map_err(|error| match error {
            ConnectError::NoName => TransportError::Dns { host: host.to_owned() },
            ConnectError::Refused => TransportError::Refused,
            ConnectError::TimedOut => TransportError::TimedOut,
        })
    }
}

/// Tells the trace of one request, to its end, and the journal of what came of it.
struct Told<'a> {
    client: &'a Client,
    id: u64,
    method: Method,
    uri: Uri,
    open: bool,
}

impl<'a> Told<'a> {
    fn sent(client: &'a Client, request: &Request<Body>) -> Self {
        let id = client.node.world().next_request(&client.node);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        if let Some(Again { call, failed, idle }) = client.failures.again(&method, &uri) {
            let after_ns = client.node.world().now().since(failed.at).as_nanos() as u64;
            let (name, told) = (client.node.name().into(), failed.told);
            let fact = Fact::CallRepeated { client: name, call, after_ns, told, idle };
            client.node.ledger().record(fact);
        }
        let told = Self { client, id, method, uri, open: true };
        told.note(|id| What::RequestSent {
            id,
            to: told.uri.authority().map(ToString::to_string).unwrap_or_default(),
            method: told.method.to_string(),
            path: told.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        });
        told
    }

    fn ended(&mut self, answer: &Result<Response<Body>, TransportError>) {
        self.open = false;
        self.client.failures.ended();
        let node = &self.client.node;
        match answer {
            Ok(response) => {
                node.world().count_exchange();
                if response.status() == StatusCode::UNAUTHORIZED {
                    node.world().was_refused(node.id());
                }
                self.note(|id| What::Answered { id, status: response.status().as_u16() });
                if retry::asks_for_later(response.status()) {
                    let told = repeats::told(response.headers());
                    if let Some(seconds) = told {
                        let server = self.uri.host().unwrap_or_default();
                        node.world().was_told_to_wait(node, server, seconds);
                    }
                    self.failed(told);
                }
            }
            Err(error) => {
                self.note(|id| What::RequestFailed { id, error: error.to_string() });
                self.failed(None);
            }
        }
    }

    fn failed(&self, told: Option<u64>) {
        let at = self.client.node.world().now();
        self.client.failures.add(&self.method, &self.uri, FailedCall { at, told });
    }

    fn note(&self, what: impl FnOnce(u64) -> What) {
        let node = &self.client.node;
        let world = node.world();
        world.inner.trace.note(world.now(), node.id(), || what(self.id));
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if self.open {
            self.note(|id| What::RequestDropped { id });
            self.client.failures.ended();
            self.failed(None);
        }
    }
}

/// A body of an HTTP/2 answer; its errors are the transport's.
struct H2Body {
    incoming: Incoming,
    client: Arc<Client>,
    server: ServerId,
    waiting: Option<Waiting>,
}

impl http_body::Body for H2Body {
    type Data = bytes::Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, TransportError>>> {
        // It tells its error as often as it is asked.
        self.client.kernel().step();
        let this = &mut *self;
        let read = Pin::new(&mut this.incoming).poll_frame(cx);
        match read {
            Poll::Pending => drop(this.waiting.get_or_insert_with(|| Waiting::begin(&this.client, this.server))),
            Poll::Ready(_) => this.waiting = None,
        }
        read.map(|frame| frame.map(|read| read.map_err(|error| transport_error(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
