//! One exchange on an HTTP/1.1 connection, driven by whoever waits for it.
//!
//! A connection that serves one request at a time needs no task of its own: the caller polls it along with the answer,
//! and the answer's body carries it on. That halves the number of tasks an exchange wakes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use squall_protocol::hyper_errors::transport_error;
use squall_protocol::{Body, TransportError};

use super::pool::{Place, Pool};
use crate::kernel::lock;
use crate::net::Stream;

/// A connection and the way to send on it.
pub(super) struct H1 {
    sender: http1::SendRequest<Body>,
    driver: Driver,
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
        let (sender, driver) = http1::handshake(stream).await.map_err(|error| transport_error(&error))?;
        Ok(Self { sender, driver: Driver::Running(Box::pin(driver)) })
    }

    /// Is the idle connection still good? What the peer did meanwhile is noticed here.
    pub(super) fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop())).is_pending() && self.sender.is_ready()
    }

    /// Writes what was queued and reads what has come, until the connection ends; says how, as often as it is asked.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let ended = match &mut self.driver {
            Driver::Running(driver) => ready!(driver.as_mut().poll(cx)).map_err(|error| transport_error(&error)),
            Driver::Ended(ended) => return Poll::Ready(ended.clone()),
        };
        self.driver = Driver::Ended(ended.clone());
        Poll::Ready(ended)
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        mut self,
        request: Request<Body>,
        pool: &Weak<Mutex<Pool>>,
        place: &Place,
    ) -> Result<Response<Body>, Failed> {
        let response = {
            let mut answer = pin!(self.sender.try_send_request(request));
            poll_fn(|cx| {
                // The driver first: it writes what was queued and reads what has come.
                let driven = self.drive(cx);
                match answer.as_mut().poll(cx) {
                    Poll::Ready(done) => Poll::Ready(Ok(done)),
                    Poll::Pending => driven.map(|ended| Err(ended.err().unwrap_or(TransportError::ClosedEarly))),
                }
            })
            .await
        };
        match response {
            Ok(Ok(response)) => {
                let home = Home { pool: pool.clone(), place: place.clone() };
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

/// Where a connection goes back to when its answer has been read.
struct Home {
    pool: Weak<Mutex<Pool>>,
    place: Place,
}

/// A body that polls its connection. When it has been read to the end, the connection goes back to the pool; when it is
/// dropped before, the connection is closed.
struct Driven {
    incoming: Incoming,
    carried: Option<(H1, Home)>,
    /// Why the connection broke. What it had read before still comes first.
    broken: Option<TransportError>,
}

impl Driven {
    fn body(incoming: Incoming, connection: H1, home: Home) -> Body {
        let mut body = Self { incoming, carried: Some((connection, home)), broken: None };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body.boxed_unsync()
    }

    fn give_back(&mut self) {
        if let Some((connection, home)) = self.carried.take()
            && let Some(pool) = home.pool.upgrade()
        {
            lock(&pool).put(home.place, connection);
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
        if let Some((connection, _)) = &mut this.carried
            && let Poll::Ready(ended) = connection.drive(cx)
        {
            this.broken = ended.err();
            this.carried = None;
        }
        // Of the driver and the body's channel one may only know that the body ended early.
        let why = |told| match (told, &this.broken) {
            (TransportError::ClosedEarly, Some(better)) => better.clone(),
            (told, _) => told,
        };
        let frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(frame)) => Some(frame.map_err(|error| why(transport_error(&error)))),
            Poll::Ready(None) => None,
            Poll::Pending if this.carried.is_none() => Some(Err(why(TransportError::ClosedEarly))),
            Poll::Pending => return Poll::Pending,
        };
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
