//! What tests of policies share.

use std::time::Duration;

use http::StatusCode;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Attempt, Decision, Outcome, Policy, RetryPolicy};
use crate::clock::Mono;
use crate::random::Random;

pub(super) fn random(seed: u64) -> Random {
    Box::new(ChaCha8Rng::seed_from_u64(seed))
}

/// A failed attempt with this status.
pub(super) fn failed(number: u32, status: u16) -> Attempt<'static> {
    asked(number, status, None)
}

/// A failed attempt with this status and Retry-After.
pub(super) fn asked(number: u32, status: u16, retry_after: Option<Duration>) -> Attempt<'static> {
    let status = StatusCode::from_u16(status).expect("a status");
    Attempt { number, outcome: Outcome::Status { status, retry_after }, elapsed: Duration::ZERO }
}

pub(super) fn at(secs: u64) -> Mono {
    Mono::from_start(Duration::from_secs(secs))
}

/// The waits between attempts that all fail with 503, in milliseconds, until it gives up or `most` are there.
pub(super) fn waits(policy: &Policy, seed: u64, most: u32) -> Vec<u64> {
    waits_of(&mut *policy.start(), seed, most)
}

pub(super) fn waits_of(policy: &mut dyn RetryPolicy, seed: u64, most: u32) -> Vec<u64> {
    let mut random = random(seed);
    let wait = |number| match policy.decide(&failed(number, 503), &mut random) {
        Decision::Retry(wait) => Some(wait.as_millis() as u64),
        Decision::GiveUp => None,
    };
    (1..=most).map_while(wait).collect()
}
