//! The policies of real projects and papers, with their formulas and constants.

use super::breaker::{Breaker, Stops};
use super::budget::Budget;
use super::caller::Hedge;
use super::conditions::RetryOn;
use super::generator::Generator;
use super::heed::{Combine, RetryAfter};
use super::policy::{Policy, Reset};
use super::retryable_http::{self, WAIT_MAX, WAIT_MIN};
use super::span::Span;
use super::throttle::Throttle;
use super::wait::{Caps, Exponential, Jitter, Stage, Wait};
use crate::distributed_task::http_retry::{MIN_BACKOFF, RETRIES, TOKEN_RETRIES};

/// A policy with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Where its formula and its constants come from.
    pub source: &'static str,
    /// The policy.
    pub policy: Policy,
}

/// The preset of this name.
pub fn find(name: &str) -> Option<Preset> {
    all().into_iter().find(|preset| preset.name == name)
}

/// Every preset.
pub fn all() -> Vec<Preset> {
    [baselines(), aws(), budgets(), libraries(), agents(), tools()].concat()
}

const SIMULATOR: &str = "AWS, backoff_simulator.py";

fn preset(name: &'static str, summary: &'static str, source: &'static str, policy: Policy) -> Preset {
    Preset { name, summary, source, policy }
}

fn doubling(base: Span, cap: Span, jitter: Jitter) -> Policy {
    Policy::of(Wait::Exponential(Exponential::doubling(base, cap).jittered(jitter)))
}

/// What libraries do: a limit for each call, and each call starts anew.
fn limited(retries: u32, policy: Policy) -> Policy {
    Policy { retries: Some(retries), reset: Reset::EachCall, ..policy }
}

fn uniform(from: u64, to: u64) -> Policy {
    Policy::of(Wait::Stages(vec![stage(u32::MAX, from, to)]))
}

const fn stage(times: u32, from: u64, to: u64) -> Stage {
    Stage { times, from: Span::secs(from), to: Span::secs(to) }
}

/// Waits of 1 s to 60 s, so that shapes can be compared.
fn baselines() -> Vec<Preset> {
    let (base, cap) = (Span::secs(1), Span::secs(60));
    vec![
        preset("none", "retries at once", "baseline", Policy::of(Wait::None)),
        preset("fixed", "10 s", "baseline", Policy::of(Wait::Fixed { wait: Span::secs(10) })),
        preset("linear", "1 s more each time, at most 60 s", "baseline", Policy::of(Wait::Linear { step: base, cap })),
        preset("exponential", "1 s doubling to 60 s, no jitter", SIMULATOR, doubling(base, cap, Jitter::None)),
        preset(
            "equal-jitter",
            "half of 1 s doubling to 60 s, and a drawn half",
            SIMULATOR,
            doubling(base, cap, Jitter::Equal),
        ),
        preset("full-jitter", "drawn from 0 to 1 s doubling to 60 s", SIMULATOR, doubling(base, cap, Jitter::Full)),
        preset(
            "decorrelated",
            "drawn from 1 s to three times the last wait, at most 60 s",
            SIMULATOR,
            Policy::of(Wait::Decorrelated { base, cap }),
        ),
    ]
}

fn aws() -> Vec<Preset> {
    let standard = Policy {
        budget: Some(Budget::Quota { tokens: 500, cost: 5, timeout_cost: 10 }),
        ..limited(2, doubling(Span::secs(1), Span::secs(20), Jitter::Full))
    };
    let adaptive = Policy { throttle: Some(Throttle::Cubic), ..standard.clone() };
    vec![
        preset(
            "aws-standard",
            "3 attempts, full jitter of 1 s doubling to 20 s, a quota of 500 tokens",
            "botocore, retries/standard.py, retries/quota.py",
            standard,
        ),
        preset(
            "aws-adaptive",
            "the same, with a client rate limit by CUBIC after the first throttling answer",
            "botocore, retries/adaptive.py, throttling.py, bucket.py",
            adaptive,
        ),
    ]
}

