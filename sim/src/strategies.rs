//! What goes wrong and what an agent does about it, as strategies for `proptest!`: fault plans, clocks, retry policies.
//! All of them are plain data, and shrink as other values do.
//!
//! ```
//! use proptest::prelude::*;
//! use squall_sim::strategies::{clocks, faults, policies};
//! use std::time::Duration;
//!
//! let plans = faults(["agent"], ["server"], Duration::from_secs(600));
//! let drawn = (plans, clocks(Duration::from_secs(600)), policies());
//! # let mut runner = proptest::test_runner::TestRunner::deterministic();
//! # runner.run(&drawn, |(plan, clock, policy)| {
//! #     prop_assert!(plan.heal_at_ms == 600_000 && clock.steps.len() <= 4 && policy.check().is_ok());
//! #     Ok(())
//! # }).expect("they are as promised");
//! ```

use std::time::Duration;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::{Deserialize, Serialize};
use squall_protocol::retry::budget::Budget;
use squall_protocol::retry::heed::{Combine, RetryAfter};
use squall_protocol::retry::wait::{Exponential, Jitter, Wait};
use squall_protocol::retry::{Policy, Span};

use crate::fault::Swarm;
use crate::fault::families::families;
use crate::furnish::SERVICE;
use crate::node::Node;
use crate::time::SimTime;

/// The most faults of a plan.
const FAULTS_MAX: usize = 8;
/// The most jumps of a clock.
const STEPS_MAX: usize = 4;
/// How far a clock is off, at most: a day.
const AHEAD_MS_MAX: i64 = 86_400_000;
/// How fast or slow a clock runs, at most: one second in ten.
const DRIFT_PPM_MAX: i32 = 100_000;
/// The longest wait of a policy.
const CAP_MS_MAX: u64 = 600_000;

/// Plans with up to eight faults of all families but `suspend`, which act on these agents and servers (of
/// [`World::agent`](crate::World::agent) and [`World::server`](crate::World::server)) before `heal_at`.
///
/// What comes is a [`Swarm`], whose fields can still be changed, and which is a strategy by itself.
pub fn faults<'a>(
    agents: impl IntoIterator<Item = &'a str>,
    servers: impl IntoIterator<Item = &'a str>,
    heal_at: Duration,
) -> Swarm {
    let heal_at_ms = heal_at.as_millis() as u64;
    let nodes: Vec<String> = agents.into_iter().map(str::to_owned).collect();
    Swarm {
        services: nodes.iter().map(|node| (node.clone(), SERVICE.to_owned())).collect(),
        nodes,
        peers: servers.into_iter().map(str::to_owned).collect(),
        families: families().filter(|family| *family != "suspend").map(str::to_owned).collect(),
        begin_ms: 0..heal_at_ms,
        heal_at_ms,
        faults_max: FAULTS_MAX,
        ..Swarm::default()
    }
}

/// How the clock of one machine is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongClock {
    /// How far wall time is ahead of true time from the beginning, in milliseconds; behind it if negative.
    pub ahead_ms: i64,
    /// How much both clocks run fast, in millionths; slow if negative.
    pub drift_ppm: i32,
    /// Jumps of wall time.
    pub steps: Vec<ClockStep>,
}

/// A jump of wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// When, in milliseconds of true time.
    pub at_ms: u64,
    /// Forward if positive, back if negative.
    pub by_ms: i64,
}

impl WrongClock {
    /// Makes a machine's clock as wrong as this.
    pub fn set(&self, node: &Node) {
        let nanos = |ms: i64| ms.saturating_mul(1_000_000);
        let clock = node.node_clock();
        clock.step_wall(nanos(self.ahead_ms));
        clock.set_drift_ppm(self.drift_ppm);
        for ClockStep { at_ms, by_ms } in self.steps.clone() {
            let (world, clock) = (node.world().clone(), clock.clone());
            node.world().spawn(&format!("the clock of {} jumps", node.name()), async move {
                world.sleep_until(SimTime::from_millis(at_ms)).await;
                clock.step_wall(nanos(by_ms));
            });
        }
    }
}

/// Clocks that are up to a day off, run up to a tenth fast or slow, and jump up to four times `within` this time. The
/// simplest one is right.
pub fn clocks(within: Duration) -> impl Strategy<Value = WrongClock> {
    let within_ms = (within.as_millis() as u64).max(1);
    let off = || -AHEAD_MS_MAX..=AHEAD_MS_MAX;
    let step = (0..within_ms, off()).prop_map(|(at_ms, by_ms)| ClockStep { at_ms, by_ms });
    let steps = proptest::collection::vec(step, 0..=STEPS_MAX);
    (off(), -DRIFT_PPM_MAX..=DRIFT_PPM_MAX, steps).prop_map(|(ahead_ms, drift_ppm, steps)| WrongClock {
        ahead_ms,
        drift_ppm,
        steps,
    })
}

