//! Retry policies: from what happened so far to "wait so long" or "give up".
//!
//! [`RetryPolicy`] is the seam. [`Policy`] is a policy as plain data, put together from a wait, a limit, a budget, a
//! breaker, a throttle, a deadline and what is done about Retry-After; [`presets`] are those of real projects, and
//! [`mutants`] those with a known wound. A policy is written in code, in TOML ([`mod@file`]) or on one line
//! ([`expression`]), or is there already: [`Iterated`] takes what `backon` builds, and `tower_retry` (a feature) takes
//! policies of `tower::retry`. [`Caller`] makes calls with any of them.

mod again;
pub mod breaker;
pub mod budget;
mod caller;
mod composed;
pub mod conditions;
pub mod expression;
pub mod file;
pub mod generator;
pub mod heed;
mod iterated;
mod minding;
pub mod mutants;
mod nested;
mod policy;
pub mod presets;
mod retry_after;
pub mod retryable_http;
mod sending;
mod span;
pub mod throttle;
#[cfg(feature = "tower-retry")]
pub mod tower_retry;
mod tries;
pub mod wait;

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::clock::Mono;
use crate::http::TransportError;
use crate::random::Random;

pub use self::again::{asks_for_later, same_call};
pub use self::caller::{Caller, Ended, GaveUp, Hedge, Tried};
pub use self::composed::Composed;
pub use self::iterated::Iterated;
pub use self::minding::{SPREAD, minding};
pub use self::nested::Nested;
pub use self::policy::{OnDeadline, OnLease, Policy, PolicyError, Reset, Timer, Warning};
pub use self::retry_after::{http_date, retry_after};
pub use self::retryable_http::RetryableHttp;
pub use self::sending::{Sent, send};
pub use self::span::Span;
#[cfg(feature = "tower-retry")]
pub use self::tower_retry::Tower;
pub use self::tries::Tries;

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

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Status { status, .. } => write!(to, "{status}"),
            Outcome::Transport(error) => write!(to, "{error}"),
            Outcome::TimedOut => to.write_str("timed out"),
        }
    }
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

/// What to do with an attempt that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it.
    Send,
    /// Wait so long, then send it without asking again.
    After(Duration),
    /// Do not send it: the call fails here and now.
    Refuse,
}

/// Decides after each failed attempt of a call. One value lives as long as its client, so that budgets can be shared
/// between calls.
///
/// Policies that are about attempts alone need [`RetryPolicy::decide`] only. Budgets, breakers and throttles have a say
/// before an attempt and after a success as well, and some of them need the time: a caller that knows it tells it before
/// each of the other methods.
pub trait RetryPolicy: Send + Sync {
    /// What to do after `attempt`.
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision;

    /// A call ended well, after `attempts` attempts. Budgets refill here.
    fn succeeded(&mut self, attempts: u32) {
        let _ = attempts;
    }

    /// What to do with the attempt of this number, the first included, before it is sent.
    fn admit(&mut self, number: u32, random: &mut Random) -> Admission {
        let _ = (number, random);
        Admission::Send
    }

    /// The client's monotonic clock shows `now`.
    fn passes(&mut self, now: Mono) {
        let _ = now;
    }

    /// How many attempts and retries were refused so far for want of budget.
    fn refused(&self) -> u64 {
        0
    }
}

impl RetryPolicy for Box<dyn RetryPolicy> {
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        (**self).decide(attempt, random)
    }

    fn succeeded(&mut self, attempts: u32) {
        (**self).succeeded(attempts);
    }

    fn admit(&mut self, number: u32, random: &mut Random) -> Admission {
        (**self).admit(number, random)
    }

    fn passes(&mut self, now: Mono) {
        (**self).passes(now);
    }

    fn refused(&self) -> u64 {
        (**self).refused()
    }
}

/// The policy of a name or of a text: a preset, a mutant, or what [`expression`] reads.
///
/// # Errors
/// [`expression::ExpressionError`] when it is none of them.
pub fn named(text: &str) -> Result<Policy, expression::ExpressionError> {
    match presets::find(text).or_else(|| mutants::find(text)) {
        Some(preset) => Ok(preset.policy),
        None => expression::parse(text),
    }
}

#[cfg(test)]
mod testing;
