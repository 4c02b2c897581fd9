//! The worker processes that an agent starts to execute jobs.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::facts::{Job, Outcome, Stage};
use crate::supervise::{Exit, Shutdown};

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

/// What a worker process does with a job: implemented by the world, called by the worker's own code.
pub trait Work: Send + Sync + 'static {
    /// Executes attempt `attempt` of a job and says how it ended.
    ///
    /// `cancelled` ends when the job has been asked to stop; a job may take its time over it, or not listen at all.
    /// Dropping the future is the end of the process: the job stops at once.
    fn execute(&self, job: Job, attempt: u32, cancelled: Shutdown) -> BoxFuture<'static, Outcome>;
}

/// What a worker process does with a job that is made of stages: implemented by the world, called by the worker's code.
pub trait Stages: Send + Sync + 'static {
    /// Begins to execute attempt `attempt` of a job. Dropping what it returns is the end of the process.
    fn begin(&self, job: Job, attempt: u32) -> Box<dyn Staged>;
}

/// A job that is being executed stage by stage.
pub trait Staged: Send {
    /// Begins the next stage that is due, and names it; `None` when there is none.
    fn begin_stage(&mut self, due: Due) -> Option<Stage>;

    /// Does the stage's own work. `cancelled` ends when the job has been asked to stop.
    fn execute(&mut self, cancelled: Shutdown) -> BoxFuture<'_, Executed>;

    /// Ends the stage.
    fn end_stage(&mut self);

    /// Ends the job.
    fn end(self: Box<Self>, outcome: Outcome);
}

/// Which stages of a job are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Every one.
    All,
    /// Those that clean up after others: nothing else is done for a job that has failed or is cancelled.
    CleanUp,
}

/// What came of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// How it ended.
    pub outcome: Outcome,
    /// Events about itself that it asks its worker to publish.
    pub events: u32,
}
