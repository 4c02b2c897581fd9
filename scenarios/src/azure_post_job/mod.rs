//! `azure-post-job`: Azure Pipelines agents whose jobs take minutes to end (azure-pipelines-agent#4857).
//!
//! Several agents serve a queue of jobs that are made of stages. The service has three fronts: the tenant, the token
//! service, and the second host, which every connection looks its service up at. A monitor that belongs to the world
//! raises an alert for a stage that takes too long. What the real service does not show is drawn by the seed.

mod draw;
mod furnish;
mod live;
mod watch;
mod work;

use std::iter;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::azure::agent::HttpHandler;
use squall_protocol::azure::{Choices, server};
use squall_protocol::distributed_task::agent::outcome_of;
use squall_protocol::distributed_task::server::Encryption;
use squall_sim::World;
use squall_sim::invariant::aborts::LeasedJobNotAborted;
use squall_sim::invariant::endings::{ConnectedAgentGoesOn, DismissedAgentEnds, NoAgentStoppedForGood};
use squall_sim::invariant::exits::ExitCodeTellsOutcome;
use squall_sim::invariant::idle::IdleAgentRunsNothing;
use squall_sim::invariant::jobs::{
    AgentWithinCapacity, FinishedJobNotFailed, NoJobRunsTwice, OldAttemptsSilent, ReportedResultStays,
};
use squall_sim::invariant::leases::EffectUnderLease;
use squall_sim::invariant::load::{PeakToMeanBounded, RefusalsBounded, RequestRateBounded};
use squall_sim::invariant::look_ups::LookUpsBounded;
use squall_sim::invariant::messages::AckedMessageHandled;
use squall_sim::invariant::offers::OfferedJobTaken;
use squall_sim::invariant::patience::{RetryAfterBounded, RetryAfterMinded, SilenceBounded, WaitsDiffer};
use squall_sim::invariant::progress::WorkNotHeldUp;
use squall_sim::invariant::queue::{CancelledJobStops, QueuedJobEnds, WaitingJobTaken};
use squall_sim::invariant::restarts::RestartsBounded;
use squall_sim::invariant::sessions::{Holders, NotLockedOut, OneLiveSession, SessionRegained};
use squall_sim::invariant::shutdown::ShutdownInTime;
use squall_sim::invariant::stages::{Counting, SlowStageAlerted, StageEnds};
use squall_sim::invariant::unused_leases::{LeasedJobRuns, NoLeakedRenewal};
use squall_sim::invariant::{Invariant, coverage};
use squall_sim::scenario::{Drawn, Misfit, Model};

use crate::distributed_task::{bounds, faults};
use crate::execution::WhenAsked;

/// The scenario.
#[derive(Clone, Copy, Debug)]
pub struct AzurePostJob;

/// The scenario's name on the command line and in cases.
pub const NAME: &str = "azure-post-job";

/// The fronts of the service, by host name: the tenant, the token service, the second host.
pub const FRONTS: [&str; 3] = ["dev-azure", "vstoken", "vssps"];

/// The stage at the end of every job that the incident is about.
pub const POST_JOB: &str = "Post-job: Checkout";

/// The stage that saves what the long task of a job has made.
pub const SAVE: &str = "Post-job: Task 1";

/// How long a stage that cleans up may take before the monitor raises an alert.
pub const CLEAN_UP_BOUND: Duration = Duration::from_secs(60);
/// How long any other stage may.
pub const WORK_BOUND: Duration = Duration::from_secs(3_600);

/// What the world consists of, and the unknowns of the real service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The agents.
    pub agents: Vec<Agent>,
    /// The service.
    pub service: server::Parameters,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name, and its machine's.
    pub name: String,
    /// How its messages travel.
    pub encryption: Encryption,
    /// When its machine is switched on, in milliseconds of true time.
    #[serde(default)]
    pub starts_at_ms: u64,
    /// The HTTP handler below its calls. The one of sockets is what agents have unless they are told otherwise, and so is
    /// never drawn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub handler: HttpHandler,
}

fn is_default(handler: &HttpHandler) -> bool {
    *handler == HttpHandler::default()
}

/// What is asked of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The jobs that are queued.
    pub jobs: Vec<Job>,
    /// The updates that agents are told to make of themselves.
    #[serde(default)]
    pub updates: Vec<Update>,
    /// The agent that its owner takes out of the pool, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dismissal: Option<Dismissal>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// When it is queued, in milliseconds of true time.
    pub at_ms: u64,
    /// Its stages, in order.
    pub stages: Vec<StagePlan>,
    /// When somebody asks for its end, in milliseconds of true time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_at_ms: Option<u64>,
    /// What it does when it is asked to end.
    pub when_asked: WhenAsked,
}

impl Workload {
    /// When faults are worth having: a job is queued, is cancelled, has done a stage; an update is due.
    fn moments_ms(&self) -> Vec<u64> {
        let jobs = self.jobs.iter().flat_map(Job::moments_ms);
        jobs.chain(self.updates.iter().map(|update| update.at_ms)).collect()
    }
}

impl Job {
    fn moments_ms(&self) -> impl Iterator<Item = u64> {
        let stages = self.stages.iter().scan(self.at_ms, |at_ms, stage| {
            *at_ms += stage.takes_ms;
            Some(*at_ms)
        });
        iter::once(self.at_ms).chain(self.cancel_at_ms).chain(stages)
    }

    fn takes(&self) -> Duration {
        Duration::from_millis(self.stages.iter().map(|stage| stage.takes_ms).sum())
    }
}

