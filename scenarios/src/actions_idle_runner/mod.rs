//! `actions-idle-runner`: self-hosted GitHub Actions runners that stop getting jobs (actions/runner#3526).
//!
//! Several runners, some on the V1 protocol and some on V2, serve a queue of jobs over hours. The service has four
//! fronts (pipelines, tokens, broker, run service) over one store. What is known of the real service is in
//! [`squall_protocol::actions::server::Parameters`]; what is not is drawn by the seed.

mod draw;
mod fronts;
mod furnish;
mod live;
mod work;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::actions::server::{Encryption, Flow};
use squall_protocol::actions::{Choices, agent, server};
use squall_protocol::distributed_task::task_server::SendTimeouts;
use squall_protocol::facts::Outcome;
use squall_sim::World;
use squall_sim::invariant::Invariant;
use squall_sim::invariant::agents::{
    ConnectedAgentGoesOn, IdleAgentRunsNothing, NoAgentStoppedForGood, RestartsBounded, ShutdownInTime,
};
use squall_sim::invariant::coverage;
use squall_sim::invariant::jobs::{
    AgentWithinCapacity, FinishedJobNotFailed, NoJobRunsTwice, OldAttemptsSilent, ReportedResultStays,
};
use squall_sim::invariant::leases::{EffectUnderLease, LeasedJobNotAborted, LeasedJobRuns, NoLeakedRenewal};
use squall_sim::invariant::load::{PeakToMeanBounded, RefusalsBounded, RequestRateBounded};
use squall_sim::invariant::offers::OfferedJobTaken;
use squall_sim::invariant::queue::{CancelledJobStops, QueuedJobEnds, WaitingJobTaken};
use squall_sim::invariant::sessions::{LiveSessionNotDeleted, NotLockedOut, OneLiveSession, SessionRegained};
use squall_sim::scenario::{Drawn, Misfit, Model};

use crate::distributed_task::bounds;
use crate::execution::WhenAsked;

/// The scenario.
#[derive(Clone, Copy, Debug)]
pub struct ActionsIdleRunner;

/// The scenario's name on the command line and in cases.
pub const NAME: &str = "actions-idle-runner";

/// The fronts of the service, by host name.
pub const FRONTS: [&str; 4] = ["pipelines", "tokens", "broker", "run-service"];

/// What the world consists of, and the unknowns of the real service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The runners.
    pub runners: Vec<Runner>,
    /// The service.
    pub service: server::Parameters,
}

/// A runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// Its name, and its machine's.
    pub name: String,
    /// The protocol it is registered for.
    pub flow: Flow,
    /// How its messages travel.
    pub encryption: Encryption,
    /// When its machine is switched on, in milliseconds of true time.
    #[serde(default)]
    pub starts_at_ms: u64,
}

/// What is asked of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The jobs that are queued.
    pub jobs: Vec<Job>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// When it is queued, in milliseconds of true time.
    pub at_ms: u64,
    /// How long it takes, in milliseconds.
    pub takes_ms: u64,
    /// How it ends if nobody disturbs it.
    pub outcome: Outcome,
    /// When somebody asks for its end, in milliseconds of true time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_at_ms: Option<u64>,
    /// What it does when it is asked to end.
    pub when_asked: WhenAsked,
}

impl Job {
    /// When something happens to it unless it is disturbed: it is queued, it is cancelled, it ends.
    fn moments_ms(&self) -> impl Iterator<Item = u64> + use<> {
        [Some(self.at_ms), self.cancel_at_ms, Some(self.at_ms + self.takes_ms)].into_iter().flatten()
    }
}

