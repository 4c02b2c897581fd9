//! What the service is told when it starts: its addresses, the unknowns of the real one, and how it is designed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{ConflictExtends, OnConflict};

/// Addresses of the service's parts. They may be two hosts or one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The organisation's address at a self-hosted GitHub, which listeners are configured with.
    pub config: String,
    /// Base of the actions service, which an admin connection tells.
    pub service: String,
}

impl Addresses {
    /// Everything on one origin, such as `http://127.0.0.1:8080`.
    pub fn on(origin: &str) -> Self {
        let origin = origin.trim_end_matches('/');
        Self { config: format!("{origin}/org"), service: format!("{origin}/tenant/") }
    }
}

/// How a job becomes a scale set's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Its listener acquires it: on GitHub Enterprise Server (SS#75).
    Acquired,
    /// The service assigns it, up to the capacity that the listener's poll says: on github.com.
    Automatic,
}

/// What the second deletion of a message or a session meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondDelete {
    /// The same as the first.
    Succeeds,
    /// An error: there is no such thing.
    NotFound,
}

/// What the answer to a refresh holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshAnswer {
    /// The whole session.
    WholeSession,
    /// The session's id and its new token.
    TokenAlone,
}

/// The service's numbers and habits. What sources do not say is swept by seeds; the defaults are the likely values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Where its parts are.
    pub addresses: Addresses,
    /// Bearer of the administration; `None`: there is no administration.
    #[serde(skip)]
    pub admin_token: Option<String>,
    /// Life of a session that nobody refreshes: unknown, more than an hour in ARC#3210.
    pub session_life: Duration,
    /// Does a refused creation extend the live session?
    pub conflict_extends: ConflictExtends,
    /// What the second deletion of a message or a session meets.
    pub second_delete: SecondDelete,
    /// What the answer to a refresh holds.
    pub refresh_answer: RefreshAnswer,
    /// Life of a registration token: an hour by GitHub's documentation.
    pub registration_token_life: Duration,
    /// Life of an admin token.
    pub admin_token_life: Duration,
    /// Life of a queue token: about 50 minutes by SS#123.
    pub queue_token_life: Duration,
    /// How long a new queue token is refused, because it is not known everywhere yet.
    pub queue_token_lag: Duration,
    /// How long a poll is held (SS README).
    pub poll_hold: Duration,
    /// The most jobs that one message tells of (SS README).
    pub batch: usize,
    /// How a job becomes a scale set's.
    pub assignment: Assignment,
    /// The most jobs that one call acquires, if there is a limit.
    pub acquired_at_once: Option<usize>,
    /// When a job that was told of and not acquired is told of again, if it is.
    pub offered_again: Option<Duration>,
    /// How long an assigned job waits for a runner before it is queued again (ARC#4602).
    pub pickup: Duration,
    /// How often it is queued again before it is cancelled (ARC#4602).
    pub requeues: u32,
    /// How long a job may be without its runner before it is given up: a runner's lease.
    pub lease_life: Duration,
    /// Largest body that is read, in bytes.
    pub body_limit: usize,
}

impl Parameters {
    /// The likely values.
    pub fn new(addresses: Addresses) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            addresses,
            admin_token: None,
            session_life: minutes(5),
            conflict_extends: ConflictExtends::Nothing,
            second_delete: SecondDelete::NotFound,
            refresh_answer: RefreshAnswer::WholeSession,
            registration_token_life: minutes(60),
            admin_token_life: minutes(60),
            queue_token_life: minutes(50),
            queue_token_lag: Duration::ZERO,
            poll_hold: Duration::from_secs(50),
            batch: 50,
            assignment: Assignment::Acquired,
            acquired_at_once: None,
            offered_again: Some(minutes(5)),
            pickup: minutes(5),
            requeues: 3,
            lease_life: minutes(10),
            body_limit: 1 << 20,
        }
    }
}

/// Where the repaired design of the service differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a second session meets.
    pub on_conflict: OnConflict,
}
