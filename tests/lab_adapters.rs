//! Policies that somebody already has in `backon` are put in unchanged.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use http::StatusCode;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use squall::lab::run::StartCaller;
use squall::lab::{Fleet, Transport, Trial, observe, observe_with};
use squall_protocol::Random;
use squall_protocol::retry::conditions::RetryOn;
use squall_protocol::retry::{Attempt, Caller, Decision, Iterated, Outcome, RetryPolicy, named};

/// The waits of one call that always fails, in milliseconds.
fn waits(policy: &mut dyn RetryPolicy, seed: u64) -> Vec<u64> {
    let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(seed));
    let outcome = Outcome::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };
    let wait = |number| match policy
        .decide(&Attempt { number, outcome: outcome.clone(), elapsed: Duration::ZERO }, &mut random)
    {
        Decision::Retry(wait) => Some(wait.as_millis() as u64),
        Decision::GiveUp => None,
    };
    (1..20).map_while(wait).collect()
}

#[test]
fn backon_waits_as_its_preset_does() {
    let builder = ExponentialBuilder::default();
    let mut policy = Iterated::new(RetryOn::Anything, move |_| builder.build());
    assert_eq!(waits(&mut policy, 1), [1_000, 2_000, 4_000]);
    assert_eq!(waits(&mut *named("backon").expect("a preset").start(), 1), [1_000, 2_000, 4_000]);
}

#[test]
fn backon_with_jitter_draws_from_the_seed_that_it_is_handed() {
    let builder = ExponentialBuilder::default().with_jitter();
    let policy = || Iterated::new(RetryOn::Anything, move |seed| builder.with_jitter_seed(seed).build());
    assert_eq!(waits(&mut policy(), 1), waits(&mut policy(), 1));
    assert_ne!(waits(&mut policy(), 1), waits(&mut policy(), 2));
    for (wait, low) in waits(&mut policy(), 3).into_iter().zip([1_000, 2_000, 4_000]) {
        assert!((low..=2 * low).contains(&wait), "{wait}");
    }
}

#[test]
fn a_fleet_goes_through_a_trial_with_a_policy_that_is_code() {
    let fleet = Fleet { transport: Transport::Exchange, ..Fleet::of(20, named("backon").expect("a preset")) };
    let start: StartCaller = Arc::new(|_| {
        let builder = ExponentialBuilder::default();
        Caller::with(Box::new(Iterated::new(RetryOn::Anything, move |_| builder.build())))
    });
    for trial in [Trial::Rolling, Trial::Brownout] {
        let (code, preset) = (observe_with(&fleet, trial, 1, &start), observe(&fleet, trial, 1));
        assert_eq!(code.record, preset.record, "{trial}");
    }
}
