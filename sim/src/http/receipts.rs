//! Receipts: facts that become true when an answer has arrived whole.
//!
//! On the wire a receipt is a header with a number, put in before the gateway, so that an answer that is replaced loses
//! it. The receiver's machine takes it out again and writes the facts when the body has been read to its end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use squall_protocol::{Body, Fact, Receipt, TransportError};

use crate::node::Node;
use crate::one_thread::OneThread;
use crate::world::World;

const HEADER: HeaderName = HeaderName::from_static("x-receipt");

/// The receipts that are under way.
#[derive(Default)]
pub(crate) struct Receipts(OneThread<Open>);

#[derive(Default)]
struct Open {
    last: u64,
    facts: BTreeMap<u64, Vec<Fact>>,
}

impl Receipts {
    fn open(&self, facts: Vec<Fact>) -> u64 {
        let mut open = self.0.borrow_mut();
        open.last += 1;
        let number = open.last;
        open.facts.insert(number, facts);
        number
    }

    fn take(&self, number: &HeaderValue) -> Option<Vec<Fact>> {
        let number = number.to_str().ok()?.parse().ok()?;
        self.0.borrow_mut().facts.remove(&number)
    }
}

/// An answer leaves its server: its receipt goes onto the wire.
pub(super) fn leaving<B>(mut response: Response<B>, world: &World) -> Response<B> {
    if let Some(Receipt(facts)) = response.extensions_mut().remove() {
        let number = world.inner.receipts.open(facts);
        response.headers_mut().insert(HEADER, number.into());
    }
    response
}

/// The head of an answer has arrived at a machine.
pub(super) fn arriving(mut response: Response<Body>, node: &Node) -> Response<Body> {
    let number = response.headers_mut().remove(HEADER);
    match number.and_then(|number| node.world().inner.receipts.take(&number)) {
        None => response,
        Some(facts) => response.map(|body| Receipted { body, facts, node: node.clone() }.boxed_unsync()),
    }
}

/// A body that tells the journal of its end.
struct Receipted {
    body: Body,
    facts: Vec<Fact>,
    node: Node,
}

impl http_body::Body for Receipted {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let whole = match &frame {
            Some(Ok(_)) => this.body.is_end_stream(),
            Some(Err(_)) => false,
            None => true,
        };
        if whole {
            for fact in std::mem::take(&mut this.facts) {
                this.node.world().inner.journal.record(this.node.id(), fact);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
