//! The body of an answer that is sent at a certain rate, and cut off when its time is up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

use super::content::Content;
use crate::clock::{Clock, Mono};
use crate::facts::{Artifact, Fact, Ledger};
use crate::flox::wire::ResetCode;

/// The answer took longer than the server gives it.
///
/// It ends an HTTP/1.1 connection and resets an HTTP/2 stream, with INTERNAL_ERROR unless another code is wanted, as Go's
/// server does (golang/net `http2/server.go`, `onWriteTimeout`).
#[derive(Debug, thiserror::Error)]
#[error("the server's write time-out is over")]
pub struct WriteTimeout {
    /// Where hyper looks for the code; without one it takes INTERNAL_ERROR.
    #[cfg(feature = "hyper")]
    #[source]
    code: Option<h2::Error>,
}

impl WriteTimeout {
    #[cfg(feature = "hyper")]
    fn resetting_by(code: ResetCode) -> Self {
        Self { code: (!code.is_usual()).then(|| h2::Reason::from(code.number()).into()) }
    }

    /// Nobody is there who could send a code.
    #[cfg(not(feature = "hyper"))]
    fn resetting_by(_: ResetCode) -> Self {
        Self {}
    }
}

/// What is sent, and how.
pub(super) struct Sending {
    pub(super) artifact: Artifact,
    pub(super) content: Content,
    /// From this byte on.
    pub(super) first: u64,
    /// Up to this byte, which is not sent any more.
    pub(super) end: u64,
    pub(super) rate_bytes_per_s: u64,
    pub(super) pace: Duration,
    /// Seen from the arrival of the request.
    pub(super) cut_off: Option<Duration>,
    /// By which code a stream is reset then.
    pub(super) reset: ResetCode,
}

/// The body. Whoever drops it tells the ledger how much was sent.
pub(super) struct Paced {
    sending: Sending,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    began: Mono,
    position: u64,
    waiting: Option<BoxFuture<'static, ()>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sending,
    /// Nothing more goes out, but what did needs a moment: a reset overtakes what is not sent yet.
    Flushing,
    Cut,
}

/// How long the connection has to send what was handed to it before the end.
const FLUSH_TIME: Duration = Duration::from_millis(1);

impl Paced {
    pub(super) fn new(sending: Sending, clock: Arc<dyn Clock>, ledger: Arc<dyn Ledger>) -> Self {
        let (began, position) = (clock.mono(), sending.first);
        Self { sending, clock, ledger, began, position, waiting: None, state: State::Sending }
    }

    /// How many bytes may have gone out by a time since the beginning: a piece at once, and one more each time.
    fn allowed(&self, since: Duration) -> u64 {
        let pieces = since.as_nanos() / self.sending.pace.as_nanos().max(1) + 1;
        let per_piece = self.per_piece();
        u64::try_from(pieces).unwrap_or(u64::MAX).saturating_mul(per_piece)
    }

    fn per_piece(&self) -> u64 {
        let bytes = u128::from(self.sending.rate_bytes_per_s) * self.sending.pace.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
    }

    /// When the next piece is due, seen from the beginning.
    fn next_due(&self) -> Duration {
        let pieces = (self.position - self.sending.first) / self.per_piece();
        self.sending.pace.saturating_mul(u32::try_from(pieces).unwrap_or(u32::MAX))
    }

    fn sleep(&mut self, duration: Duration) {
        self.waiting = Some(self.clock.sleep(duration));
    }

    /// What goes out now, or `None` when something has to be waited for first.
    fn step(&mut self) -> Option<Option<Result<Frame<Bytes>, WriteTimeout>>> {
        if self.state != State::Sending {
            self.state = State::Cut;
            return Some(Some(Err(WriteTimeout::resetting_by(self.sending.reset))));
        }
        let left = self.sending.end - self.position;
        if left == 0 {
            return Some(None);
        }
        let since = self.clock.mono().since(self.began);
        if self.sending.cut_off.is_some_and(|cut_off| since >= cut_off) {
            self.state = State::Flushing;
            self.sleep(FLUSH_TIME);
            return None;
        }
        let sent = self.position - self.sending.first;
        let now = self.allowed(since).saturating_sub(sent).min(self.per_piece()).min(left);
        if now == 0 {
            let due = self.next_due().min(self.sending.cut_off.unwrap_or(Duration::MAX));
            // A sleep that rounds to nothing would spin.
            self.sleep(due.saturating_sub(since).max(FLUSH_TIME));
            return None;
        }
        let piece = self.sending.content.piece(self.position, now);
        self.position += now;
        Some(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = WriteTimeout;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WriteTimeout>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                if waiting.poll_unpin(cx).is_pending() {
                    return Poll::Pending;
                }
                self.waiting = None;
            }
            if let Some(frame) = self.step() {
                return Poll::Ready(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Sending && self.position == self.sending.end
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Sending => SizeHint::with_exact(self.sending.end - self.position),
            State::Flushing | State::Cut => SizeHint::new(),
        }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        let Sending { artifact, first, end, .. } = &self.sending;
        self.ledger.record(Fact::ArtifactSent {
            artifact: artifact.clone(),
            bytes: self.position - first,
            whole: self.position == *end,
        });
    }
}