fn budgets() -> Vec<Preset> {
    let second = || doubling(Span::secs(1), Span::secs(60), Jitter::Full);
    let three = || limited(3, second());
    let breaker = Breaker { percent: 10, window: Span::secs(60), at_least: 1, stops: Stops::Retries };
    vec![
        preset(
            "grpc",
            "4 attempts, full jitter of 100 ms doubling to 1 s, no retries at half of 10 tokens, pushback obeyed",
            "grpc/proposal A6",
            Policy {
                budget: Some(Budget::Throttling { tokens: 10, ratio: 0.1 }),
                retry_after: RetryAfter::TRUSTED,
                ..limited(3, doubling(Span::millis(100), Span::secs(1), Jitter::Full))
            },
        ),
        preset(
            "finagle-budget",
            "3 retries within 20 % of the requests of 10 s and 10 a second",
            "Finagle, RetryBudget.scala; tower 0.5, retry/budget/tps_budget.rs",
            Policy { budget: Some(Budget::Window { window: Span::secs(10), per_second: 10, share: 0.2 }), ..three() },
        ),
        preset(
            "envoy-budget",
            "3 retries within 20 % of the requests under way and 3 at once",
            "Envoy, circuit_breaker.proto",
            Policy { budget: Some(Budget::Concurrency { share: 0.2, concurrent: 3 }), ..three() },
        ),
        preset(
            "token-bucket",
            "3 retries, each paid with what ten successes give, at most 5 saved",
            "brooker.co.za, 2022-02-28, retry_sim.py",
            Policy { budget: Some(Budget::TokenBucket { tokens: 5, ratio: 0.1 }), ..three() },
        ),
        preset(
            "circuit-breaker",
            "3 retries, none while more than 10 % of a minute's attempts fail",
            "brooker.co.za, 2022-02-28, retry_sim.py",
            Policy { breaker: Some(breaker), ..three() },
        ),
        preset(
            "sre-adaptive",
            "rejects its own attempts in proportion to what fails, K = 2 over 2 min",
            "Site Reliability Engineering, Handling Overload",
            Policy { throttle: Some(Throttle::Sre { k: 2.0, window: Span::mins(2) }), ..three() },
        ),
        preset(
            "deadline",
            "full jitter within one deadline of 60 s over all attempts, none with less than 1 s left",
            "grpc/proposal A6, call deadlines",
            Policy { deadline: Some(Span::mins(1)), expected: Span::secs(1), ..second() },
        ),
        preset(
            "hedging",
            "a second copy after 100 ms without an answer",
            "Dean and Barroso, The Tail at Scale; grpc/proposal A6",
            Policy { hedge: Some(Hedge { after: Span::millis(100), copies: 2 }), ..three() },
        ),
    ]
}

fn libraries() -> Vec<Preset> {
    let steps = |factor| {
        let shape = Exponential { factor, ..Exponential::doubling(Span::millis(10), Span::ENDLESS) };
        Policy::of(Wait::Exponential(shape.jittered(Jitter::Add(0.1))))
    };
    let queue = doubling(Span::millis(5), Span::secs(1_000), Jitter::None);
    let queue = Policy { throttle: Some(Throttle::Pace { per_second: 10, burst: 100 }), ..queue };
    let hashicorp = limited(retryable_http::RETRIES, doubling(Span(WAIT_MIN), Span(WAIT_MAX), Jitter::None));
    let tower = doubling(Span::millis(50), Span::ENDLESS, Jitter::Add(0.99));
    let backon =
        |jitter| limited(3, Policy { retry_on: RetryOn::Anything, ..doubling(Span::secs(1), Span::secs(60), jitter) });
    vec![
        preset(
            "client-go",
            "5 attempts 10 ms apart with 10 % jitter",
            "client-go, util/retry DefaultRetry",
            limited(4, steps(1.0)),
        ),
        preset(
            "client-go-backoff",
            "4 attempts, 10 ms times 5 each with 10 % jitter",
            "client-go, util/retry DefaultBackoff",
            limited(3, steps(5.0)),
        ),
        preset(
            "client-go-queue",
            "5 ms doubling to 1000 s without jitter, and 10 a second after 100",
            "client-go, util/workqueue/default_rate_limiters.go",
            queue,
        ),
        preset(
            "go-retryablehttp",
            "5 attempts, 1 s doubling to 30 s without jitter, Retry-After trusted",
            "hashicorp/go-retryablehttp, client.go",
            Policy { retry_after: RetryAfter::TRUSTED, ..hashicorp },
        ),
        preset(
            "backon",
            "4 attempts, 1 s doubling to 60 s, no jitter",
            "backon 1.6, exponential.rs",
            backon(Jitter::None),
        ),
        preset(
            "backon-jitter",
            "the same, and up to as much again after the cap",
            "backon 1.6, exponential.rs",
            backon(Jitter::Add(1.0)),
        ),
        preset(
            "tower",
            "50 ms doubling with 99 % jitter, capped after it; a client's generator is cloned for each of its calls",
            "tower 0.5, retry/backoff.rs",
            as_tower(tower),
        ),
        preset(
            "fdb-reconnect",
            "100 ms doubling to 30 s",
            "FoundationDB, as moonpool has it",
            doubling(Span::millis(100), Span::secs(30), Jitter::None),
        ),
    ]
}

