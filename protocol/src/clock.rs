//! The clock an agent sees: wall time may jump, monotonic time may drift, and neither is the true time.

use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, BoxFuture, Either};
use jiff::Timestamp;

/// A reading of a machine's monotonic clock: time since some arbitrary start of that machine.
///
/// Intervals are measured with it. It cannot be mixed up with wall time, in which servers send their deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// A reading so long after the clock's arbitrary start.
    pub const fn from_start(since: Duration) -> Self {
        Self(since)
    }

    /// Time since the clock's arbitrary start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, by: Duration) -> Mono {
        Mono(self.0.saturating_add(by))
    }
}

impl Sub<Mono> for Mono {
    type Output = Duration;
    fn sub(self, earlier: Mono) -> Duration {
        self.since(earlier)
    }
}

/// A machine's clock. Deadlines that a server sends are wall time, intervals are monotonic.
pub trait Clock: Send + Sync + 'static {
    /// Wall time, as the machine believes it. It may be wrong and it may jump in both directions.
    fn wall(&self) -> Timestamp;

    /// Monotonic time. It never goes back, but it may run a little fast or slow.
    fn mono(&self) -> Mono;

    /// Ends when the monotonic clock has advanced by `duration`.
    ///
    /// A sleep of zero still gives every other task a turn.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The time that [`timeout`] was given has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Timeout(pub Duration);

/// Runs `work` for at most `limit` of monotonic time.
///
/// # Errors
/// [`Timeout`] when `work` has not ended by then; it is dropped.
pub async fn timeout<T>(clock: &dyn Clock, limit: Duration, work: impl Future<Output = T>) -> Result<T, Timeout> {
    match future::select(pin!(work), clock.sleep(limit)).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right(_) => Err(Timeout(limit)),
    }
}

/// Ends when `earlier` does, and after `wait` at the latest, if that is known.
///
/// Background work of a server waits so: for what is due next, and for the news that something is due before that.
pub async fn sleep_or(clock: &dyn Clock, earlier: impl Future<Output = ()>, wait: Option<Duration>) {
    match wait {
        Some(wait) => drop(future::select(pin!(earlier), clock.sleep(wait)).await),
        None => earlier.await,
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn wall(&self) -> Timestamp {
        (**self).wall()
    }
    fn mono(&self) -> Mono {
        (**self).mono()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        (**self).sleep(duration)
    }
}
