//! `bkci-agent-reuse`: BK-CI pipelines whose jobs reuse an agent, and that are retried (bk-ci#10877 and its relatives).
//!
//! A few agents on machines of their own serve builds that compete for them. In a build, later jobs run on the machine
//! of the first one and build on its workspace; some jobs fail and are retried by their users, some builds are
//! cancelled. The server's Redis and its message broker have troubles of their own.

mod disk;
mod draw;
mod furnish;
mod live;
mod work;

use std::iter;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::bkci::Choices;
use squall_protocol::bkci::agent::Preparation;
use squall_protocol::bkci::server::JobSpec;
use squall_protocol::facts::Outcome;
use squall_sim::World;
use squall_sim::invariant::arrivals::{ArrivedJobBegun, HeardCancelStops};
use squall_sim::invariant::endings::NoAgentStoppedForGood;
use squall_sim::invariant::giving_up::{CancelledOnRequest, JobWaitsItsTime};
use squall_sim::invariant::jobs::{
    AgentWithinCapacity, AttemptStartsOnce, NoJobRunsTwice, OldAttemptsSilent, ReportedResultStays,
};
use squall_sim::invariant::leases::EffectUnderLease;
use squall_sim::invariant::leaving::WaitedForWorkerStays;
use squall_sim::invariant::load::RequestRateBounded;
use squall_sim::invariant::locks::{DeadHoldersLockFreed, LockTokensGrow, OneLockHolder};
use squall_sim::invariant::queue::{CancelledJobStops, QueuedJobEnds, WaitingJobTaken, WaitsFor};
use squall_sim::invariant::restarts::RestartsBounded;
use squall_sim::invariant::shutdown::ShutdownInTime;
use squall_sim::invariant::unused_leases::LeasedJobRuns;
use squall_sim::invariant::workers::{ExclusiveUse, NoEffectAfterEnd, OneLiveWorker};
use squall_sim::invariant::workspaces::CleanWorkspace;
use squall_sim::invariant::{Invariant, coverage};
use squall_sim::scenario::{Drawn, Misfit, Model};

/// The scenario.
#[derive(Clone, Copy, Debug)]
pub struct BkciAgentReuse;

/// The scenario's name on the command line and in cases.
pub const NAME: &str = "bkci-agent-reuse";

/// The server's machine, by host name.
pub const SERVER: &str = "bkci";
/// The machine of its Redis.
pub const REDIS: &str = "redis";

/// What the world consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The agents.
    pub agents: Vec<Agent>,
    /// How long they take to get a worker ready.
    pub preparation: Preparation,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name, and its machine's.
    pub name: String,
    /// How many workers it runs at once.
    pub parallel_task_count: u32,
}

/// What is asked of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The builds that are started.
    pub builds: Vec<Build>,
}

impl Workload {
    /// When something happens unless it is disturbed: a build is started, looked at, cancelled, and each of its jobs done.
    fn moments_ms(&self) -> Vec<u64> {
        self.builds.iter().flat_map(Build::moments_ms).collect()
    }
}

/// A build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Its id.
    pub name: String,
    /// When it is started, in milliseconds of true time.
    pub at_ms: u64,
    /// Its jobs.
    pub jobs: Vec<Job>,
    /// When its user looks whether it failed and retries it, in milliseconds of true time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_at_ms: Vec<u64>,
    /// Who else retries it when it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot: Option<Bot>,
    /// When somebody asks for its end, in milliseconds of true time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_at_ms: Option<u64>,
}

/// Something that looks after a build, and retries it when it has failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bot {
    /// Between two looks, in milliseconds. At least 1.
    pub looks_every_ms: u64,
    /// How often it retries the build at most.
    pub retries: u32,
}

impl Build {
    /// It is started at another time, and everything that is done about it is as much later or earlier.
    fn shift_to(&mut self, at_ms: u64) {
        let was_at_ms = std::mem::replace(&mut self.at_ms, at_ms);
        let moved = |then_ms: u64| at_ms + then_ms.saturating_sub(was_at_ms);
        self.retry_at_ms.iter_mut().for_each(|then_ms| *then_ms = moved(*then_ms));
        self.cancel_at_ms = self.cancel_at_ms.map(moved);
    }

