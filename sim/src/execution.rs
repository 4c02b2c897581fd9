//! One execution of a job, as the world sees it: the journal hears of it from here, never from the agent's own word.

use std::sync::Arc;

use squall_protocol::facts::{Job, Outcome, WorkerId};
use squall_protocol::{Fact, Ledger};

use crate::node::Node;
use crate::process::Process;

/// A job that runs, from its start to [`Execution::end`] or to its drop, which is the end of its process.
#[derive(Debug)]
pub struct Execution {
    told: Told,
    job: Job,
    attempt: u32,
    worker: WorkerId,
    ended: bool,
}

struct Told {
    ledger: Arc<dyn Ledger>,
    node: Node,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{}", self.node.name())
    }
}

impl Execution {
    /// The job starts in this process. The agent is the process's machine.
    pub fn start(process: &Process, job: impl Into<Job>, attempt: u32) -> Self {
        let told = Told { ledger: process.ledger(), node: process.node().clone() };
        let worker = process.as_worker();
        let (job, agent) = (job.into(), process.node().name().into());
        told.ledger.record(Fact::JobStarted { job: job.clone(), attempt, agent, worker: worker.clone() });
        Self { told, job, attempt, worker, ended: false }
    }

    /// It does something that the world can see and that cannot be undone.
    pub fn effect(&self) {
        let Self { job, attempt, worker, .. } = self;
        self.told.ledger.record(Fact::JobEffect { job: job.clone(), attempt: *attempt, worker: worker.clone() });
    }

    /// Its agent asks for its end, or makes an end of it. Whether anybody had asked the agent is for invariants.
    pub fn aborted(&self) {
        let Self { job, attempt, worker, .. } = self;
        self.told.ledger.record(Fact::JobAborted { job: job.clone(), attempt: *attempt, worker: worker.clone() });
    }

    /// It ends by itself.
    pub fn end(mut self, outcome: Outcome) {
        self.stopped(outcome);
    }

    fn stopped(&mut self, outcome: Outcome) {
        self.ended = true;
        let Self { job, attempt, worker, .. } = &*self;
        let (job, attempt, worker) = (job.clone(), *attempt, worker.clone());
        self.told.ledger.record(Fact::JobStopped { job, attempt, worker, outcome });
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if !self.ended {
            // On a machine that runs, only its agent makes an end of a job.
            if self.told.node.is_up() {
                self.aborted();
            }
            self.stopped(Outcome::Abandoned);
        }
    }
}
