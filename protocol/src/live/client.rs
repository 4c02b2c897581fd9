//! HTTP over TCP.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::uri::Scheme;
use http::{Request, Response, Uri, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, lookup_host};
use tower::util::BoxCloneSyncService;

use crate::http::{Body, Http, TransportError};
use crate::hyper_errors::{cause, of_io, transport_error};

/// An HTTP client over TCP, `http` only. Its clones share their connections: HTTP/1.1 ones are used again, of an HTTP/2
/// one (by prior knowledge) there is one to each server.
///
/// As the seam says, there is no time-out and no retry in it; only a request of which nothing was written, because an
/// idle connection turned out closed, goes out on another one.
pub fn http() -> Http {
    let builder = Client::builder(TokioExecutor::new()).pool_idle_timeout(None).to_owned();
    let h1 = builder.clone().build(Connector);
    let h2 = builder.clone().http2_only(true).build(Connector);
    BoxCloneSyncService::new(LiveHttp { h1, h2 })
}

#[derive(Clone)]
struct LiveHttp {
    h1: Client<Connector, Body>,
    h2: Client<Connector, Body>,
}

impl tower::Service<Request<Body>> for LiveHttp {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.uri().authority().is_none() {
            let error = TransportError::Protocol(format!("{} names no host", request.uri()));
            return async move { Err(error) }.boxed();
        }
        let sent = match request.version() {
            Version::HTTP_2 => self.h2.request(request),
            _ => {
                *request.version_mut() = Version::HTTP_11;
                self.h1.request(request)
            }
        };
        async move {
            match sent.await {
                Ok(response) => Ok(response.map(|incoming| LiveBody(incoming).boxed_unsync())),
                Err(error) => Err(of_client(&error)),
            }
        }
        .boxed()
    }
}

fn of_client(error: &ClientError) -> TransportError {
    if let Some(own) = cause::<TransportError>(error) {
        return own.clone();
    }
    match cause::<hyper::Error>(error) {
        Some(error) => transport_error(error),
        None => TransportError::Protocol(error.to_string()),
    }
}

/// The body of an answer; its errors are the transport's.
struct LiveBody(Incoming);

impl http_body::Body for LiveBody {
    type Data = bytes::Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, TransportError>>> {
        let read = Pin::new(&mut self.0).poll_frame(cx);
        read.map(|frame| frame.map(|read| read.map_err(|error| transport_error(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Connects to the host that a URI names, with errors that tell a missing name from a refusing host.
#[derive(Clone, Copy)]
struct Connector;

impl tower::Service<Uri> for Connector {
    type Response = Socket;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Socket, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        async move { Ok(connect(&uri).await?) }.boxed()
    }
}

async fn connect(uri: &Uri) -> Result<Socket, TransportError> {
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
        return Err(TransportError::Protocol(format!("{uri} asks for something else than http")));
    }
    let named = uri.host().unwrap_or_default();
    let host = named.trim_start_matches('[').trim_end_matches(']');
    let no_name = || TransportError::Dns { host: named.to_owned() };
    let mut failed = no_name();
    for address in lookup_host((host, uri.port_u16().unwrap_or(80))).await.map_err(|_| no_name())? {
        match TcpStream::connect(address).await.and_then(without_delay) {
            Ok(stream) => return Ok(Socket(TokioIo::new(stream))),
            Err(error) => failed = of_io(error.kind()),
        }
    }
    Err(failed)
}

/// Small writes go out at once, as they do in the simulation.
pub(super) fn without_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Socket(TokioIo<TcpStream>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
