//! One exchange on an HTTP/1.1 connection, driven by whoever waits for it.
//!
//! A connection that serves one request at a time needs no task of its own: the caller polls it along with the answer,
//! and the answer's body carries it on. That halves the number of tasks an exchange wakes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use squall_protocol::hyper_errors::transport_error;
use squall_protocol::{Body, TransportError};

use super::client::Client;
use super::pool::ServerId;
use super::waits::Waiting;
use crate::net::{ConnectionKey, Net, Side, Stream};
use crate::one_thread::OneThread;

/// A connection and the way to send on it.
pub(super) struct H1 {
    sender: http1::SendRequest<Body>,
    driver: Driver,
    key: ConnectionKey,
    bell: Arc<Bell>,
    /// Rings the bell: what the driver is polled with.
    waker: Waker,
}

enum Driver {
    Running(Pin<Box<http1::Connection<Stream, Body>>>),
    /// The stream is closed. What was read before may still be on its way to the caller.
    Ended(Result<(), TransportError>),
}

/// An exchange failed; the request comes back if not a byte of it was sent.
pub(super) struct Failed {
    pub(super) error: TransportError,
    pub(super) unsent: Option<Request<Body>>,
}

impl H1 {
    /// Takes a new connection into use.
    pub(super) async fn open(stream: Stream) -> Result<Self, TransportError> {
        let key = stream.key();
        let (sender, driver) = http1::handshake(stream).await.map_err(|error| transport_error(&error))?;
        let bell = Arc::new(Bell::default());
        let waker = bell.clone().into();
        Ok(Self { sender, driver: Driver::Running(Box::pin(driver)), key, bell, waker })
    }

    /// Is the idle connection still good? What the peer did meanwhile is noticed here.
    pub(super) fn is_usable(&mut self, net: &Net) -> bool {
        if net.is_quiet(self.key, Side::Client) && self.sender.is_ready() {
            return true;
        }
        self.drive(&mut Context::from_waker(Waker::noop())).is_pending() && self.sender.is_ready()
    }

    /// Writes what was queued and reads what has come, until the connection ends; says how, as often as it is asked.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.bell.hold(cx.waker());
        let cx = &mut Context::from_waker(&self.waker);
        let ended = match &mut self.driver {
            Driver::Running(driver) => ready!(driver.as_mut().poll(cx)).map_err(|error| transport_error(&error)),
            Driver::Ended(ended) => return Poll::Ready(ended.clone()),
        };
        self.driver = Driver::Ended(ended.clone());
        Poll::Ready(ended)
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) fn exchange(
        mut self,
        request: Request<Body>,
        client: &Arc<Client>,
        server: ServerId,
    ) -> impl Future<Output = Result<Response<Body>, Failed>> {
        // Handed over here, so that the future does not carry the request.
        let answer = self.sender.try_send_request(request);
        self.answered(answer, client, server)
    }

    async fn answered(
        mut self,
        answer: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>,
        client: &Arc<Client>,
        server: ServerId,
    ) -> Result<Response<Body>, Failed> {
        let response = {
            let mut answer = pin!(answer);
            poll_fn(|cx| {
                // The driver first: it writes what was queued and reads what has come. The answer comes from it alone.
                let driven = self.drive(cx);
                match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(done) => Poll::Ready(Ok(done)),
                    Poll::Pending => {
                        self.bell.release();
                        driven.map(|ended| Err(ended.err().unwrap_or(TransportError::ClosedEarly)))
                    }
                }
            })
            .await
        };
        match response {
            Ok(Ok(response)) => {
                let home = Home { client: client.clone(), server };
                Ok(response.map(|incoming| Driven::body(incoming, self, home)))
            }
            Ok(Err(mut failed)) => {
                let unsent = failed.take_message();
                Err(Failed { error: transport_error(failed.error()), unsent })
            }
            Err(error) => Err(Failed { error, unsent: None }),
        }
    }
}

/// Wakes whoever drives a connection when something comes, and not for what they do to it themselves: hyper's halves of a
/// connection wake each other, and would send the caller round once more for nothing.
#[derive(Default)]
struct Bell {
    waiting: OneThread<Option<Waker>>,
    held: AtomicBool,
    rung: AtomicBool,
}

impl Bell {
    /// Somebody drives the connection and looks at everything; until they wait again, they need not be woken.
    fn hold(&self, waker: &Waker) {
        self.held.store(true, Ordering::Relaxed);
        self.rung.store(false, Ordering::Relaxed);
        let mut waiting = self.waiting.borrow_mut();
        match &mut *waiting {
            Some(known) => known.clone_from(waker),
            None => *waiting = Some(waker.clone()),
        }
    }

    /// They wait, and are woken at once if the connection has more to do.
    fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
        if self.rung.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    fn ring(&self) {
        if self.held.load(Ordering::Relaxed) {
            self.rung.store(true, Ordering::Relaxed);
        } else if let Some(waker) = &*self.waiting.borrow_mut() {
            waker.wake_by_ref();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// Where a connection goes back to when its answer has been read.
struct Home {
    client: Arc<Client>,
    server: ServerId,
}

/// A body that polls its connection. When it has been read to the end, the connection goes back to the pool; when it is
/// dropped before, the connection is closed.
struct Driven {
    incoming: Incoming,
    carried: Option<(H1, Home)>,
    /// Why the connection broke. What it had read before still comes first.
    broken: Option<TransportError>,
    waiting: Option<Waiting>,
}

impl Driven {
    fn body(incoming: Incoming, connection: H1, home: Home) -> Body {
        let mut body = Self { incoming, carried: Some((connection, home)), broken: None, waiting: None };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body.boxed_unsync()
    }

    fn give_back(&mut self) {
        if let Some((connection, home)) = self.carried.take() {
            let unwanted = home.client.pool.borrow_mut().put(home.server, connection);
            drop(unwanted);
        }
    }
}

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = &mut *self;
        let unwoken = &mut Context::from_waker(Waker::noop());
        let mut read = Pin::new(&mut this.incoming).poll_frame(unwoken);
        // Only now does the connection know that more is wanted.
        if !matches!(read, Poll::Ready(Some(Ok(_))))
            && let Some((connection, _)) = &mut this.carried
        {
            if let Poll::Ready(ended) = connection.drive(cx) {
                this.broken = ended.err();
                this.carried = None;
            }
            if read.is_pending() {
                read = Pin::new(&mut this.incoming).poll_frame(unwoken);
            }
        }
        // Of the driver and the body's channel one may only know that the body ended early.
        let why = |told| match (told, &this.broken) {
            (TransportError::ClosedEarly, Some(better)) => better.clone(),
            (told, _) => told,
        };
        let frame = match read {
            Poll::Ready(Some(frame)) => Some(frame.map_err(|error| why(transport_error(&error)))),
            Poll::Ready(None) => None,
            Poll::Pending => match &this.carried {
                Some((connection, home)) => {
                    connection.bell.release();
                    this.waiting.get_or_insert_with(|| Waiting::begin(&home.client, home.server));
                    return Poll::Pending;
                }
                None => Some(Err(why(TransportError::ClosedEarly))),
            },
        };
        this.waiting = None;
        if this.incoming.is_end_stream() || frame.is_none() {
            this.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
