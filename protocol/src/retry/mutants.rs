//! Policies with a known wound: each is a sound one with one thing put as some real project has, or had it.

use super::generator::Generator;
use super::heed::{Combine, RetryAfter};
use super::policy::{OnDeadline, OnLease, Policy, Reset, Timer};
use super::presets::Preset;
use super::span::Span;
use super::wait::{Caps, Exponential, Jitter, Overflow, Wait};

/// The mutant of this name.
pub fn find(name: &str) -> Option<Preset> {
    all().into_iter().find(|mutant| mutant.name == name)
}

/// The policy of the mutant of this name.
///
/// # Panics
/// When there is none.
pub fn policy(name: &str) -> Policy {
    find(name).unwrap_or_else(|| panic!("{name} is no mutant")).policy
}

/// What all mutants are but for their wound: full jitter from 1 s to 60 s, a deadline, and Retry-After minded, capped and
/// spread.
pub fn sound() -> Policy {
    Policy {
        retry_after: RetryAfter { combine: Combine::Longer, cap: Some(Span::secs(60)), spread: Span::secs(30) },
        deadline: Some(Span::mins(1)),
        expected: Span::secs(1),
        ..Policy::of(Wait::Exponential(Exponential::doubling(Span::secs(1), Span::secs(60)).jittered(Jitter::Full)))
    }
}

/// What a policy is to be compared with: a mutant with the same policy without its wound, every other policy with
/// [`sound`].
pub fn counterpart(policy: &Policy) -> Policy {
    if all().iter().any(|mutant| mutant.policy == *policy) { healed(policy) } else { sound() }
}

/// A policy with every known wound healed.
fn healed(policy: &Policy) -> Policy {
    let mut healed = Policy {
        generator: Generator::Own,
        reset: Reset::OnSuccess,
        on_deadline: OnDeadline::GivesUp,
        on_lease: OnLease::Stops,
        timer: Timer::Monotonic,
        layers: 1,
        ..policy.clone()
    };
    if healed.retry_after.combine != Combine::Ignored {
        let RetryAfter { cap, spread, .. } = sound().retry_after;
        healed.retry_after = RetryAfter { cap, spread, ..healed.retry_after };
    }
    if let Wait::Exponential(shape) = &mut healed.wait {
        (shape.caps, shape.overflow) = (Caps::BeforeJitter, Overflow::Saturates);
    }
    healed
}

fn mutant(name: &'static str, summary: &'static str, source: &'static str, policy: Policy) -> Preset {
    Preset { name, summary, source, policy }
}

fn shape(base: Span, cap: Span, jitter: Jitter) -> Exponential {
    Exponential::doubling(base, cap).jittered(jitter)
}

/// Every mutant.
pub fn all() -> Vec<Preset> {
    [shapes(), generators(), resets(), servers(), times()].concat()
}

fn shapes() -> Vec<Preset> {
    let half_more = shape(Span::secs(30), Span::secs(30), Jitter::Add(0.5));
    let capped = Exponential { caps: Caps::AfterJitter, ..half_more };
    let short = shape(Span::millis(100), Span::secs(10), Jitter::Full);
    let wraps = Exponential { overflow: Overflow::Wraps, ..short };
    let of = |shape| Policy { deadline: None, ..Policy { wait: Wait::Exponential(shape), ..sound() } };
    vec![
        mutant("mutant-jitter-before-cap", "at the cap nothing is drawn any more", "fleet#53357", of(capped)),
        mutant(
            "mutant-overflow",
            "after some thirty retries the wait wraps around to nothing",
            "2^n in 32 bits",
            of(wraps),
        ),
    ]
}

fn generators() -> Vec<Preset> {
    let with = |generator| Policy { generator, ..sound() };
    vec![
        mutant(
            "mutant-shared-generator",
            "every client starts from the same seed",
            "a seed in a template",
            with(Generator::SameSeed),
        ),
        mutant(
            "mutant-cloned-generator",
            "every call draws the same",
            "tower 0.5, retry/backoff.rs, with one maker for all clients",
            with(Generator::Cloned),
        ),
        mutant(
            "mutant-seeded-by-last",
            "each wait is drawn from a generator seeded with the last one",
            "actions/runner, BackoffTimerHelper.cs",
            with(Generator::LastWait),
        ),
    ]
}