/// Retry policies that make sense: fixed, linear, exponential and decorrelated waits with every kind of jitter, with and
/// without a limit, a budget and an ear for Retry-After. The simplest one waits for one millisecond, again and again.
pub fn policies() -> impl Strategy<Value = Policy> {
    let retries = option::of(1..=20_u32);
    (waits(), retries, retry_after(), option::of(budgets())).prop_map(|(wait, retries, retry_after, budget)| Policy {
        retries,
        retry_after,
        budget,
        ..Policy::of(wait)
    })
}

fn waits() -> impl Strategy<Value = Wait> {
    prop_oneof![
        (1..=60_000_u64).prop_map(|wait| Wait::Fixed { wait: Span::millis(wait) }),
        base_and_cap().prop_map(|(step, cap)| Wait::Linear { step, cap }),
        (base_and_cap(), jitter())
            .prop_map(|((base, cap), jitter)| { Wait::Exponential(Exponential::doubling(base, cap).jittered(jitter)) }),
        base_and_cap().prop_map(|(base, cap)| Wait::Decorrelated { base, cap }),
    ]
}

fn base_and_cap() -> impl Strategy<Value = (Span, Span)> {
    let base = 1..=10_000_u64;
    base.prop_flat_map(|base| (Just(Span::millis(base)), (base..=CAP_MS_MAX).prop_map(Span::millis)))
}

fn jitter() -> impl Strategy<Value = Jitter> {
    select(vec![Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Around, Jitter::Add(0.1), Jitter::Add(1.0)])
}

fn retry_after() -> impl Strategy<Value = RetryAfter> {
    let combine = select(vec![Combine::Ignored, Combine::Longer, Combine::Instead, Combine::Sum]);
    let span = |most: u64| (0..=most).prop_map(Span::millis);
    (combine, option::of(span(CAP_MS_MAX)), span(60_000)).prop_map(|(combine, cap, spread)| match combine {
        Combine::Ignored => RetryAfter::IGNORED,
        combine => RetryAfter { combine, cap, spread },
    })
}

fn budgets() -> impl Strategy<Value = Budget> {
    let share = || select(vec![0.1, 0.2, 0.5]);
    prop_oneof![
        (1..=20_u32, share()).prop_map(|(tokens, ratio)| Budget::TokenBucket { tokens, ratio }),
        (2..=20_u32, share()).prop_map(|(tokens, ratio)| Budget::Throttling { tokens, ratio }),
        (5..=500_u32).prop_map(|tokens| Budget::Quota { tokens, cost: 5, timeout_cost: 10 }),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::trace::Keep;
    use crate::world;

    proptest! {
        #[test]
        fn policies_make_sense(policy in policies()) {
            prop_assert!(policy.check().is_ok(), "{policy:?}");
        }
    }

    /// What a machine's wall clock is ahead after ten minutes, in milliseconds.
    fn ahead(wrong: &WrongClock) -> i64 {
        let ahead = Arc::new(AtomicI64::new(i64::MAX));
        world::run(1, Keep::Digest, SimTime::from_millis(600_001), |world| {
            let node = world.node("a");
            wrong.set(&node);
            let (now, clock, ahead) = (world.clone(), node.node_clock().clone(), ahead.clone());
            world.spawn("reading", async move {
                now.sleep_until(SimTime::from_millis(600_000)).await;
                ahead.store(clock.wall_ahead_nanos() / 1_000_000, Ordering::Relaxed);
            });
        });
        ahead.load(Ordering::Relaxed)
    }

    #[test]
    fn a_clock_is_as_wrong_as_it_was_drawn() {
        let steps = vec![ClockStep { at_ms: 1_000, by_ms: 500 }, ClockStep { at_ms: 599_000, by_ms: -2_000 }];
        assert_eq!(ahead(&WrongClock { ahead_ms: 60_000, drift_ppm: 0, steps }), 58_500);
        assert_eq!(ahead(&WrongClock { drift_ppm: 1_000, ..WrongClock::default() }), 600);
        assert_eq!(ahead(&WrongClock::default()), 0);
    }

    #[test]
    fn the_simplest_clock_is_right() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut tree = clocks(Duration::from_secs(60)).new_tree(&mut runner).expect("a clock");
        while proptest::strategy::ValueTree::simplify(&mut tree) {}
        assert_eq!(proptest::strategy::ValueTree::current(&tree), WrongClock::default());
    }
}
