//! The worker processes that an agent starts to execute jobs.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::supervise::Exit;

/// Why a worker could not be started or spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The machine could not start the process.
    #[error("the worker process could not be started")]
    NotStarted,
    /// The pipe to the worker is broken: it has ended.
    #[error("the pipe to the worker is broken")]
    BrokenPipe,
}

/// Starts worker processes on the agent's machine.
pub trait Workers: Send + Sync + 'static {
    /// Starts a worker. What it is to do is sent to it afterwards, over its pipe.
    ///
    /// # Errors
    /// [`WorkerError::NotStarted`].
    fn start(&self) -> BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>>;
}

/// A running worker process, as its parent sees it. Dropping the handle closes the pipe and leaves the worker running.
pub trait Worker: Send {
    /// Sends a message down the pipe. It ends when the worker has taken it, which a starved machine may delay.
    ///
    /// # Errors
    /// [`WorkerError::BrokenPipe`] when the worker has ended.
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), WorkerError>>;

    /// Ends when the process has ended, and says how. It may be asked again and answers the same.
    fn ended(&mut self) -> BoxFuture<'_, Exit>;

    /// Kills the process.
    fn kill(&mut self);
}

/// The worker's end of the pipe.
pub trait Parent: Send {
    /// The next message from the parent, or `None` when the pipe is closed.
    fn receive(&mut self) -> BoxFuture<'_, Option<Bytes>>;
}
