//! The server of Azure's agents: the distributed-task server in its Azure profile, and what stands beside it.
//!
//! The services beside are feature flags, customer intelligence and packages on the tenant, and the location service on
//! a host of its own. None of them has a say in what becomes of a job.

mod beside;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::distributed_task::server::{self as shared, Addresses, Policy};
use crate::distributed_task::wire::Dialect;
use crate::facts::Ledger;
use crate::random::Random;

/// What the server is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The distributed-task server.
    pub tasks: shared::Parameters,
    /// Base URL of the location service: what `vssps` is to the real one.
    pub location: String,
    /// Is the flag for progressive back-off on?
    pub progressive_backoff: ProgressiveBackoff,
}

/// State of [`flag::PROGRESSIVE_BACKOFF`](crate::azure::wire::flag::PROGRESSIVE_BACKOFF).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ProgressiveBackoff {
    On,
    Off,
}

/// The version of which there is a package.
pub const LATEST_VERSION: &str = "3.241.0";

impl Parameters {
    /// The likely values, in Azure's words.
    pub fn new(addresses: Addresses, location: impl Into<String>) -> Self {
        let tasks =
            shared::Parameters { dialect: Dialect::Azure, hub: "build".into(), ..shared::Parameters::new(addresses) };
        Self { tasks, location: location.into(), progressive_backoff: ProgressiveBackoff::Off }
    }
}

/// The server with its store. Clones share the store.
#[derive(Clone)]
pub struct Server {
    tasks: shared::Server,
    parameters: Arc<Parameters>,
}

impl Server {
    /// A server without agents and jobs. It writes the facts of its store to `ledger` as they are committed, by its own
    /// `clock`.
    pub fn new(
        parameters: Parameters,
        policy: Policy,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
        random: Random,
    ) -> Self {
        let tasks = shared::Server::new(parameters.tasks.clone(), policy, clock, ledger, random);
        Self { tasks, parameters: Arc::new(parameters) }
    }

    /// The distributed-task server: its agents, its jobs, its administration.
    pub fn tasks(&self) -> &shared::Server {
        &self.tasks
    }

    /// Its handlers, for whatever serves HTTP. One router answers for all of its hosts.
    pub fn router(&self) -> Router {
        self.tasks.v1_router(beside::routes(&self.parameters))
    }

    /// What it does without being called.
    pub async fn housekeeping(&self) -> Infallible {
        self.tasks.housekeeping().await
    }
}
