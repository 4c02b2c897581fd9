//! Throttles: what a client does to its own attempts before they are sent.

mod cubic;
mod pace;
mod sre;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::span::Span;
use super::{Admission, Outcome};
use crate::clock::Mono;
use crate::random::Random;

/// How a client throttles itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Throttle {
    /// Rejects with probability `max(0, (requests - k * accepted) / (requests + 1))` over a window (the SRE book,
    /// "Handling Overload").
    Sre {
        /// The multiplier.
        #[serde(default = "multiplier")]
        k: f64,
        /// How long a request counts.
        #[serde(default = "window")]
        window: Span,
    },
    /// AWS adaptive: from the first throttling answer on a rate limit that follows CUBIC (botocore,
    /// `retries/adaptive.py`, `throttling.py`, `bucket.py`).
    Cubic,
    /// So many attempts a second, after a burst; the longer of this and the back-off is waited (client-go,
    /// `default_rate_limiters.go`).
    Pace {
        /// Attempts a second.
        #[serde(default = "per_second")]
        per_second: u32,
        /// Attempts at once.
        #[serde(default = "burst")]
        burst: u32,
    },
}

fn multiplier() -> f64 {
    2.0
}
fn window() -> Span {
    Span::mins(2)
}
fn per_second() -> u32 {
    10
}
fn burst() -> u32 {
    100
}

/// A throttle's state.
pub(super) trait Valve: Send + Sync {
    /// An attempt is about to be sent.
    fn admit(&mut self, now: Mono, random: &mut Random) -> Admission {
        let _ = (now, random);
        Admission::Send
    }

    /// An attempt failed.
    fn failed(&mut self, outcome: &Outcome<'_>, now: Mono) {
        let _ = (outcome, now);
    }

    /// An attempt succeeded.
    fn succeeded(&mut self, now: Mono) {
        let _ = now;
    }

    /// The least that the next retry has to wait.
    fn least_wait(&mut self, now: Mono) -> Duration {
        let _ = now;
        Duration::ZERO
    }
}

impl Throttle {
    pub(super) fn open(&self) -> Box<dyn Valve> {
        match *self {
            Throttle::Sre { k, window } => Box::new(sre::Sre::new(k, window.0)),
            Throttle::Cubic => Box::new(cubic::Cubic::default()),
            Throttle::Pace { per_second, burst } => Box::new(pace::Pace::new(per_second, burst)),
        }
    }
}
