//! Budgets: whether a retry can be afforded.

mod concurrency;
mod quota;
mod throttling;
mod token_bucket;
mod window;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::span::Span;
use crate::clock::Mono;

/// What retries are paid from. Every client has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Budget {
    /// AWS: a retry costs tokens, a retried success gives its last cost back, a clean one gives one token (botocore,
    /// `retries/quota.py`, `retries/standard.py`).
    Quota {
        /// Tokens at the start, and at most.
        #[serde(default = "quota_tokens")]
        tokens: u32,
        /// What a retry costs.
        #[serde(default = "quota_cost")]
        cost: u32,
        /// What a retry after a time-out costs.
        #[serde(default = "quota_timeout_cost")]
        timeout_cost: u32,
    },
    /// gRPC: a failure takes one token, a success gives `ratio`, and there are no retries at half of the tokens or less
    /// (grpc/proposal A6).
    Throttling {
        /// Tokens at the start, and at most.
        #[serde(default = "throttling_tokens")]
        tokens: u32,
        /// What a success gives.
        #[serde(default = "ratio")]
        ratio: f64,
    },
    /// Finagle and tower: within a window retries may be a share of the requests, and always so many a second
    /// (`RetryBudget.scala`, `tps_budget.rs`).
    Window {
        /// How long a request counts.
        #[serde(default = "window")]
        window: Span,
        /// Retries a second that are always allowed.
        #[serde(default = "per_second")]
        per_second: u32,
        /// Retries for each request.
        #[serde(default = "share")]
        share: f64,
    },
    /// Envoy: retries may be a share of the requests under way, and always so many at once (`circuit_breaker.proto`).
    Concurrency {
        /// Retries for each request under way.
        #[serde(default = "share")]
        share: f64,
        /// Retries at once that are always allowed.
        #[serde(default = "concurrent")]
        concurrent: u32,
    },
    /// A success gives `ratio` of a token, a retry takes one (brooker.co.za, 2022-02-28).
    TokenBucket {
        /// Tokens at the start, and at most.
        #[serde(default = "bucket_tokens")]
        tokens: u32,
        /// What a success gives.
        #[serde(default = "ratio")]
        ratio: f64,
    },
}

fn quota_tokens() -> u32 {
    500
}
fn quota_cost() -> u32 {
    5
}
fn quota_timeout_cost() -> u32 {
    10
}
fn throttling_tokens() -> u32 {
    10
}
fn ratio() -> f64 {
    0.1
}
fn window() -> Span {
    Span::secs(10)
}
fn per_second() -> u32 {
    10
}
fn share() -> f64 {
    0.2
}
fn concurrent() -> u32 {
    3
}
fn bucket_tokens() -> u32 {
    5
}

/// A budget's state.
pub(super) trait Account: Send + Sync {
    /// A call begins.
    fn call_begins(&mut self, now: Mono) {
        let _ = now;
    }

    /// An attempt failed.
    fn failed(&mut self, now: Mono) {
        let _ = now;
    }

    /// Takes what a retry costs; false when there is not enough.
    fn withdraw(&mut self, outcome: &Outcome<'_>, now: Mono) -> bool;

    /// A call ended well after so many attempts.
    fn succeeded(&mut self, attempts: u32, now: Mono);

    /// A call ended, well or not.
    fn call_ends(&mut self) {}
}

impl Budget {
    /// A full account.
    pub(super) fn open(&self) -> Box<dyn Account> {
        match *self {
            Budget::Quota { tokens, cost, timeout_cost } => Box::new(quota::Quota::new(tokens, cost, timeout_cost)),
            Budget::Throttling { tokens, ratio } => Box::new(throttling::Throttling::new(tokens, ratio)),
            Budget::Window { window, per_second, share } => Box::new(window::Window::new(window.0, per_second, share)),
            Budget::Concurrency { share, concurrent } => Box::new(concurrency::Concurrency::new(share, concurrent)),
            Budget::TokenBucket { tokens, ratio } => Box::new(token_bucket::TokenBucket::new(tokens, ratio)),
        }
    }
}

/// Tokens in whole thousandths, so that every machine counts the same.
const TOKEN: u64 = 1_000;

fn thousandths(tokens: f64) -> u64 {
    (tokens * TOKEN as f64).round() as u64
}
