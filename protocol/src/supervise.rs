//! How a process ends, and what its supervisor does then.

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture, Shared};

/// The request to stop that a process was sent (SIGINT or SIGTERM). It can be awaited by many, many times.
#[derive(Clone, Debug)]
pub struct Shutdown(Shared<BoxFuture<'static, ()>>);

impl Shutdown {
    /// Stops when `asked` ends.
    pub fn when(asked: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(asked.boxed().shared())
    }

    /// A process that is never asked to stop.
    pub fn never() -> Self {
        Self::when(future::pending())
    }

    /// Ends once the process has been asked to stop.
    pub async fn requested(&self) {
        self.0.clone().await;
    }

    /// Has the process been asked to stop? True only after somebody awaited [`Shutdown::requested`].
    pub fn is_requested(&self) -> bool {
        self.0.clone().now_or_never().is_some()
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// It was killed from outside.
    Killed,
}

/// What a supervisor does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start it again after this time.
    After(Duration),
    /// Never start it again; a human has to.
    Never,
}

/// A supervisor's policy: systemd's `Restart=`, a service wrapper, or a pod controller.
pub trait Supervise: Send + 'static {
    /// The process ended as `exit` says, having run for `up`.
    fn ended(&mut self, exit: Exit, up: Duration) -> Restart;
}

/// Starts the process again after a fixed time, however it ended.
#[derive(Clone, Copy, Debug)]
pub struct Always {
    /// Pause before the next start.
    pub delay: Duration,
}

impl Supervise for Always {
    fn ended(&mut self, _: Exit, _: Duration) -> Restart {
        Restart::After(self.delay)
    }
}
