//! A body that stops before its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::{self, BoxFuture, FutureExt};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::rules::Rule;
use super::{BoxError, Passage};

/// How long the server has to send what gets through before anything breaks: a reset overtakes what is not sent yet.
const FLUSH_TIME: Duration = Duration::from_millis(1);

/// What comes after the bytes that get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The connection closes (HTTP/1.1), or the stream is reset (HTTP/2).
    Break,
    /// Nothing, for ever. The connection stays open.
    Silence,
}

/// The body ended early on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the gateway cut the body")]
struct BodyCut;

/// Cuts a body that has more than so many bytes; a shorter one passes whole and counts as not hit.
pub(super) struct Cut {
    passage: Passage,
    rule: Arc<Rule>,
    then: Then,
    left: u64,
}

impl Cut {
    pub(super) fn new(passage: Passage, rule: Arc<Rule>, then: Then, bytes: u64) -> Self {
        Self { passage, rule, then, left: bytes }
    }

    pub(super) fn over(self, inner: Body) -> Body {
        Body::new(CutBody { inner, cut: self, state: State::Passing })
    }

    fn tell(&self) {
        let how = match self.then {
            Then::Break => "cut",
            Then::Silence => "stalled",
        };
        self.passage.tell(&self.rule, format_args!("body of the reply to {} {how}", self.passage.path()));
    }
}

struct CutBody {
    inner: Body,
    cut: Cut,
    state: State,
}

enum State {
    Passing,
    /// All that gets through has been handed over; what comes then comes when this ends.
    Flushing(BoxFuture<'static, ()>),
}

impl CutBody {
    /// Keeps of some data what still gets through.
    fn cut_in(&mut self, data: &mut Bytes) {
        if data.len() as u64 <= self.cut.left || self.cut.rule.is_lifted() {
            self.cut.left = self.cut.left.saturating_sub(data.len() as u64);
            return;
        }
        data.truncate(self.cut.left as usize);
        self.state = State::Flushing(match self.cut.then {
            Then::Break => self.cut.passage.post.clock.sleep(FLUSH_TIME),
            Then::Silence => future::pending().boxed(),
        });
        self.cut.tell();
    }
}

impl HttpBody for CutBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            if let State::Flushing(flushed) = &mut this.state {
                return flushed.poll_unpin(cx).map(|()| Some(Err(BodyCut.into())));
            }
            let Poll::Ready(read) = Pin::new(&mut this.inner).poll_frame(cx) else { return Poll::Pending };
            let data = match read {
                Some(Ok(frame)) => frame.into_data(),
                over => return Poll::Ready(over.map(|read| read.map_err(Into::into))),
            };
            let mut data = match data {
                Ok(data) => data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            this.cut_in(&mut data);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Passing) && self.inner.is_end_stream()
    }

    /// That of the whole: the head goes out as if nothing were wrong.
    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Passing => self.inner.size_hint(),
            State::Flushing(_) => SizeHint::new(),
        }
    }
}
