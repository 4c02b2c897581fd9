//! The runner: a station of the distributed-task protocol with choices of its own.

use std::ops::Deref;
use std::sync::Arc;

use crate::actions::choices::Choices;
use crate::distributed_task::agent::conduct::Layer;
use crate::distributed_task::agent::kill::Timer;
use crate::distributed_task::agent::{Configuration, NoPreparation, Profile, RunService, Station};
use crate::distributed_task::task_server::{PollStatus, SendTimeouts};

use super::Machine;
use super::broker::Broker;

/// What the runner says about itself in polls.
const VERSION: &str = "2.336.0";
const OS: &str = "Linux";
const ARCHITECTURE: &str = "X64";

/// A configured runner on its machine.
pub(super) struct Runner {
    pub station: Arc<Station>,
    pub choices: Choices,
}

impl Deref for Runner {
    type Target = Station;

    fn deref(&self) -> &Station {
        &self.station
    }
}

impl Runner {
    pub fn new(machine: Machine, choices: Choices, configuration: Configuration) -> Self {
        let profile = Profile {
            timeouts: SendTimeouts::RUNNER,
            kill: Timer::BeforeTimeout,
            preparation: Arc::new(NoPreparation),
        };
        let station = Station::new(machine, choices.conduct(), profile, configuration);
        Self { station: Arc::new(station), choices }
    }

    /// The broker at `base`, with the runner's own token.
    pub fn broker(&self, base: &str) -> Broker {
        Broker::new(self.raw(Layer::Alone), base, self.choices.not_json)
    }

    /// The broker, for calls that are retried above.
    pub fn retried_broker(&self, base: &str) -> Broker {
        Broker::new(self.raw(Layer::Retried), base, self.choices.not_json)
    }

    /// A run service with the runner's own token, for calls that are retried above.
    pub fn run_service(&self, base: &str) -> RunService {
        RunService::new(self.raw(Layer::Retried), base, self.choices.not_json)
    }

    pub fn poll_status(&self, status: &'static str) -> PollStatus {
        PollStatus {
            status: Some(status),
            version: VERSION,
            os: OS,
            architecture: ARCHITECTURE,
            disable_update: self.settings.disable_update,
        }
    }

    /// The software's version.
    pub fn version(&self) -> &'static str {
        VERSION
    }
}
