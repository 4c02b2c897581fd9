//! The client rate limit of AWS's adaptive mode: a token bucket whose rate follows CUBIC.
//!
//! It computes with the four operations of floating-point numbers alone, which are the same on every machine.

use std::time::Duration;

use http::StatusCode;

use super::Valve;
use crate::clock::Mono;
use crate::random::Random;
use crate::retry::{Admission, Outcome};

/// Constants of botocore, `throttling.py`, `bucket.py`, `adaptive.py`.
const SCALE: f64 = 0.4;
const BETA: f64 = 0.7;
const MIN_RATE: f64 = 0.5;
const SMOOTHING: f64 = 0.8;
/// The rate is measured over half seconds.
const BUCKETS_PER_SECOND: f64 = 2.0;
const MAX_RATE_SCALE: f64 = 2.0;
const START_RATE: f64 = 1.0;

#[derive(Debug)]
pub(super) struct Cubic {
    /// Only a throttling answer turns the limit on.
    enabled: bool,
    w_max: f64,
    k: f64,
    last_fail: f64,
    measured: f64,
    last_bucket: f64,
    count: f64,
    fill_rate: f64,
    most: f64,
    tokens: f64,
    filled_at: Option<f64>,
}

impl Default for Cubic {
    fn default() -> Self {
        Self {
            enabled: false,
            w_max: 0.0,
            k: 0.0,
            last_fail: 0.0,
            measured: 0.0,
            last_bucket: 0.0,
            count: 0.0,
            fill_rate: START_RATE,
            most: START_RATE,
            tokens: 0.0,
            filled_at: None,
        }
    }
}

impl Cubic {
    fn answered(&mut self, throttled: bool, now: f64) {
        self.measure(now);
        let rate = if throttled {
            let rate = if self.enabled { self.measured.min(self.fill_rate) } else { self.measured };
            self.enabled = true;
            self.w_max = rate;
            self.k = cube_root(self.w_max * (1.0 - BETA) / SCALE);
            self.last_fail = now;
            rate * BETA
        } else {
            let since = now - self.last_fail - self.k;
            SCALE * since * since * since + self.w_max
        };
        self.set_rate(rate.min(MAX_RATE_SCALE * self.measured), now);
    }

    fn measure(&mut self, now: f64) {
        let bucket = (now * BUCKETS_PER_SECOND).floor() / BUCKETS_PER_SECOND;
        self.count += 1.0;
        if bucket > self.last_bucket {
            let current = self.count / (bucket - self.last_bucket);
            self.measured = current * SMOOTHING + self.measured * (1.0 - SMOOTHING);
            self.count = 0.0;
            self.last_bucket = bucket;
        }
    }

    fn set_rate(&mut self, rate: f64, now: f64) {
        self.fill(now);
        self.fill_rate = rate.max(MIN_RATE);
        self.most = if rate >= 1.0 { rate } else { 1.0 };
        self.tokens = self.tokens.min(self.most);
    }

    fn fill(&mut self, now: f64) {
        if let Some(at) = self.filled_at {
            self.tokens = self.most.min(self.tokens + (now - at) * self.fill_rate);
        }
        self.filled_at = Some(now);
    }
}

impl Valve for Cubic {
    fn admit(&mut self, now: Mono, _: &mut Random) -> Admission {
        if !self.enabled {
            return Admission::Send;
        }
        self.fill(seconds(now));
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            return Admission::Send;
        }
        Admission::After(Duration::from_nanos((-self.tokens / self.fill_rate * 1e9) as u64))
    }

    fn failed(&mut self, outcome: &Outcome<'_>, now: Mono) {
        self.answered(is_throttling(outcome), seconds(now));
    }

    fn succeeded(&mut self, now: Mono) {
        self.answered(false, seconds(now));
    }
}

fn seconds(now: Mono) -> f64 {
    now.since_start().as_nanos() as f64 / 1e9
}

/// What botocore's error codes come to where there are statuses only.
fn is_throttling(outcome: &Outcome<'_>) -> bool {
    let throttling = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    matches!(outcome, Outcome::Status { status, .. } if throttling.contains(status))
}

/// By Newton's method.
fn cube_root(of: f64) -> f64 {
    if of <= 0.0 {
        return 0.0;
    }
    let mut root = if of > 1.0 { of } else { 1.0 };
    for _ in 0..200 {
        root = (2.0 * root + of / (root * root)) / 3.0;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::testing::{failed, random};

    fn at(millis: u64) -> Mono {
        Mono::from_start(Duration::from_millis(millis))
    }

    #[test]
    fn cube_roots_are_right() {
        for root in [0.001, 0.5, 1.0, 3.0, 1_000.0] {
            assert!((cube_root(root * root * root) - root).abs() < 1e-9 * (1.0 + root));
        }
        assert_eq!(cube_root(0.0), 0.0);
    }

    #[test]
    fn nothing_is_limited_before_the_first_throttling_answer() {
        let (mut limit, mut random) = (Cubic::default(), random(0));
        for n in 0..1_000 {
            assert_eq!(limit.admit(at(n), &mut random), Admission::Send);
            limit.failed(&failed(1, 500).outcome, at(n));
        }
    }

    #[test]
    fn a_throttling_answer_takes_three_tenths_of_the_rate() {
        let mut limit = Cubic::default();
        for n in 1..=40 {
            limit.succeeded(at(n * 100));
        }
        let before = limit.measured;
        limit.failed(&failed(1, 429).outcome, at(4_050));
        assert!((limit.fill_rate - before * BETA).abs() < 1e-9, "{} of {before}", limit.fill_rate);
        // After K seconds without failure the rate is back where it was.
        let back = SCALE * 0.0 + limit.w_max;
        assert!((back - before).abs() < 1e-9);
    }

    #[test]
    fn attempts_wait_for_their_token() {
        let (mut limit, mut random) = (Cubic::default(), random(0));
        limit.failed(&failed(1, 429).outcome, at(0));
        assert_eq!(limit.fill_rate, MIN_RATE);
        assert_eq!(limit.admit(at(0), &mut random), Admission::After(Duration::from_secs(2)));
        assert_eq!(limit.admit(at(0), &mut random), Admission::After(Duration::from_secs(4)));
    }
}
