//! What the agents of both systems do alike: a job from its first renewal to its report, and what it runs on.
//!
//! An agent brings its own session, its own way to poll and its own main loop; it hands jobs to a [`Dispatcher`].

use std::sync::Arc;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::http::Http;
use crate::random::Random;
use crate::workers::Workers;

mod complete;
pub mod conduct;
mod dispatch;
mod execute;
mod in_hand;
pub mod kill;
mod lease;
mod message;
mod not_found;
mod pipe;
mod run_service;
mod settings;
mod station;
mod worker;

pub use complete::{PATIENCE, PLANS_WITH_EVENTS, ROUND_PAUSE, ROUNDS, SHORTEST_ROUND};
pub use dispatch::{Dispatch, Dispatcher, FINISHED_JOB_GRACE, Origin, SHUTDOWN_LIMIT};
pub use execute::{CHANNEL_TIMEOUT, RESULT_CODES, UNREPORTED_CODES, WORKER_STOP_GRACE, outcome_of};
pub use lease::{
    FIRST_RENEW_PATIENCE, FIRST_RENEW_RETRIES, FIRST_RENEW_WAIT, KILL_MARGIN, LEASE_MARGIN, LEASE_OVERTIME,
    RENEW_ERROR_WAIT, RENEW_LATER_ERROR_WAIT, RENEW_PAUSE, SLOWEST_CLOCK, SlowClock,
};
pub use message::{Cursor, DELETE_MESSAGE_TIMEOUT, body, decrypted};
pub(crate) use not_found::NotFounds;
pub use not_found::{NOT_FOUND_CONFIRMATIONS, NOT_FOUND_PAUSE};
pub use run_service::{RunService, SEND_TIMEOUT, result};
pub use settings::{
    AGENT_FILE, CREDENTIALS_FILE, Configuration, CredentialData, Credentials, KEY_FILE, SETTINGS_FILE, Settings,
};
pub use station::{
    NoPreparation, Preparation, Profile, Station, is_not_found, is_refusal, system_url, token_of, vss_pipeline,
};
pub use worker::{CRASHED, Execute, JOB_TIMEOUT, Whole, name, worker};

/// What a process of an agent has of its machine.
pub struct Machine {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's network.
    pub http: Http,
    /// The process's generator.
    pub random: Random,
    /// Starts workers. A worker itself starts none.
    pub workers: Arc<dyn Workers>,
    /// The machine's disk, with the files of a registration: see [`Configuration::store`].
    pub disk: Arc<dyn Disk>,
}
