//! Workers as tasks of this very process.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::supervise::Exit;
use crate::workers::{Parent, Worker, WorkerError, Workers};

/// Starts workers as tasks of this very process. They outlive whoever started them, but not the process.
#[derive(Clone)]
pub struct LiveWorkers {
    main: Arc<dyn Fn(Box<dyn Parent>) -> BoxFuture<'static, i32> + Send + Sync>,
}

impl LiveWorkers {
    /// Workers each of which runs `main` with its end of the pipe, and ends with the code that it returns.
    pub fn new<F>(main: impl Fn(Box<dyn Parent>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = i32> + Send + 'static,
    {
        Self { main: Arc::new(move |parent| main(parent).boxed()) }
    }
}

impl Workers for LiveWorkers {
    #[expect(clippy::disallowed_methods, reason = "a worker that outlives its parent needs a task of the real runtime")]
    fn start(&self) -> BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>> {
        let main = self.main.clone();
        async move {
            // A message waits in the pipe until the worker takes it.
            let (pipe, end) = mpsc::channel(1);
            let running = tokio::spawn(main(Box::new(PipeEnd(end))));
            let abort = running.abort_handle();
            // One that panicked ended as one that was killed: without a code.
            let ended = async move { running.await.map_or(Exit::Killed, Exit::Code) }.boxed().shared();
            let worker: Box<dyn Worker> = Box::new(TaskWorker { pipe, abort, ended });
            Ok(worker)
        }
        .boxed()
    }
}

type Message = (Bytes, oneshot::Sender<()>);

struct TaskWorker {
    pipe: mpsc::Sender<Message>,
    abort: AbortHandle,
    ended: Shared<BoxFuture<'static, Exit>>,
}

impl Worker for TaskWorker {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), WorkerError>> {
        async move {
            let (taken, when_taken) = oneshot::channel();
            self.pipe.send((message, taken)).await.map_err(|_| WorkerError::BrokenPipe)?;
            when_taken.await.map_err(|_| WorkerError::BrokenPipe)
        }
        .boxed()
    }

    fn ended(&mut self) -> BoxFuture<'_, Exit> {
        self.ended.clone().boxed()
    }

    fn kill(&mut self) {
        self.abort.abort();
    }
}

struct PipeEnd(mpsc::Receiver<Message>);

impl Parent for PipeEnd {
    fn receive(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        async move {
            let (message, taken) = self.0.recv().await?;
            // The sender may have stopped waiting; the message is taken all the same.
            let _ = taken.send(());
            Some(message)
        }
        .boxed()
    }
}