/// A stage of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// How long its own work takes, in milliseconds. None of it needs the network.
    pub takes_ms: u64,
    /// Events about itself that it asks its worker to publish.
    pub events: u32,
    /// How it ends.
    pub ends: Ends,
}

/// What a stage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A part of what the job is for. It is left out once the job has failed.
    Work,
    /// It cleans up, whatever has become of the job.
    CleanUp,
}

/// How a stage ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// It does what it is to do.
    Well,
    /// It fails.
    Badly,
    /// It brings its worker down: the process is killed for want of memory.
    WithItsWorker,
}

/// An update that an agent is told to make of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// When, in milliseconds of true time.
    pub at_ms: u64,
    /// The agent.
    pub agent: String,
    /// The version. There is a package of one only: see [`server::LATEST_VERSION`].
    pub version: String,
}

/// An agent that its owner takes out of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dismissal {
    /// When, in milliseconds of true time.
    pub at_ms: u64,
    /// The agent.
    pub agent: String,
}

impl Model for AzurePostJob {
    type Choices = Choices;
    type Parameters = Parameters;
    type Workload = Workload;

    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "Azure Pipelines jobs take minutes to end while a second host is out of reach (azure-pipelines-agent#4857).";
    const SYSTEM_FAULTS: &'static [(&'static str, &'static str)] = faults::SUMMARIES;

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
        furnish::furnish(world, choices, parameters, workload);
        Ok(())
    }

    fn invariants(&self, parameters: &Parameters, workload: &Workload) -> Vec<Box<dyn Invariant>> {
        // The bounds follow from what the service promises in this very case.
        let service = &parameters.service.tasks;
        let stays = |agent: &&Agent| workload.dismissal.as_ref().is_none_or(|gone| gone.agent != agent.name);
        let agents = parameters.agents.iter().filter(stays).count();
        vec![
            Box::new(NoJobRunsTwice::default()),
            Box::new(AgentWithinCapacity::default()),
            Box::new(ReportedResultStays),
            Box::new(FinishedJobNotFailed),
            Box::new(ExitCodeTellsOutcome { tells: outcome_of }),
            Box::new(OldAttemptsSilent::default()),
            Box::new(EffectUnderLease::default()),
            Box::new(LeasedJobNotAborted { fence_after: bounds::fence(service) }),
            Box::new(NoLeakedRenewal {
                bound: bounds::report(),
                start_up: bounds::start_up(),
                let_go: bounds::let_go(),
            }),
            Box::new(OneLiveSession::default()),
            Box::new(IdleAgentRunsNothing::default()),
            Box::new(ShutdownInTime { bound: bounds::shutdown() }),
            Box::new(RestartsBounded::default()),
            Box::new(ConnectedAgentGoesOn::default()),
            Box::new(RequestRateBounded { per_minute: 150 }),
            Box::new(RefusalsBounded::default()),
            Box::new(LookUpsBounded::default()),
            Box::new(SilenceBounded { bound: bounds::silence() }),
            Box::new(RetryAfterMinded::default()),
            Box::new(RetryAfterBounded::default()),
            Box::new(WaitsDiffer::default()),
            Box::new(PeakToMeanBounded { settled: bounds::SETTLED, times: 10, small: bounds::clump(agents) }),
            Box::new(QueuedJobEnds {
                bound: bounds::jobs_end(service, agents, workload.jobs.iter().map(Job::takes)),
                ..QueuedJobEnds::default()
            }),
            Box::new(WaitingJobTaken { bound: bounds::redelivery(service), ..WaitingJobTaken::default() }),
            Box::new(OfferedJobTaken { quiet_after: QUIET_AFTER, bound: bounds::taking(service) }),
            Box::new(CancelledJobStops { bound: service.cancel_timeout + CANCEL_OVERTIME }),
            Box::new(LeasedJobRuns { bound: bounds::UNUSED_LEASE }),
            Box::new(AckedMessageHandled { bound: bounds::handling(service) }),
            Box::new(SessionRegained { bound: bounds::RECONNECT, holders: Holders::Every }),
            Box::new(NotLockedOut { bound: bounds::RECONNECT }),
            Box::new(NoAgentStoppedForGood::default()),
            Box::new(DismissedAgentEnds { bound: bounds::LEAVING }),
            Box::new(WorkNotHeldUp { bound: HELD_UP }),
            Box::new(StageEnds {
                stage: Some(POST_JOB.into()),
                bound: POST_JOB_BOUND,
                counting: Counting::DespiteFaults,
            }),
            slow_stage_alerted(POST_JOB),
            slow_stage_alerted(SAVE),
            Box::new(coverage::session_expires()),
            Box::new(coverage::lease_expires()),
            Box::new(coverage::agent_killed()),
        ]
    }
}

fn slow_stage_alerted(stage: &str) -> Box<dyn Invariant> {
    let stage = Some(stage.into());
    Box::new(SlowStageAlerted { stage, threshold: CLEAN_UP_BOUND, ..SlowStageAlerted::default() })
}

/// A call that was under way at heal times out, a wait ends, a session is opened.
const QUIET_AFTER: Duration = Duration::from_secs(240);
/// The agent kills a worker a minute after the time that the cancellation left it; the cancellation has to arrive.
const CANCEL_OVERTIME: Duration = Duration::from_secs(60 + 120);
/// Half a minute between two effects of a job that works, on a clock that may be slow; or a look-up at the end of the job
/// and what it was for, ten seconds each.
const HELD_UP: Duration = Duration::from_secs(45);
/// The clean-up of a checkout takes three seconds at most, on a clock that may be slow.
const POST_JOB_BOUND: Duration = Duration::from_secs(5);
