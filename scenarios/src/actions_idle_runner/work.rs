//! What the jobs of the workload do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use squall_protocol::Shutdown;
use squall_protocol::facts::{Job as JobName, Outcome};
use squall_protocol::workers::Work;
use squall_sim::Process;

use super::Job;
use crate::execution::Executor;

/// What one worker process executes.
pub(super) struct Execution {
    jobs: Arc<BTreeMap<JobName, Job>>,
    executor: Executor,
}

impl Execution {
    pub(super) fn new(process: &Process, jobs: Arc<BTreeMap<JobName, Job>>) -> Self {
        Self { jobs, executor: Executor::of(process) }
    }
}

impl Work for Execution {
    fn execute(&self, job: JobName, attempt: u32, cancelled: Shutdown) -> BoxFuture<'static, Outcome> {
        let plan = self.jobs.get(&job).cloned();
        let mut execution = self.executor.start(job, attempt);
        async move {
            let outcome = match plan {
                Some(plan) => {
                    let asked = plan.when_asked.asked(&cancelled);
                    execution.run(Duration::from_millis(plan.takes_ms), plan.outcome, asked).await
                }
                None => Outcome::Failed,
            };
            execution.stopped(outcome);
            outcome
        }
        .boxed()
    }
}
