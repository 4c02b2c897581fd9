//! What the jobs of the workload do, in the world's own words: the journal hears of each from here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture, Either};
use squall_protocol::facts::{Agent, Job as JobName, Outcome, WorkerId};
use squall_protocol::workers::Work;
use squall_protocol::{Clock, Fact, Ledger, Shutdown};
use squall_sim::{Node, Process};

use super::{Job, WhenAsked};

/// How often a running job does something that the world can see.
const EFFECT_EVERY: Duration = Duration::from_secs(30);
/// How long a job takes to end once it was asked to.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// What one worker process executes.
pub(super) struct Execution {
    jobs: Arc<BTreeMap<JobName, Job>>,
    agent: Agent,
    worker: WorkerId,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    node: Node,
}

impl Execution {
    pub(super) fn new(process: &Process, jobs: Arc<BTreeMap<JobName, Job>>) -> Self {
        Self {
            jobs,
            agent: process.node().name().into(),
            worker: format!("{}#{}", process.name(), process.incarnation()).into(),
            clock: process.clock(),
            ledger: process.ledger(),
            node: process.node().clone(),
        }
    }
}

impl Work for Execution {
    fn execute(&self, job: JobName, attempt: u32, cancelled: Shutdown) -> BoxFuture<'static, Outcome> {
        let plan = self.jobs.get(&job).cloned();
        let (clock, ledger) = (self.clock.clone(), self.ledger.clone());
        let (worker, node) = (self.worker.clone(), self.node.clone());
        let mut told = Told { ledger, node, job, attempt, worker, stopped: false };
        told.ledger.record(Fact::JobStarted {
            job: told.job.clone(),
            attempt,
            agent: self.agent.clone(),
            worker: told.worker.clone(),
        });
        async move {
            let outcome = match plan {
                Some(plan) => run(&plan, &*clock, &told, &cancelled).await,
                None => Outcome::Failed,
            };
            told.stopped(outcome);
            outcome
        }
        .boxed()
    }
}

async fn run(plan: &Job, clock: &dyn Clock, told: &Told, cancelled: &Shutdown) -> Outcome {
    let mut left = Duration::from_millis(plan.takes_ms);
    told.effect();
    while !left.is_zero() {
        let step = left.min(EFFECT_EVERY);
        let asked = async {
            match plan.when_asked {
                WhenAsked::Ends => cancelled.requested().await,
                WhenAsked::GoesOn => future::pending().await,
            }
        };
        match future::select(clock.sleep(step), Box::pin(asked)).await {
            Either::Left(_) => told.effect(),
            Either::Right(_) => {
                told.aborted();
                clock.sleep(WIND_DOWN).await;
                return Outcome::Cancelled;
            }
        }
        left -= step;
    }
    plan.outcome
}

/// Tells the journal of one execution, to its end however it ends.
struct Told {
    ledger: Arc<dyn Ledger>,
    node: Node,
    job: JobName,
    attempt: u32,
    worker: WorkerId,
    stopped: bool,
}

impl Told {
    fn effect(&self) {
        self.ledger.record(Fact::JobEffect {
            job: self.job.clone(),
            attempt: self.attempt,
            worker: self.worker.clone(),
        });
    }

    /// The runner asked for its end, or made an end of it. Whether anybody had asked the runner is for invariants.
    fn aborted(&self) {
        self.ledger.record(Fact::JobAborted {
            job: self.job.clone(),
            attempt: self.attempt,
            worker: self.worker.clone(),
        });
    }

    fn stopped(&mut self, outcome: Outcome) {
        self.stopped = true;
        self.ledger.record(Fact::JobStopped {
            job: self.job.clone(),
            attempt: self.attempt,
            worker: self.worker.clone(),
            outcome,
        });
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.stopped {
            // On a machine that runs, only its runner kills workers.
            if self.node.is_up() {
                self.aborted();
            }
            self.stopped(Outcome::Abandoned);
        }
    }
}
