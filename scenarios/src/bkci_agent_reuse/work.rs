//! What the jobs of the workload do, and what they find in and leave on the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use squall_protocol::bkci::agent::WORKSPACE;
use squall_protocol::bkci::server::{Place, job_name};
use squall_protocol::bkci::wire::BuildInfo;
use squall_protocol::facts::{Job as JobName, Outcome};
use squall_protocol::workers::Work;
use squall_protocol::{Disk, Fact, Shutdown};
use squall_sim::Process;

use super::{Job, Workload};
use crate::execution::Executor;

/// What every job does, by its name.
pub(super) struct Plan(BTreeMap<JobName, Planned>);

struct Planned {
    job: Job,
    enters: Enters,
}

/// What a job does with the workspace of its machine.
#[derive(Clone)]
enum Enters {
    /// It checks everything out anew.
    Fresh,
    /// It builds on what this job left.
    After(String),
    /// It has a folder of its own, beside the job that runs at the same time.
    Beside,
}

impl Plan {
    pub(super) fn of(workload: &Workload) -> Self {
        let mut plan = BTreeMap::new();
        for build in &workload.builds {
            for (seq, job) in (1..).zip(&build.jobs) {
                let enters = enters(&build.name, &build.jobs, job, seq);
                plan.insert(JobName::from(job_name(&build.name, seq)), Planned { job: job.clone(), enters });
            }
        }
        Self(plan)
    }
}

fn enters(build: &str, jobs: &[Job], job: &Job, seq: u32) -> Enters {
    let Place::SameAs(root) = job.spec.place else { return Enters::Fresh };
    let root_stage = (1..).zip(jobs).find(|(n, _)| *n == root).map(|(_, root)| root.spec.stage);
    // The root itself, and those after it that build on its workspace too.
    let leaves = |n: u32, other: &Job| {
        n == root || (other.spec.place == Place::SameAs(root) && Some(other.spec.stage) != root_stage)
    };
    let earlier = (1..).zip(jobs).filter(|(n, other)| *n < seq && other.spec.stage < job.spec.stage);
    match earlier.filter(|(n, other)| leaves(*n, other)).last() {
        Some((before, _)) => Enters::After(job_name(build, before)),
        None => Enters::Beside,
    }
}

/// What one worker process executes.
pub(super) struct Execution {
    plan: Arc<Plan>,
    executor: Executor,
    disk: Arc<dyn Disk>,
}

impl Execution {
    pub(super) fn new(process: &Process, plan: Arc<Plan>) -> Self {
        Self { plan, executor: Executor::of(process), disk: process.disk() }
    }

    /// Enters the workspace, in which the job's mark is from then on. A full disk lets no job begin.
    fn enter(&self, job: &JobName, attempt: u32, enters: &Enters) -> std::io::Result<()> {
        match enters {
            Enters::Beside => Ok(()),
            Enters::Fresh => self.disk.write(WORKSPACE, half_of(job).as_bytes()),
            Enters::After(earlier) => {
                let bytes = self.disk.read(WORKSPACE).unwrap_or_default();
                let found = String::from_utf8_lossy(&bytes).into_owned();
                self.executor.ledger().record(Fact::WorkspaceEntered {
                    machine: self.executor.agent().clone(),
                    job: job.clone(),
                    attempt,
                    found,
                    expected: earlier.clone(),
                });
                self.disk.append(WORKSPACE, format!(", {}", half_of(job)).as_bytes())
            }
        }
    }
}

/// What a job leaves that has not succeeded.
fn half_of(job: &JobName) -> String {
    format!("half of {job}")
}

impl Work for Execution {
    fn execute(&self, job: JobName, attempt: u32, cancelled: Shutdown) -> BoxFuture<'static, Outcome> {
        let mut execution = self.executor.start(job.clone(), attempt);
        let planned = self.plan.0.get(&job);
        let entered = planned.map(|planned| self.enter(&job, attempt, &planned.enters));
        let plan = planned.filter(|_| matches!(entered, Some(Ok(())))).map(|planned| {
            let outcomes = &planned.job.outcomes;
            let outcome = outcomes.get(attempt as usize - 1).or(outcomes.last()).copied();
            (Duration::from_millis(planned.job.takes_ms), outcome.unwrap_or(Outcome::Succeeded), planned.enters.clone())
        });
        let disk = self.disk.clone();
        async move {
            let Some((takes, outcome, enters)) = plan else {
                execution.stopped(Outcome::Failed);
                return Outcome::Failed;
            };
            let mut outcome = execution.run(takes, outcome, cancelled.requested()).await;
            let leaves = !matches!(enters, Enters::Beside) && outcome == Outcome::Succeeded;
            if leaves && disk.write(WORKSPACE, job.0.as_bytes()).is_err() {
                outcome = Outcome::Failed;
            }
            execution.stopped(outcome);
            outcome
        }
        .boxed()
    }
}

/// A worker's process, from its beginning to its end however it ends.
pub(super) struct Alive(Executor);

impl Alive {
    pub(super) fn began(process: &Process, build: &BuildInfo) -> Self {
        let executor = Executor::of(process);
        executor.ledger().record(Fact::WorkerBegan {
            worker: executor.worker().clone(),
            agent: executor.agent().clone(),
            job: format!("{}/{}", build.build_id, build.vm_seq_id).into(),
            attempt: build.execute_count.unwrap_or(1),
            owner: build.build_id.as_str().into(),
        });
        Self(executor)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.ledger().record(Fact::WorkerEnded { worker: self.0.worker().clone() });
    }
}
