//! The seams of the agent code over simulators that are not ours.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Uri};
use http_body_util::BodyExt;
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use squall_protocol::hyper_errors::transport_error;
use squall_protocol::{Body, Clock, Http, Mono, TransportError};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::service_fn;
use tower::util::BoxCloneSyncService;

/// An HTTP/1.1 client with a pool, over what `connect` opens.
pub fn pooled<E, C, F, S>(executor: E, connect: C) -> Http
where
    E: Executor<Pin<Box<dyn Future<Output = ()> + Send>>> + Clone + Send + Sync + 'static,
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: Read + Write + Unpin + Send + 'static,
{
    let connector = service_fn(move |_: Uri| connect().map(|opened| opened.map(Socket)).boxed());
    let client: Client<_, Body> = Client::builder(executor).pool_idle_timeout(None).build(connector);
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let answered = client.request(request);
        async move {
            let response = answered.await.map_err(|error| TransportError::Protocol(error.to_string()))?;
            Ok(response.map(|incoming| incoming.map_err(|error| transport_error(&error)).boxed_unsync()))
        }
    }))
}

/// A clock that sleeps as it is told.
pub struct SleepClock<S>(pub fn(Duration) -> S);

impl<S: Future<Output = ()> + Send + 'static> Clock for SleepClock<S> {
    #[expect(clippy::disallowed_methods, reason = "the simulator's own affair")]
    fn wall(&self) -> Timestamp {
        Timestamp::try_from(SystemTime::now()).expect("a time of our age")
    }

    #[expect(clippy::disallowed_methods, reason = "the simulator's own affair")]
    fn mono(&self) -> Mono {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Mono::from_start(START.get_or_init(Instant::now).elapsed())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        (self.0)(duration).boxed()
    }
}

struct Socket<S>(S);

impl<S> Connection for Socket<S> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl<S: Read + Unpin> Read for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: Write + Unpin> Write for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// madsim's stream as hyper wants it. It passes a flush on only after a write: an empty one is a message of its own.
pub struct FewFlushes<S> {
    stream: TokioIo<S>,
    written: bool,
}

impl<S> FewFlushes<S> {
    /// Over a stream to which nothing was written yet.
    pub fn new(stream: S) -> Self {
        Self { stream: TokioIo::new(stream), written: false }
    }
}

impl<S: AsyncRead + Unpin> Read for FewFlushes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> Write for FewFlushes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.written = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
