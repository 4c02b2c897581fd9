//! `actions-idle-runner`: self-hosted GitHub Actions runners that stop getting jobs (actions/runner#3526).
//!
//! Several runners, some on the V1 protocol and some on V2, serve a queue of jobs over hours. The service has four
//! fronts (pipelines, tokens, broker, run service) over one store. What is known of the real service is in
//! [`squall_protocol::actions::server::Parameters`]; what is not is drawn by the seed.

mod draw;
mod furnish;
mod live;
mod work;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::actions::server::{Encryption, Flow, Lifetime};
use squall_protocol::actions::{Choices, server};
use squall_protocol::distributed_task::agent::outcome_of;
use squall_protocol::facts::Outcome;
use squall_sim::World;
use squall_sim::invariant::Invariant;
use squall_sim::invariant::aborts::LeasedJobNotAborted;
use squall_sim::invariant::coverage;
use squall_sim::invariant::endings::{ConnectedAgentGoesOn, DismissedAgentEnds, NoAgentStoppedForGood};
use squall_sim::invariant::exits::ExitCodeTellsOutcome;
use squall_sim::invariant::idle::IdleAgentRunsNothing;
use squall_sim::invariant::jobs::{
    AgentWithinCapacity, FinishedJobNotFailed, NoJobRunsTwice, OldAttemptsSilent, ReportedResultStays,
};
use squall_sim::invariant::leases::EffectUnderLease;
use squall_sim::invariant::load::{PeakToMeanBounded, RefusalsBounded, RequestRateBounded};
use squall_sim::invariant::messages::AckedMessageHandled;
use squall_sim::invariant::offers::OfferedJobTaken;
use squall_sim::invariant::patience::{RetryAfterBounded, RetryAfterMinded, SilenceBounded, WaitsDiffer};
use squall_sim::invariant::queue::{CancelledJobStops, QueuedJobEnds, WaitingJobTaken};
use squall_sim::invariant::restarts::RestartsBounded;
use squall_sim::invariant::session_ends::LiveSessionNotDeleted;
use squall_sim::invariant::sessions::{Holders, NotLockedOut, OneLiveSession, SessionRegained};
use squall_sim::invariant::shutdown::ShutdownInTime;
use squall_sim::invariant::unused_leases::{LeasedJobRuns, NoLeakedRenewal};
use squall_sim::scenario::{Drawn, Misfit, Model};

use crate::distributed_task::{bounds, faults};
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
    /// When the pool sends its runners to the broker, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
}

/// For a while the pool sends its runners to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// From when on, in milliseconds of true time.
    pub from_ms: u64,
    /// Until when, in milliseconds of true time.
    pub until_ms: u64,
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
    /// How many jobs it is for.
    #[serde(default, skip_serializing_if = "is_persistent")]
    pub lifetime: Lifetime,
}

fn is_persistent(lifetime: &Lifetime) -> bool {
    *lifetime == Lifetime::Persistent
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
    fn takes(&self) -> Duration {
        Duration::from_millis(self.takes_ms)
    }

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
        let service = &parameters.service;
        let runners = parameters.runners.iter().filter(|runner| is_persistent(&runner.lifetime)).count();
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
            Box::new(LiveSessionNotDeleted::default()),
            Box::new(IdleAgentRunsNothing::default()),
            Box::new(ShutdownInTime { bound: bounds::shutdown() }),
            Box::new(RestartsBounded::default()),
            Box::new(ConnectedAgentGoesOn::default()),
            Box::new(RequestRateBounded { per_minute: 150 }),
            Box::new(RefusalsBounded::default()),
            Box::new(SilenceBounded { bound: bounds::silence() }),
            Box::new(RetryAfterMinded::default()),
            Box::new(RetryAfterBounded::default()),
            Box::new(WaitsDiffer::default()),
            Box::new(PeakToMeanBounded { settled: bounds::SETTLED, times: 10, small: bounds::clump(runners) }),
            Box::new(QueuedJobEnds {
                bound: bounds::jobs_end(service, runners, workload.jobs.iter().map(Job::takes)),
                ..QueuedJobEnds::default()
            }),
            Box::new(OfferedJobTaken { quiet_after: bounds::SETTLED, ..OfferedJobTaken::default() }),
            Box::new(WaitingJobTaken { bound: bounds::redelivery(service), ..WaitingJobTaken::default() }),
            Box::new(CancelledJobStops { bound: service.cancel_timeout + Duration::from_secs(120) }),
            Box::new(LeasedJobRuns { bound: bounds::UNUSED_LEASE }),
            Box::new(AckedMessageHandled { bound: bounds::handling(service) }),
            Box::new(SessionRegained { bound: bounds::RECONNECT, holders: Holders::Every }),
            Box::new(NotLockedOut { bound: bounds::RECONNECT }),
            Box::new(NoAgentStoppedForGood::default()),
            Box::new(DismissedAgentEnds { bound: bounds::LEAVING }),
            Box::new(coverage::session_expires()),
            Box::new(coverage::lease_expires()),
            Box::new(coverage::agent_killed()),
        ]
    }
}
