//! Trials: what a fleet is put through.

use std::fmt;

use serde::{Deserialize, Serialize};
use squall_sim::fault::{Fault, FaultKind, FaultPlan, RetryAfter, Target, When};

use super::fleet::FRONTS;

/// When trouble begins, in milliseconds: the fleet has been at work for a while by then.
pub const TROUBLE_AT_MS: u64 = 90_000;
/// How long a run goes on after it is measured from, in milliseconds, when the fleet does not come back.
pub const WATCHED_MS: u64 = 40 * 60_000;

/// The server's process on each front.
pub const SERVICE: &str = "http";
/// A fault of the laboratory: the server does only so many percent of its work.
pub const SLOW: &str = "slow";
/// A fault of the laboratory: every token becomes invalid.
pub const TOKENS_EXPIRE: &str = "tokens-expire";

/// What a fleet is put through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// The server is away.
    Outage,
    /// Nine of ten requests are told 503 and to come back in 30 s.
    Brownout,
    /// The server does a tenth of its work, and requests queue.
    Slow,
    /// All answers of two seconds are lost, eight times.
    Resets,
    /// Every token becomes invalid at once.
    Tokens,
    /// The server's machines restart one after another.
    Rolling,
    /// One request in twenty fails for as long as the run lasts.
    Permanent,
}

/// Every trial, in the order of the table.
pub const TRIALS: [Trial; 7] =
    [Trial::Outage, Trial::Brownout, Trial::Slow, Trial::Resets, Trial::Tokens, Trial::Rolling, Trial::Permanent];

impl Trial {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Trial::Outage => "outage",
            Trial::Brownout => "brownout",
            Trial::Slow => "slow",
            Trial::Resets => "resets",
            Trial::Tokens => "tokens",
            Trial::Rolling => "rolling",
            Trial::Permanent => "permanent",
        }
    }

    /// What happens in it.
    pub fn summary(self) -> &'static str {
        match self {
            Trial::Outage => "the server is away for ten minutes and comes back with what it had",
            Trial::Brownout => "for five minutes nine of ten requests are told 503 and Retry-After: 30",
            Trial::Slow => "for five minutes the server does a tenth of its work, and requests queue",
            Trial::Resets => "eight times, every 15 s, all answers of two seconds are lost",
            Trial::Tokens => "every token becomes invalid at once",
            Trial::Rolling => "the server's machines restart one after another, 30 s each",
            Trial::Permanent => "one request in twenty fails, for ten minutes",
        }
    }

    /// The trial of this name.
    pub fn named(name: &str) -> Option<Self> {
        TRIALS.into_iter().find(|trial| trial.name() == name)
    }

    /// What goes wrong, and when.
    pub fn plan(self) -> FaultPlan {
        let at = TROUBLE_AT_MS;
        let faults = match self {
            Trial::Outage => (0..FRONTS).map(|front| away(front, at, 600_000)).collect(),
            Trial::Brownout => vec![everywhere(unavailable(90, Some(30)), at, 300_000)],
            Trial::Slow => vec![everywhere(FaultKind::System { name: SLOW.to_owned(), amount: 10 }, at, 300_000)],
            Trial::Resets => {
                (0..8).map(|n| everywhere(FaultKind::DropReply { percent: 100 }, at + n * 15_000, 2_000)).collect()
            }
            Trial::Tokens => {
                vec![everywhere(FaultKind::System { name: TOKENS_EXPIRE.to_owned(), amount: 100 }, at, 0)]
            }
            Trial::Rolling => (0..FRONTS).map(|front| away(front, at + u64::from(front) * 30_000, 30_000)).collect(),
            Trial::Permanent => vec![everywhere(unavailable(5, None), at, 600_000)],
        };
        let heal_at_ms = faults.iter().map(|fault: &Fault| fault.at_ms + fault.for_ms).max().unwrap_or(at) + 1;
        FaultPlan { faults, heal_at_ms }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

/// The name of one of the server's machines.
pub fn front(front: u32) -> String {
    format!("front-{front}")
}

/// One of the server's machines is away.
pub fn away(at_front: u32, at_ms: u64, for_ms: u64) -> Fault {
    let kind = FaultKind::Stop { service: SERVICE.to_owned(), grace_ms: 0 };
    Fault { kind, target: Target { node: Some(front(at_front)), ..Target::default() }, at_ms, for_ms }
}

/// A fault of all of the server's machines.
pub fn everywhere(kind: FaultKind, at_ms: u64, for_ms: u64) -> Fault {
    Fault { kind, target: Target::default(), at_ms, for_ms }
}

/// So many requests in a hundred are told 503, before the server has acted.
pub fn unavailable(percent: u8, retry_after_s: Option<u64>) -> FaultKind {
    let retry_after = retry_after_s.map(RetryAfter::Seconds);
    FaultKind::Status { status: 503, when: When::BeforeCommit, retry_after, percent }
}

/// From when on recovery and load are measured, in milliseconds: from the heal, or from the beginning of trouble that
/// lasts as long as the run.
pub fn measured_from_ms(plan: &FaultPlan, end_ms: u64) -> u64 {
    if plan.heal_at_ms < end_ms { plan.heal_at_ms } else { TROUBLE_AT_MS }
}

/// Where a run of this plan ends at the latest, in milliseconds.
pub fn end_ms(trial: Trial, plan: &FaultPlan) -> u64 {
    match trial {
        Trial::Permanent => plan.heal_at_ms,
        _ => plan.heal_at_ms + WATCHED_MS,
    }
}