/// What is peculiar about tower besides the numbers.
fn as_tower(policy: Policy) -> Policy {
    let Wait::Exponential(shape) = policy.wait else { unreachable!("tower's back-off is exponential") };
    let wait = Wait::Exponential(Exponential { caps: Caps::AfterJitter, ..shape });
    Policy { wait, generator: Generator::OwnCloned, reset: Reset::EachCall, ..policy }
}

fn agents() -> Vec<Preset> {
    let vss = |shortest, retries, retry_on| Policy { retry_on, ..limited(retries, Policy::of(Wait::Vss { shortest })) };
    let elastic = Exponential {
        first_extra: Span::secs(120),
        ..Exponential::doubling(Span::secs(60), Span::mins(10)).jittered(Jitter::Around)
    };
    vec![
        preset(
            "vss-http-retry",
            "4 attempts, 10 s and more, up to 10 min, after 502, 503 and 504",
            "actions/runner, VssHttpRetryOptions.cs, VssUtil.cs",
            vss(Span(MIN_BACKOFF), RETRIES, RetryOn::Vss),
        ),
        preset(
            "vss-http-retry-token",
            "6 attempts, after 429 and 500 as well",
            "actions/runner, VssOAuthTokenHttpClient.cs",
            vss(Span(MIN_BACKOFF), TOKEN_RETRIES, RetryOn::VssToken),
        ),
        preset(
            "vss-http-retry-low",
            "60 attempts for calls of low priority, 20 s and more",
            "actions/runner, VssHttpRetryMessageHandler.cs",
            vss(Span(MIN_BACKOFF.saturating_mul(2)), (TOKEN_RETRIES + 1) * 10 - 1, RetryOn::Vss),
        ),
        preset(
            "runner-poll",
            "15 to 30 s five times, then 30 to 60 s, the same chain on every machine",
            "actions/runner, MessageListener.cs, BackoffTimerHelper.cs",
            Policy::of(Wait::RunnerPoll),
        ),
        preset(
            "runner-session",
            "30 s between attempts to create a session",
            "actions/runner, MessageListener.cs",
            Policy { retry_on: RetryOn::Anything, ..Policy::of(Wait::Fixed { wait: Span::secs(30) }) },
        ),
        preset(
            "azure-progressive",
            "3 s doubling to 300 s without jitter",
            "azure-pipelines-agent, MessageListener.cs",
            doubling(Span::secs(3), Span::mins(5), Jitter::None),
        ),
        preset(
            "azure-lock-renewal",
            "5 to 15 s five times, then 15 to 30 s",
            "azure-pipelines-agent, JobDispatcher.cs",
            Policy::of(Wait::Stages(vec![stage(5, 5, 15), stage(u32::MAX, 15, 30)])),
        ),
        preset(
            "elastic-agent",
            "60 s doubling to 10 min, half of it and as much again drawn; 0 to 120 s more at first",
            "elastic-agent#13874",
            Policy { reset: Reset::EachCall, ..Policy::of(Wait::Exponential(elastic)) },
        ),
        preset(
            "fleet",
            "30 s doubling to 15 min, and up to as much again",
            "fleet#53357, fleet#46674",
            doubling(Span::secs(30), Span::mins(15), Jitter::Add(1.0)),
        ),
    ]
}

