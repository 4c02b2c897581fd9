//! What is done about a server's Retry-After.

use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::span::Span;
use crate::random::{Random, uniform};

/// What becomes of the wait when a 429 or 503 asks for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RetryAfter {
    /// How the two are put together.
    #[serde(default)]
    pub combine: Combine,
    /// The most that the server can ask for; without it the server's word is law.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Span>,
    /// Drawn and added, so that those who were told the same do not come back together.
    #[serde(default)]
    pub spread: Span,
}

/// How Retry-After and the policy's own wait are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Retry-After is not looked at.
    #[default]
    Ignored,
    /// Retry-After instead of the policy's wait.
    Instead,
    /// The longer of the two.
    Longer,
    /// Both.
    Sum,
}

/// What a client reads as "do not come back": gRPC's negative `grpc-retry-pushback-ms`.
pub const NEVER: Duration = Duration::MAX;

impl RetryAfter {
    /// Not looked at.
    pub const IGNORED: Self = Self { combine: Combine::Ignored, cap: None, spread: Span::ZERO };
    /// Instead of the policy's wait, whatever it says (go-retryablehttp, `client.go`).
    pub const TRUSTED: Self = Self { combine: Combine::Instead, cap: None, spread: Span::ZERO };

    /// The wait, when `own` is what the policy would wait; `None` when there is to be no retry.
    pub(super) fn applied(&self, outcome: &Outcome<'_>, own: Duration, random: &mut Random) -> Option<Duration> {
        let Outcome::Status { status, retry_after: Some(asked) } = *outcome else { return Some(own) };
        let minded = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
        if !minded || self.combine == Combine::Ignored {
            return Some(own);
        }
        if asked == NEVER {
            return None;
        }
        let asked = self.cap.map_or(asked, |cap| asked.min(cap.0));
        let asked = asked.saturating_add(uniform(random, Duration::ZERO..self.spread.0));
        Some(match self.combine {
            Combine::Ignored => own,
            Combine::Instead => asked,
            Combine::Longer => asked.max(own),
            Combine::Sum => asked.saturating_add(own),
        })
    }
}

/// What `grpc-retry-pushback-ms` asks for: a span, or [`NEVER`] for what is negative or no number (grpc/proposal A6).
pub fn pushback(header: &str) -> Duration {
    header.trim().parse().map_or(NEVER, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{asked, random};
    use super::*;

    fn applied(combine: Combine, cap: Option<u64>, status: u16, seconds: u64) -> Option<u64> {
        let rule = RetryAfter { combine, cap: cap.map(Span::secs), spread: Span::ZERO };
        let outcome = asked(1, status, Some(Duration::from_secs(seconds))).outcome;
        rule.applied(&outcome, Duration::from_secs(8), &mut random(0)).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_two_waits_are_put_together() {
        assert_eq!(applied(Combine::Ignored, None, 503, 30), Some(8));
        assert_eq!(applied(Combine::Instead, None, 503, 3), Some(3));
        assert_eq!(applied(Combine::Longer, None, 503, 3), Some(8));
        assert_eq!(applied(Combine::Sum, None, 429, 3), Some(11));
        assert_eq!(applied(Combine::Instead, None, 500, 3), Some(8), "only 429 and 503 ask");
    }

    #[test]
    fn only_a_cap_bounds_what_is_asked() {
        assert_eq!(applied(Combine::Instead, None, 429, 1_000_000), Some(1_000_000));
        assert_eq!(applied(Combine::Instead, Some(60), 429, 1_000_000), Some(60));
    }

    #[test]
    fn a_spread_parts_those_who_were_told_the_same() {
        let rule = RetryAfter { combine: Combine::Instead, cap: None, spread: Span::secs(10) };
        let outcome = asked(1, 503, Some(Duration::from_secs(30))).outcome;
        let waits = [1, 2].map(|seed| rule.applied(&outcome, Duration::ZERO, &mut random(seed)).expect("a retry"));
        assert!(waits[0] != waits[1] && waits.iter().all(|wait| (30..40).contains(&wait.as_secs())), "{waits:?}");
    }

    #[test]
    fn a_negative_pushback_ends_the_call() {
        assert_eq!(pushback("1500"), Duration::from_millis(1_500));
        assert_eq!([pushback("-1"), pushback("soon")], [NEVER; 2]);
        let outcome = asked(1, 503, Some(NEVER)).outcome;
        assert_eq!(RetryAfter::TRUSTED.applied(&outcome, Duration::ZERO, &mut random(0)), None);
    }
}
