//! What the jobs of the workload do, stage by stage, in the world's own words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use squall_protocol::facts::{Job as JobName, Outcome, Stage};
use squall_protocol::workers::{Due, Executed, Staged, Stages};
use squall_protocol::{Fact, Ledger, Shutdown};
use squall_sim::Process;

use crate::execution::{self, Executor, WhenAsked};

use super::watch::Watch;
use super::{Ends, Job, Purpose, StagePlan};

/// What one worker process executes.
pub(super) struct Execution {
    pub process: Process,
    pub jobs: Arc<BTreeMap<JobName, Job>>,
    pub watch: Watch,
}

impl Stages for Execution {
    fn begin(&self, job: JobName, attempt: u32) -> Box<dyn Staged> {
        let plan = self.jobs.get(&job).cloned();
        Box::new(Run {
            ledger: self.process.ledger(),
            execution: Executor::of(&self.process).start(job, attempt),
            process: self.process.clone(),
            watch: self.watch.clone(),
            left: plan.iter().flat_map(|plan| plan.stages.iter().rev().cloned()).collect(),
            plan,
            stage: None,
        })
    }
}

/// One execution.
struct Run {
    process: Process,
    ledger: Arc<dyn Ledger>,
    watch: Watch,
    plan: Option<Job>,
    /// The stages to come, the next one last.
    left: Vec<StagePlan>,
    stage: Option<StagePlan>,
    execution: execution::Execution,
}

impl Staged for Run {
    fn begin_stage(&mut self, due: Due) -> Option<Stage> {
        if due == Due::CleanUp {
            self.left.retain(|stage| stage.purpose == Purpose::CleanUp);
        }
        let plan = self.left.pop()?;
        let stage = Stage::from(&plan.name);
        self.ledger.record(Fact::StageBegan { job: self.execution.job().clone(), stage: stage.clone() });
        self.watch.began(self.execution.job(), &stage, plan.purpose);
        self.stage = Some(plan);
        Some(stage)
    }

    fn execute(&mut self, cancelled: Shutdown) -> BoxFuture<'_, Executed> {
        async move {
            let (Some(stage), Some(job)) = (&self.stage, &self.plan) else {
                return Executed { outcome: Outcome::Failed, events: 0 };
            };
            let takes = Duration::from_millis(stage.takes_ms);
            let when_asked = match stage.purpose {
                Purpose::Work => job.when_asked,
                Purpose::CleanUp => WhenAsked::GoesOn,
            };
            let planned = match stage.ends {
                Ends::Well | Ends::WithItsWorker => Outcome::Succeeded,
                Ends::Badly => Outcome::Failed,
            };
            let outcome = self.execution.run(takes, planned, when_asked.asked(&cancelled)).await;
            if stage.ends == Ends::WithItsWorker && outcome != Outcome::Cancelled {
                // Nobody stopped it, and nobody will hear more of it.
                self.execution.stopped(Outcome::Abandoned);
                let process = self.process.clone();
                let world = process.node().world().clone();
                world.spawn("out of memory", async move { _ = process.kill() });
                return future::pending().await;
            }
            Executed { outcome, events: stage.events }
        }
        .boxed()
    }

    fn end_stage(&mut self) {
        let Some(plan) = self.stage.take() else { return };
        let (job, stage) = (self.execution.job().clone(), Stage::from(&plan.name));
        self.watch.ended(&job, &stage);
        self.ledger.record(Fact::StageEnded { job, stage });
    }

    fn end(mut self: Box<Self>, outcome: Outcome) {
        self.execution.stopped(outcome);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The end of the process is that of its stage.
        self.end_stage();
    }
}
