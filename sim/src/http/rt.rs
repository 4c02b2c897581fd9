//! What hyper wants of a runtime.

use std::future::Future;
use std::sync::Arc;

use crate::kernel::{Kernel, ProcessId};

/// Runs hyper's HTTP/2 tasks as tasks of one process.
#[derive(Clone)]
pub(crate) struct ProcessExecutor {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) process: ProcessId,
}

impl<F> hyper::rt::Executor<F> for ProcessExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        self.kernel.spawn(self.process, "h2", async move {
            future.await;
        });
    }
}
