//! `bkci-agent-reuse`: what random seeds find, and the incident from a case written by hand.

#[path = "incidents/bkci_agent_reuse.rs"]
mod scripted;

use std::collections::BTreeSet;

use scripted::incident;
use serde_json::json;
use squall::bkci_agent_reuse::BkciAgentReuse;
use squall_protocol::Fact;
use squall_sim::SimTime;
use squall_sim::case::Case;
use squall_sim::trace::Keep;
use squall_sim::trial::{self, Trial};
use squall_sim::verdict::Severity;

fn run(case: &Case) -> Trial {
    trial::run(&BkciAgentReuse, case, Keep::Events).expect("a case that fits")
}

fn broken(trial: &Trial) -> BTreeSet<&str> {
    trial.outcome.verdict.findings.iter().map(|finding| finding.invariant.as_str()).collect()
}

/// When a fact happened for the first time after an instant.
fn first_after(trial: &Trial, after: SimTime, wanted: impl Fn(&Fact) -> bool) -> SimTime {
    let journal = &trial.ended.journal;
    let found = journal.iter().find(|entry| entry.at > after && wanted(&entry.fact));
    found.unwrap_or_else(|| panic!("not after {after}: {:#?}", trial.outcome.verdict)).at
}

#[test]
fn a_late_copy_of_an_end_takes_the_agent_from_the_next_attempt() {
    let upstream = run(&incident("upstream"));
    let ends = |attempt: u32| {
        move |fact: &Fact| match fact {
            Fact::JobReported { job, attempt: told, .. } => &*job.0 == "build-1" && *told == attempt,
            _ => false,
        }
    };
    let reuse = |lock: &squall_protocol::facts::Lock| lock.0.starts_with("agent:reuse");
    let first_end = first_after(&upstream, SimTime::ZERO, ends(1));
    let retried = first_after(&upstream, first_end, |fact| matches!(fact, Fact::WorkerBegan { attempt: 2, .. }));
    // The copy of attempt 1's end, while attempt 2 works.
    let second_end = first_after(&upstream, retried, ends(1));
    let unlocked =
        first_after(&upstream, retried, |fact| matches!(fact, Fact::LockReleased { lock, .. } if reuse(lock)));
    let taken = first_after(
        &upstream,
        unlocked,
        |fact| matches!(fact, Fact::LockTaken { lock, holder, .. } if reuse(lock) && &*holder.0 == "build-2"),
    );
    let used =
        first_after(&upstream, taken, |fact| matches!(fact, Fact::WorkerBegan { owner, .. } if &*owner.0 == "build-2"));
    assert!(second_end <= unlocked && unlocked < taken && taken < used);
    for invariant in ["no-effect-after-end", "exclusive-use"] {
        assert!(broken(&upstream).contains(invariant), "{:?}", broken(&upstream));
    }
    let hardened = run(&incident("hardened"));
    assert_eq!(hardened.outcome.verdict.severity(), Severity::Pass, "{:?}", hardened.outcome.verdict);
}

#[test]
fn one_choice_put_back_is_enough_for_the_incident() {
    let alone = run(&incident("bkci.event-attempt"));
    // The worker hears that its build has ended, and its job never gets a result.
    assert!(broken(&alone).contains("queued-job-ends"), "{:?}", broken(&alone));
}

#[test]
fn a_bot_retries_what_failed_and_not_what_was_cancelled() {
    let mut case = incident("hardened");
    case.plan.faults.clear();
    let build = &mut case.workload["builds"][0];
    build["retry_at_ms"] = json!([]);
    build["bot"] = json!({"looks_every_ms": 10_000, "retries": 1});
    let retried = |case: &Case| {
        let again = |fact: &Fact| matches!(fact, Fact::JobStarted { attempt: 2, .. });
        run(case).ended.journal.iter().any(|entry| again(&entry.fact))
    };
    assert!(retried(&case));
    case.workload["builds"][0]["cancel_at_ms"] = json!(120_000);
    assert!(!retried(&case));
}

#[test]
fn random_seeds_catch_upstream_in_several_ways_and_leave_hardened_clean() {
    let mut caught = BTreeSet::new();
    for seed in 0..25 {
        let upstream = trial::run_seed(&BkciAgentReuse, "upstream", seed);
        caught.extend(upstream.verdict.findings.iter().map(|finding| finding.fingerprint()));
    }
    assert!(caught.len() >= 5, "{caught:?}");
    for seed in 0..15 {
        let hardened = trial::run_seed(&BkciAgentReuse, "hardened", seed);
        assert_eq!(hardened.verdict.severity(), Severity::Pass, "seed {seed}: {:?}", hardened.verdict);
    }
}
