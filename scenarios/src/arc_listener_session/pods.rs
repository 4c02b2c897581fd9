//! The pods of runners, in the world's own words: the journal hears of each from here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, select_biased};
use squall_protocol::Fact;
use squall_protocol::arc::choices::IdleRemoval;
use squall_protocol::arc::cluster::{Cluster, Wanted};
use squall_protocol::arc::server::{Server, Taken};
use squall_protocol::facts::{Agent, Job as JobName, Outcome};
use squall_protocol::random::uniform;
use squall_sim::World;

use super::Job;

/// From the creation of a runner to its first question for a job.
const START: std::ops::Range<Duration> = Duration::from_secs(3)..Duration::from_secs(12);
/// Pause before a runner registers again that could not.
const REGISTER_AGAIN: Duration = Duration::from_secs(5);
/// How often it does before its pod fails for good.
const REGISTRATIONS: u32 = 5;
/// The time of the controller of runners.
const RECONCILE: Duration = Duration::from_millis(200);

/// What runners live in.
#[derive(Clone)]
pub(super) struct Pods {
    pub(super) world: World,
    pub(super) server: Server,
    pub(super) cluster: Cluster,
    pub(super) jobs: Arc<BTreeMap<JobName, Job>>,
    pub(super) idle_removal: IdleRemoval,
}

impl Pods {
    /// Carries out what the controller of a set wants, for as long as the world runs.
    pub(super) async fn control(self, set: String) {
        loop {
            let changed = self.cluster.changed();
            for wanted in self.cluster.reconcile(&set) {
                match wanted {
                    Wanted::Create(runner) => {
                        self.world.spawn("runner", self.clone().run(set.clone(), runner));
                    }
                    Wanted::Remove(runner) => {
                        // The service lets one that executes a job stay; any other learns that it is registered no more.
                        let removed = self.server.remove_runner(&runner.0);
                        if !removed && self.idle_removal == IdleRemoval::ByNoteAlone {
                            self.cluster.take_away(&set, &runner);
                        }
                    }
                }
            }
            changed.await;
            self.world.sleep(RECONCILE).await;
        }
    }

    /// A runner from its creation to its end: it takes one job.
    async fn run(self, set: String, runner: Agent) {
        let mut random = self.world.stream(&format!("pod/{runner}"));
        self.world.sleep(uniform(&mut random, START)).await;
        if let Some(id) = self.register(&set, &runner).await
            && let Some(Taken { job, attempt }) = self.server.take_job(id).await
        {
            match self.execute(&set, &runner, &job, attempt).await {
                // Nobody is left who could report anything.
                Outcome::Abandoned => self.server.runner_lost(id),
                outcome => self.server.complete(id, outcome),
            }
        }
        self.cluster.gone(&set, &runner);
    }

    async fn register(&self, set: &str, runner: &Agent) -> Option<i64> {
        for _ in 0..REGISTRATIONS {
            if let Some(id) = self.server.register_runner(set, &runner.0) {
                return Some(id);
            }
            self.world.sleep(REGISTER_AGAIN).await;
        }
        None
    }

    async fn execute(&self, set: &str, runner: &Agent, job: &JobName, attempt: u32) -> Outcome {
        let (agent, worker) = (runner.clone(), runner.0.as_ref().into());
        self.world.record(Fact::JobStarted { job: job.clone(), attempt, agent, worker });
        let plan = self.jobs.get(job);
        let takes = Duration::from_millis(plan.map_or(0, |plan| plan.takes_ms));
        let outcome = plan.map_or(Outcome::Failed, |plan| plan.outcome);
        self.world.record(Fact::JobEffect { job: job.clone(), attempt, worker: runner.0.as_ref().into() });
        let outcome = select_biased! {
            () = self.world.sleep(takes).fuse() => outcome,
            () = self.cluster.taken_away(set, runner).fuse() => Outcome::Abandoned,
        };
        let worker = runner.0.as_ref().into();
        self.world.record(Fact::JobStopped { job: job.clone(), attempt, worker, outcome });
        outcome
    }
}
