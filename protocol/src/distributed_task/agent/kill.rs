//! How long a worker that was told to cancel its job may take.

use std::time::Duration;

/// A cancellation gives the worker at least this long (`JobDispatcher.cs:1269-1289`).
pub const SHORTEST_CANCEL: Duration = Duration::from_secs(60);
/// The GitHub runner kills the worker so long before the cancellation's time is over (`JobDispatcher.cs:1269-1289`).
pub const KILL_BEFORE_TIMEOUT: Duration = Duration::from_secs(15);
/// Azure's agent kills the worker so long after the cancellation's time is over (`JobDispatcher.cs:1280-1328`).
pub const KILL_AFTER_TIMEOUT: Duration = Duration::from_secs(60);

/// When the worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// [`KILL_BEFORE_TIMEOUT`].
    BeforeTimeout,
    /// [`KILL_AFTER_TIMEOUT`].
    AfterTimeout,
}

impl Timer {
    /// How long after a cancellation that leaves the worker `timeout`.
    pub fn after(self, timeout: Duration) -> Duration {
        match self {
            Timer::BeforeTimeout => timeout.max(SHORTEST_CANCEL) - KILL_BEFORE_TIMEOUT,
            Timer::AfterTimeout => timeout.saturating_add(KILL_AFTER_TIMEOUT),
        }
    }
}