fn resets() -> Vec<Preset> {
    let with = |reset| Policy { reset, ..sound() };
    vec![
        mutant(
            "mutant-reset-each-call",
            "waits start anew with every call, so three attempts of a call never get far",
            "elastic-agent#13874",
            Policy { retries: Some(2), ..with(Reset::EachCall) },
        ),
        mutant(
            "mutant-reset-on-connect",
            "an error of the server resets waits",
            "connected is not served",
            with(Reset::OnConnect),
        ),
        mutant(
            "mutant-nested",
            "three layers of three retries each make 64 attempts",
            "actions/runner, completion of a job: 5 x 5 x 4",
            Policy { layers: 3, retries: Some(3), reset: Reset::EachCall, deadline: None, ..sound() },
        ),
    ]
}

fn servers() -> Vec<Preset> {
    let minds = |cap, spread| RetryAfter { combine: Combine::Instead, cap, spread };
    vec![
        mutant(
            "mutant-trusts-retry-after",
            "waits as long as it is told, be it for years",
            "hashicorp/go-retryablehttp, client.go",
            Policy { retry_after: minds(None, Span::secs(30)), deadline: None, ..sound() },
        ),
        mutant(
            "mutant-retry-after-cluster",
            "all who are told the same come back together",
            "a server that tells everyone 30",
            Policy { retry_after: minds(Some(Span::secs(60)), Span::ZERO), ..sound() },
        ),
    ]
}

fn times() -> Vec<Preset> {
    vec![
        mutant(
            "mutant-sleeps-through-lease",
            "nobody looks at the lease before the wait is over",
            "a renewal in a retry loop",
            Policy { on_lease: OnLease::SleepsThrough, deadline: None, ..sound() },
        ),
        mutant(
            "mutant-after-deadline",
            "retries whose answer nobody waits for",
            "a deadline of the caller that the retry loop does not know",
            Policy { on_deadline: OnDeadline::Ignored, ..sound() },
        ),
        mutant(
            "mutant-wall-timer",
            "a clock that is set stretches or ends waits",
            "wall time for intervals",
            Policy { timer: Timer::Wall, ..sound() },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{asked, waits};
    use super::super::{Composed, Decision, RetryPolicy, presets, testing};
    use super::*;

    #[test]
    fn each_mutant_makes_sense_and_differs_from_the_sound_policy() {
        assert_eq!(sound().check(), Ok(Vec::new()));
        for mutant in all() {
            assert!(mutant.policy.check().is_ok(), "{}", mutant.name);
            assert_ne!(mutant.policy, sound(), "{}", mutant.name);
            assert!(mutant.name.starts_with("mutant-"));
        }
        assert_eq!(all().len(), 13);
    }

    #[test]
    fn each_mutant_is_compared_with_itself_without_its_wound() {
        for mutant in all() {
            let beside = counterpart(&mutant.policy);
            assert_ne!(beside, mutant.policy, "{}", mutant.name);
            assert_eq!(healed(&beside), beside, "{}", mutant.name);
            assert!(beside.check().is_ok_and(|warnings| warnings.is_empty()), "{}", mutant.name);
        }
        assert_eq!(counterpart(&sound()), sound());
        assert_eq!(counterpart(&presets::find("fixed").expect("it is there").policy), sound());
    }

    #[test]
    fn wounds_show_in_the_waits() {
        let of = |name: &str, seed| waits(&find(name).expect(name).policy, seed, 40);
        assert_eq!(of("mutant-jitter-before-cap", 1), [30_000; 40]);
        assert!(of("mutant-overflow", 1)[32..].iter().all(|wait| *wait == 0));
        for name in ["mutant-shared-generator", "mutant-cloned-generator", "mutant-seeded-by-last"] {
            assert_eq!(of(name, 1), of(name, 2), "{name}");
        }
        assert_eq!(of("mutant-nested", 1).len(), 40);
    }

    #[test]
    fn an_unbounded_retry_after_is_obeyed_by_one_alone() {
        let year = std::time::Duration::from_secs(365 * 86_400);
        let wait = |policy: &Policy| Composed::new(policy).decide(&asked(1, 503, Some(year)), &mut testing::random(1));
        let trusting = find("mutant-trusts-retry-after").expect("it is there").policy;
        assert!(matches!(wait(&trusting), Decision::Retry(wait) if wait >= year));
        assert_eq!(wait(&sound()), Decision::GiveUp, "its deadline comes first");
    }
}