    fn moments_ms(&self) -> impl Iterator<Item = u64> {
        let done = self.jobs.iter().scan(self.at_ms, |at_ms, job| {
            *at_ms += job.takes_ms;
            Some(*at_ms)
        });
        iter::once(self.at_ms).chain(self.retry_at_ms.iter().copied()).chain(self.cancel_at_ms).chain(done)
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Where it runs, and when.
    #[serde(flatten)]
    pub spec: JobSpec,
    /// How long it takes, in milliseconds.
    pub takes_ms: u64,
    /// How it ends in each attempt, if nobody disturbs it; the last is for all later ones. At least one.
    pub outcomes: Vec<Outcome>,
}

impl Model for BkciAgentReuse {
    type Choices = Choices;
    type Parameters = Parameters;
    type Workload = Workload;

    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "BK-CI pipelines that reuse an agent go wrong when they are retried (bk-ci#10877 and its relatives).";
    const SYSTEM_FAULTS: &'static [(&'static str, &'static str)] = furnish::SYSTEM_FAULTS;

    fn draw(&self, seed: u64) -> Drawn<Parameters, Workload> {
        draw::draw(seed)
    }

    fn furnish(
        &self,
        world: &World,
        choices: Choices,
        parameters: Parameters,
        workload: Workload,
    ) -> Result<(), Misfit> {
        furnish::check(&parameters, &workload)?;
        furnish::furnish(world, choices, parameters, workload);
        Ok(())
    }

    fn invariants(&self, parameters: &Parameters, workload: &Workload) -> Vec<Box<dyn Invariant>> {
        let room = parameters.agents.iter().map(|agent| agent.parallel_task_count).max().unwrap_or(1);
        vec![
            Box::new(OneLiveWorker::default()),
            Box::new(ExclusiveUse { grace: REFUSED_WORKER_ENDS }),
            Box::new(NoJobRunsTwice::default()),
            Box::new(AttemptStartsOnce),
            Box::new(OldAttemptsSilent::default()),
            Box::new(NoEffectAfterEnd::default()),
            Box::new(WaitedForWorkerStays { patience: WORKER_TRIES }),
            Box::new(AgentWithinCapacity { jobs: room as usize, ..AgentWithinCapacity::default() }),
            Box::new(EffectUnderLease::default()),
            Box::new(ReportedResultStays),
            Box::new(CleanWorkspace),
            Box::new(ArrivedJobBegun::default()),
            Box::new(HeardCancelStops::default()),
            Box::new(CancelledOnRequest),
            Box::new(JobWaitsItsTime { patience: QUEUE_TIMEOUT }),
            Box::new(OneLockHolder::default()),
            Box::new(LockTokensGrow),
            Box::new(DeadHoldersLockFreed { bound: LOCK_FREED }),
            Box::new(QueuedJobEnds {
                bound: BUILDS_END.saturating_add(preparations(parameters, workload)),
                ..QueuedJobEnds::default()
            }),
            Box::new(WaitingJobTaken { bound: CLAIMED, waits_for: WaitsFor::TheAgentItIsOfferedTo }),
            Box::new(LeasedJobRuns { bound: LEASE_ENDS }),
            Box::new(CancelledJobStops { bound: CANCEL_DELIVERED }),
            Box::new(NoAgentStoppedForGood::default()),
            Box::new(ShutdownInTime::default()),
            Box::new(RestartsBounded::default()),
            Box::new(RequestRateBounded { per_minute: 240 }),
            Box::new(coverage::job_retried()),
            Box::new(coverage::lease_expires()),
            Box::new(coverage::agent_killed()),
        ]
    }
}

/// A worker that is not wanted any more is gone after its next call.
const REFUSED_WORKER_ENDS: Duration = Duration::from_secs(15);
/// A worker tries to start for 4 min in the repaired design and for longer in the other, by a clock that may be fast.
const WORKER_TRIES: Duration = Duration::from_secs(3 * 60);
/// A job that finds no room is given up after so long: 120 tries, 5 s apart, less what the first one saves.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(9 * 60);
/// An event that is delivered again, and a lock of a critical section that has to end by itself.
const LOCK_FREED: Duration = Duration::from_secs(180);
/// After the heal: leases end (12 min), jobs wait for room (10 min each), and those before them run. What agents take that
/// are slow to get workers ready comes on top: see [`preparations`].
const BUILDS_END: Duration = Duration::from_secs(44 * 60);
/// What agents may take to get workers ready for all jobs, if these come one after another and every agent is as slow as
/// it may be.
fn preparations(parameters: &Parameters, workload: &Workload) -> Duration {
    let Preparation { slow, slow_percent, .. } = &parameters.preparation;
    let jobs: usize = workload.builds.iter().map(|build| build.jobs.len()).sum();
    if *slow_percent == 0 { Duration::ZERO } else { slow.end.saturating_mul(jobs as u32) }
}

/// A lease, and the look at it that comes every two minutes.
const LEASE_ENDS: Duration = Duration::from_secs(14 * 60);
/// An asking, and a worker that is slow to be got ready.
const CLAIMED: Duration = Duration::from_secs(150);
/// A heartbeat, and the time that a job takes to end.
const CANCEL_DELIVERED: Duration = Duration::from_secs(120);