impl Model for ActionsIdleRunner {
    type Choices = Choices;
    type Parameters = Parameters;
    type Workload = Workload;

    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "Self-hosted GitHub Actions runners, shown online and idle, get no more jobs (actions/runner#3526).";

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
        let service = &parameters.service;
        vec![
            Box::new(NoJobRunsTwice::default()),
            Box::new(AgentWithinCapacity::default()),
            Box::new(ReportedResultStays),
            Box::new(FinishedJobNotFailed),
            Box::new(OldAttemptsSilent::default()),
            Box::new(EffectUnderLease::default()),
            Box::new(LeasedJobNotAborted { fence_after: fence(service) }),
            Box::new(NoLeakedRenewal { bound: report(), start_up: start_up() }),
            Box::new(OneLiveSession::default()),
            Box::new(LiveSessionNotDeleted::default()),
            Box::new(IdleAgentRunsNothing::default()),
            Box::new(ShutdownInTime { bound: on_slow_clock(agent::SHUTDOWN_LIMIT) }),
            Box::new(RestartsBounded::default()),
            Box::new(ConnectedAgentGoesOn::default()),
            Box::new(RequestRateBounded { per_minute: 150 }),
            Box::new(RefusalsBounded::default()),
            Box::new(PeakToMeanBounded { settled: SETTLED, times: 10, small: clump(parameters) }),
            Box::new(QueuedJobEnds { bound: jobs_end(parameters, workload), ..QueuedJobEnds::default() }),
            Box::new(OfferedJobTaken { quiet_after: SETTLED, ..OfferedJobTaken::default() }),
            Box::new(WaitingJobTaken { bound: bounds::redelivery(service), ..WaitingJobTaken::default() }),
            Box::new(CancelledJobStops { bound: service.cancel_timeout + Duration::from_secs(120) }),
            Box::new(LeasedJobRuns { bound: Duration::from_secs(300) }),
            Box::new(SessionRegained { bound: bounds::reconnect(service) }),
            Box::new(NotLockedOut { bound: bounds::reconnect(service) }),
            Box::new(NoAgentStoppedForGood::default()),
            Box::new(coverage::session_expires()),
            Box::new(coverage::lease_expires()),
            Box::new(coverage::agent_killed()),
        ]
    }
}

/// How long after an extension that it knows of an agent may stop a job, on a clock that is fast, not knowing whether it
/// was extended again. It counts from when it asked, a call's time-out earlier at the most.
fn fence(service: &server::Parameters) -> Duration {
    (service.lease_life - agent::LEASE_MARGIN) * 9 / 10 - RENEWAL
}

/// How long an agent may renew a lease whose worker has ended: it reports, and the last renewal is under way.
fn report() -> Duration {
    on_slow_clock(agent::PATIENCE + agent::SHORTEST_ROUND + RENEWAL)
}

/// How long an agent may renew a lease that it knows of before a worker has the job.
fn start_up() -> Duration {
    on_slow_clock(agent::FIRST_RENEW_PATIENCE + agent::CHANNEL_TIMEOUT)
}

/// The true time that passes while a slow clock measures this. The slowest that is drawn loses a tenth.
fn on_slow_clock(measured: Duration) -> Duration {
    measured * 10 / 9
}

/// What a renewal may take.
const RENEWAL: Duration = SendTimeouts::RUNNER.job_request;
/// How many requests in one second are no sign of agents that act in step. A few agents are no fleet: one of them alone
/// sends as many when it connects.
fn clump(parameters: &Parameters) -> u32 {
    match parameters.runners.len() as u32 {
        few if few < FLEET => u32::MAX,
        agents => agents * 3 / 4,
    }
}

/// From so many agents on it shows whether they act in step.
const FLEET: u32 = 10;

/// How long after the heal agents may be busy with what went wrong before: the longest waits, and one after another.
const SETTLED: Duration = Duration::from_secs(300);
/// How long all jobs may take: leases of lost attempts expire, agents come back, and what is left is done, by all agents
/// but for the longest.
fn jobs_end(parameters: &Parameters, workload: &Workload) -> Duration {
    let agents = parameters.runners.len().max(1) as u32;
    let took = || workload.jobs.iter().map(|job| Duration::from_millis(job.takes_ms) + TURNAROUND);
    let service = &parameters.service;
    service.lease_life
        + bounds::reconnect(service)
        + took().sum::<Duration>() / agents
        + took().max().unwrap_or_default()
}

/// What a job takes besides its own time: to be offered, started and reported.
const TURNAROUND: Duration = Duration::from_secs(60);
