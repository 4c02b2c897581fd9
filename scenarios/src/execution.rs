//! The execution of a job by a worker, as the world sees it: the journal hears of each from here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};
use serde::{Deserialize, Serialize};
use squall_protocol::facts::{Agent, Job, Outcome, WorkerId};
use squall_protocol::{Clock, Fact, Ledger, Shutdown};
use squall_sim::{Node, Process};

/// How often a running job does something that the world can see.
const EFFECT_EVERY: Duration = Duration::from_secs(30);
/// How long a job takes to end once it was asked to.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// What a job does when it is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenAsked {
    /// It ends after a few seconds.
    Ends,
    /// It does not listen.
    GoesOn,
}

impl WhenAsked {
    /// Ends when a job that was asked to end would begin to.
    pub async fn asked(self, cancelled: &Shutdown) {
        match self {
            Self::Ends => cancelled.requested().await,
            Self::GoesOn => future::pending().await,
        }
    }
}

/// A worker's process, as the journal knows it.
#[derive(Clone)]
pub struct Executor {
    agent: Agent,
    worker: WorkerId,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    node: Node,
}

impl Executor {
    /// The process, on its agent's machine.
    pub fn of(process: &Process) -> Self {
        Self {
            agent: process.node().name().into(),
            worker: process.as_worker(),
            clock: process.clock(),
            ledger: process.ledger(),
            node: process.node().clone(),
        }
    }

    /// The process's name.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// Its agent, and its machine.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Where its facts go.
    pub fn ledger(&self) -> &dyn Ledger {
        &*self.ledger
    }

    /// Begins to execute an attempt of a job. What is returned tells the journal the rest, to the end.
    pub fn start(&self, job: Job, attempt: u32) -> Execution {
        let (agent, worker) = (self.agent.clone(), self.worker.clone());
        self.ledger.record(Fact::JobStarted { job: job.clone(), attempt, agent, worker });
        Execution { executor: self.clone(), job, attempt, stopped: false }
    }
}

/// One execution of a job. When it is dropped before it was stopped, its process was ended.
pub struct Execution {
    executor: Executor,
    job: Job,
    attempt: u32,
    stopped: bool,
}

impl Execution {
    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Goes on for `takes`, with effects from time to time, and ends as planned: or winds down and ends as cancelled,
    /// after `asked`.
    pub async fn run(&self, takes: Duration, planned: Outcome, asked: impl Future<Output = ()>) -> Outcome {
        let clock = &self.executor.clock;
        let working = async {
            let mut left = takes;
            self.effect();
            while !left.is_zero() {
                let step = left.min(EFFECT_EVERY);
                clock.sleep(step).await;
                self.effect();
                left -= step;
            }
        };
        match future::select(std::pin::pin!(working), std::pin::pin!(asked)).await {
            Either::Left(_) => planned,
            Either::Right(_) => {
                self.aborted();
                clock.sleep(WIND_DOWN).await;
                Outcome::Cancelled
            }
        }
    }

    /// The job ended so.
    pub fn stopped(&mut self, outcome: Outcome) {
        self.stopped = true;
        let (job, worker) = (self.job.clone(), self.executor.worker.clone());
        self.executor.ledger.record(Fact::JobStopped { job, attempt: self.attempt, worker, outcome });
    }

    fn effect(&self) {
        let (job, worker) = (self.job.clone(), self.executor.worker.clone());
        self.executor.ledger.record(Fact::JobEffect { job, attempt: self.attempt, worker });
    }

    /// The agent asked for its end, or made an end of it. Whether anybody had asked the agent is for invariants.
    fn aborted(&self) {
        let (job, worker) = (self.job.clone(), self.executor.worker.clone());
        self.executor.ledger.record(Fact::JobAborted { job, attempt: self.attempt, worker });
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if !self.stopped {
            // On a machine that runs, only its agent kills workers.
            if self.executor.node.is_up() {
                self.aborted();
            }
            self.stopped(Outcome::Abandoned);
        }
    }
}
