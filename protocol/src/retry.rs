//! Retry policies: from what happened so far to "wait so long" or "give up".

mod retry_after;
pub mod retryable_http;
mod sending;

use std::time::Duration;

use http::StatusCode;

pub use retry_after::{http_date, retry_after};
pub use retryable_http::RetryableHttp;
pub use sending::{Sent, send};

use crate::http::TransportError;
use crate::random::Random;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'a> {
    /// The server answered with this status and, if it did, this Retry-After in seconds.
    Status {
        /// The status.
        status: StatusCode,
        /// What Retry-After asks for, already turned from a date into a span if need be.
        retry_after: Option<Duration>,
    },
    /// The transport failed.
    Transport(&'a TransportError),
    /// The caller's own time-out ended it.
    TimedOut,
}

/// A failed attempt, seen by a policy.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// How many attempts have been made, this one included: 1 for the first.
    pub number: u32,
    /// What came of it.
    pub outcome: Outcome<'a>,
    /// Monotonic time since the first attempt began.
    pub elapsed: Duration,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait so long, then try again.
    Retry(Duration),
    /// Report the failure to the caller.
    GiveUp,
}

/// Decides after each failed attempt of a call. One value lives as long as its client, so that budgets can be shared
/// between calls.
pub trait RetryPolicy: Send + Sync {
    /// What to do after `attempt`.
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision;

    /// A call ended well, after `attempts` attempts. Budgets refill here.
    fn succeeded(&mut self, attempts: u32) {
        let _ = attempts;
    }
}