fn tools() -> Vec<Preset> {
    let curl = Policy {
        retry_on: RetryOn::Curl,
        retry_after: RetryAfter { combine: Combine::Longer, ..RetryAfter::TRUSTED },
        ..limited(3, doubling(Span::secs(1), Span::mins(10), Jitter::None))
    };
    vec![
        preset("curl", "--retry 3: 1 s doubling to 10 min, not after a reset", "curl, tool_operate.c", curl.clone()),
        preset(
            "curl-all-errors",
            "--retry 3 --retry-all-errors",
            "curl, tool_operate.c",
            Policy { retry_on: RetryOn::Anything, ..curl },
        ),
        preset(
            "tool-cache",
            "3 attempts, 10 to 20 s apart",
            "actions/toolkit, tool-cache",
            Policy { retry_on: RetryOn::ToolCache, ..limited(2, uniform(10, 20)) },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::RetryPolicy;
    use super::super::testing::{failed, random, waits};
    use super::*;

    fn of(name: &str, seed: u64) -> Vec<u64> {
        waits(&find(name).expect(name).policy, seed, 12)
    }

    #[test]
    fn names_are_unique_and_every_preset_makes_sense() {
        let names: BTreeSet<&str> = all().iter().map(|preset| preset.name).collect();
        assert_eq!(names.len(), all().len());
        assert!(names.len() >= 30, "{}", names.len());
        for preset in all() {
            preset.policy.check().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert!(!preset.summary.is_empty() && !preset.source.is_empty(), "{}", preset.name);
        }
    }

    #[test]
    fn policies_without_jitter_are_their_formulas() {
        assert_eq!(of("exponential", 1)[..7], [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
        assert_eq!(of("go-retryablehttp", 1), [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(of("azure-progressive", 1)[..8], [3_000, 6_000, 12_000, 24_000, 48_000, 96_000, 192_000, 300_000]);
        assert_eq!(of("backon", 1), [1_000, 2_000, 4_000]);
        assert_eq!(of("curl", 1), [1_000, 2_000, 4_000]);
        assert_eq!(of("fdb-reconnect", 1)[..3], [100, 200, 400]);
        assert_eq!(of("runner-session", 1)[..3], [30_000; 3]);
        assert_eq!(of("client-go-queue", 1)[..5], [5, 10, 20, 40, 80]);
        assert_eq!(of("runner-poll", 1)[..6], [25_893, 28_273, 18_857, 16_505, 20_340, 55_714]);
    }

    #[test]
    fn drawn_waits_lie_in_their_ranges() {
        let ranges: [(&str, &[(u64, u64)]); 9] = [
            ("aws-standard", &[(0, 1_000), (0, 2_000)]),
            ("grpc", &[(0, 100), (0, 200), (0, 400)]),
            ("client-go", &[(10, 11); 4]),
            ("client-go-backoff", &[(10, 11), (50, 55), (250, 275)]),
            ("backon-jitter", &[(1_000, 2_000), (2_000, 4_000), (4_000, 8_000)]),
            ("tool-cache", &[(10_000, 20_000); 2]),
            ("vss-http-retry", &[(10_800, 11_200), (12_400, 13_600), (15_600, 18_400)]),
            ("elastic-agent", &[(30_000, 210_000), (60_000, 180_000), (120_000, 360_000)]),
            ("fleet", &[(30_000, 60_000), (60_000, 120_000), (120_000, 240_000)]),
        ];
        for (name, ranges) in ranges {
            for seed in 0..50 {
                for (wait, (low, high)) in of(name, seed).iter().zip(ranges) {
                    assert!((low..=high).contains(&wait), "{name} waits {wait} ms");
                }
            }
        }
    }

    #[test]
    fn limits_are_those_of_the_projects() {
        let attempts = [
            ("aws-standard", 3),
            ("grpc", 4),
            ("client-go", 5),
            ("client-go-backoff", 4),
            ("go-retryablehttp", 5),
            ("vss-http-retry", 4),
            ("vss-http-retry-token", 6),
            ("tool-cache", 3),
            ("token-bucket", 4),
            ("curl", 4),
        ];
        for (name, attempts) in attempts {
            assert_eq!(of(name, 0).len() + 1, attempts, "{name}");
        }
    }

    #[test]
    fn tower_draws_the_same_in_every_call_of_a_client_and_backon_does_not() {
        for (name, alike) in [("tower", true), ("backon-jitter", false)] {
            let mut policy = find(name).expect("a preset").policy.start();
            let mut random = random(1);
            let mut call = || {
                policy.admit(1, &mut random);
                let decided = (1..4).map(|number| policy.decide(&failed(number, 503), &mut random));
                decided.collect::<Vec<_>>()
            };
            assert_eq!(call() == call(), alike, "{name}");
            assert_ne!(of(name, 1), of(name, 2), "clients draw for themselves");
        }
    }
}
