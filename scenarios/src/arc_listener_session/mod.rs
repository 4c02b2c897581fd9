//! `arc-listener-session`: listeners of runner scale sets that crash and cannot get back into their sessions
//! (actions-runner-controller#3210).
//!
//! Each listener runs in a pod that a controller makes again, holds a session with the service, acquires jobs, and asks
//! the cluster for as many runners. What is known of the real service is in [`squall_protocol::arc::server::Parameters`];
//! what is not is drawn by the seed.

mod draw;
mod furnish;
mod live;
mod pods;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::arc::controller::BACKOFF;
use squall_protocol::arc::{Choices, server};
use squall_protocol::facts::Outcome;
use squall_sim::World;
use squall_sim::invariant::Invariant;
use squall_sim::invariant::coverage;
use squall_sim::invariant::endings::{AgentOutlivesTrouble, NoAgentStoppedForGood};
use squall_sim::invariant::jobs::{
    AgentWithinCapacity, AssignedWithinCapacity, AttemptStartsOnce, NoJobRunsTwice, ReportedResultStays,
};
use squall_sim::invariant::load::RequestRateBounded;
use squall_sim::invariant::messages::{AckedMessageHandled, NoMessageLost};
use squall_sim::invariant::patience::{RetryAfterBounded, RetryAfterMinded, SilenceBounded, WaitsDiffer};
use squall_sim::invariant::pools::{PoolReachesTarget, PoolWithinCapacity, WorkingAgentStays};
use squall_sim::invariant::queue::QueuedJobEnds;
use squall_sim::invariant::restarts::{Counted, RestartsBounded};
use squall_sim::invariant::session_ends::StoppedAgentLeavesNoSession;
use squall_sim::invariant::sessions::{Holders, NotLockedOut, OneLiveSession, SessionRegained};
use squall_sim::invariant::shutdown::ShutdownInTime;
use squall_sim::scenario::{Drawn, Misfit, Model};

/// The scenario.
#[derive(Clone, Copy, Debug)]
pub struct ArcListenerSession;

/// The scenario's name on the command line and in cases.
pub const NAME: &str = "arc-listener-session";

/// The hosts that listeners talk to: the GitHub API, the actions service, and the cluster's API.
pub const FRONTS: [&str; 3] = ["github", "actions", "kubernetes"];

/// The listener's service in its pod.
pub const SERVICE: &str = "listener";

/// What the world consists of, and the unknowns of the real service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The scale sets, each with a listener.
    pub sets: Vec<Set>,
    /// The service.
    pub service: server::Parameters,
}

/// A scale set with its listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Its name, which is also its listener's and that of the machine of the listener's pod.
    pub name: String,
    /// The fewest runners.
    pub min_runners: u32,
    /// The most.
    pub max_runners: u32,
}

/// What is asked of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The jobs that are queued.
    pub jobs: Vec<Job>,
    /// When somebody changes what listeners are configured with, so that their pods are replaced.
    pub rollouts: Vec<Rollout>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The scale set that it is for.
    pub set: String,
    /// When it is queued, in milliseconds of true time.
    pub at_ms: u64,
    /// How long it takes, in milliseconds.
    pub takes_ms: u64,
    /// How it ends.
    pub outcome: Outcome,
}

/// A listener's pod is replaced in an orderly way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Whose.
    pub set: String,
    /// When, in milliseconds of true time.
    pub at_ms: u64,
}

impl Model for ArcListenerSession {
    type Choices = Choices;
    type Parameters = Parameters;
    type Workload = Workload;

    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Listeners of runner scale sets crash and find their own old session in the way \
                                   (actions-runner-controller#3210).";
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
        furnish::furnish(world, choices, parameters, workload);
        Ok(())
    }

    fn invariants(&self, parameters: &Parameters, _: &Workload) -> Vec<Box<dyn Invariant>> {
        // The bounds follow from what the service promises in this very case.
        let service = &parameters.service;
        let room = parameters.sets.iter().map(|set| set.max_runners as usize).max().unwrap_or_default();
        vec![
            Box::new(OneLiveSession::default()),
            Box::new(NoMessageLost { recovery: handling(service) }),
            Box::new(AckedMessageHandled { bound: handling(service) }),
            Box::new(NoJobRunsTwice::default()),
            Box::new(AgentWithinCapacity::default()),
            Box::new(AssignedWithinCapacity { jobs: room }),
            Box::new(AttemptStartsOnce),
            Box::new(ReportedResultStays),
            Box::new(PoolWithinCapacity { agents: room }),
            Box::new(WorkingAgentStays),
            Box::new(PoolReachesTarget { bound: TARGET, settling: SETTLING }),
            Box::new(AgentOutlivesTrouble { resigns_within: RESIGNS }),
            Box::new(StoppedAgentLeavesNoSession { settling: SETTLING }),
            Box::new(ShutdownInTime { bound: SHUTDOWN }),
            Box::new(RestartsBounded { starts: RESTARTS, counted: Counted::DespiteFaults, ..Default::default() }),
            Box::new(RequestRateBounded { per_minute: 300 }),
            Box::new(SilenceBounded::default()),
            Box::new(RetryAfterMinded::default()),
            Box::new(RetryAfterBounded::default()),
            Box::new(WaitsDiffer::default()),
            Box::new(QueuedJobEnds { bound: JOBS_END, ..QueuedJobEnds::default() }),
            Box::new(SessionRegained { bound: regained(service), holders: Holders::Every }),
            Box::new(NotLockedOut { bound: regained(service) }),
            Box::new(NoAgentStoppedForGood::default()),
            Box::new(coverage::session_expires()),
            Box::new(coverage::agent_killed()),
        ]
    }
}

/// How long a listener may take to get into a session again: the life of the lost one, and a restart.
fn regained(service: &server::Parameters) -> Duration {
    service.session_life + BACKOFF[1] + RETRY
}

/// How long the effects of a message that was acknowledged may take.
fn handling(service: &server::Parameters) -> Duration {
    regained(service) + RETRY
}

/// A call that times out, and the longest wait before the next one.
const RETRY: Duration = Duration::from_secs(120);
/// The refusal of its credentials may be as late as any answer, and is tried again.
const RESIGNS: Duration = Duration::from_secs(6 * 60);
/// As many starts within ten minutes as a pod makes whose controller backs off, and as many by kills and rollouts.
const RESTARTS: usize = 14;
/// A pod has 60 seconds before it is killed.
const SHUTDOWN: Duration = Duration::from_secs(55);
/// After heal: sessions are regained, and tokens renewed.
const SETTLING: Duration = Duration::from_secs(10 * 60);
/// A patch of the runner set is carried out within seconds; the next one comes with the next poll.
const TARGET: Duration = Duration::from_secs(40);
/// After heal: a session is regained, lost jobs are offered again or given up, and every job runs.
const JOBS_END: Duration = Duration::from_secs(100 * 60);
