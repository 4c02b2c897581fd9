//! `actions-idle-runner`: what random seeds find, and the timings of the incident from plans written by hand.

#[path = "incidents/actions_idle_runner.rs"]
mod scripted;

use std::collections::BTreeSet;
use std::time::Duration;

use scripted::{RUNNER, TROUBLE_MS, fault, incident, one_runner as case};
use serde_json::json;
use squall::actions_idle_runner::ActionsIdleRunner;
use squall_protocol::Fact;
use squall_sim::SimTime;
use squall_sim::case::Case;
use squall_sim::fault::{Fault, FaultKind, When};
use squall_sim::trace::{Keep, What};
use squall_sim::trial::{self, Trial};
use squall_sim::verdict::Severity;

fn kill() -> Fault {
    fault(FaultKind::Kill { service: "runner".to_owned() }, RUNNER, None, 0)
}

fn unavailable(node: &str, route: &str, status: u16, for_ms: u64) -> Fault {
    let kind = FaultKind::Status { status, when: When::BeforeCommit, retry_after: None, percent: 100 };
    fault(kind, node, Some(route), for_ms)
}

fn long_job() -> serde_json::Value {
    json!([{"name": "job-1", "at_ms": 300_000, "takes_ms": 900_000, "outcome": "succeeded", "when_asked": "ends"}])
}

fn run(case: &Case) -> Trial {
    trial::run(&ActionsIdleRunner, case, Keep::Events).expect("a case that fits")
}

/// When requests of a method to paths that contain `part` were sent, from the trouble on.
fn sent(trial: &Trial, of: &str, part: &str) -> Vec<SimTime> {
    let sent = |event: &squall_sim::trace::Event| match &event.what {
        What::RequestSent { method, path, .. } if method == of && path.contains(part) => Some(event.at),
        _ => None,
    };
    trial.ended.events.iter().filter_map(sent).filter(|at| at.as_millis() >= TROUBLE_MS).collect()
}

/// When processes of the runner ended, and with which code.
fn exits(trial: &Trial) -> Vec<(u64, Option<i32>)> {
    let down = |entry: &squall_sim::journal::Entry| match entry.fact {
        Fact::AgentDown { code, .. } => Some((entry.at.as_millis() / 1_000, code)),
        _ => None,
    };
    trial.ended.journal.iter().filter_map(down).collect()
}

fn broken(trial: &Trial) -> BTreeSet<&str> {
    trial.outcome.verdict.findings.iter().map(|finding| finding.invariant.as_str()).collect()
}

fn assert_clean(case: &Case) {
    let trial = run(case);
    assert_eq!(trial.outcome.verdict.severity(), Severity::Pass, "{:?}", trial.outcome.verdict);
}

#[test]
fn a_restarted_runner_gives_up_at_its_eighth_conflict_after_210_seconds() {
    let upstream = run(&case("upstream", "v1", json!([]), vec![kill()]));
    let creations = sent(&upstream, "POST", "/sessions");
    assert_eq!(creations.len(), 8, "{creations:?}");
    for (n, at) in creations.iter().enumerate() {
        // The wrapper starts it again after 5 s; each conflict is followed by 30 s.
        let due = SimTime::from_millis(TROUBLE_MS + 5_000 + 30_000 * n as u64);
        assert!(at.since(due) < Duration::from_millis(200 * (n as u64 + 1)), "creation {n} at {at}");
    }
    assert_eq!(exits(&upstream), [(600, None), (815, Some(5))]);
    assert!(broken(&upstream).contains("no-agent-stopped-for-good"), "{:?}", broken(&upstream));
    assert_clean(&case("hardened", "v1", json!([]), vec![kill()]));
}

#[test]
fn the_repaired_runner_gets_over_the_incident() {
    assert!(broken(&run(&incident("upstream"))).contains("no-agent-stopped-for-good"));
    assert_clean(&incident("hardened"));
}

#[test]
fn failing_polls_wait_as_net_s_seeded_generator_says() {
    let faults = || vec![unavailable("pipelines", "messages", 503, 600_000)];
    let polls = sent(&run(&case("upstream", "v1", json!([]), faults())), "GET", "/messages");
    // The poll that was under way ends well; every later call of the handler is four attempts.
    let gaps: Vec<u64> = polls.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect();
    let calls = gaps.chunks(4).take(6).collect::<Vec<_>>();
    for (call, chain_ms) in calls.iter().zip([25_893, 28_273, 18_857, 16_505, 20_340, 55_714]) {
        let [first, second, third, pause] = call[..] else { panic!("{gaps:?}") };
        assert!((10_800..11_250).contains(&first), "{gaps:?}");
        assert!((12_400..13_650).contains(&second), "{gaps:?}");
        assert!((15_600..18_450).contains(&third), "{gaps:?}");
        assert!((chain_ms..chain_ms + 200).contains(&pause), "{pause} after {chain_ms}: {gaps:?}");
    }
    assert_clean(&case("hardened", "v1", json!([]), faults()));
}

#[test]
fn one_failed_renewal_cancels_a_healthy_v2_job() {
    let faults = || vec![unavailable("run-service", "renewjob", 500, 150_000)];
    let upstream = run(&case("upstream", "v2", long_job(), faults()));
    assert!(broken(&upstream).contains("leased-job-not-aborted"), "{:?}", broken(&upstream));
    assert_clean(&case("hardened", "v2", long_job(), faults()));
}

#[test]
fn a_wrong_clock_at_start_ends_the_runner_for_good() {
    let skewed = || vec![fault(FaultKind::ClockStep { by_ms: -3_600_000 }, "runner-1", None, 300_000), kill()];
    let upstream = run(&case("upstream", "v1", json!([]), skewed()));
    assert_eq!(exits(&upstream), [(600, None), (605, Some(1))]);
    assert_clean(&case("hardened", "v1", json!([]), skewed()));
}

#[test]
fn a_job_that_the_pool_gives_a_busy_runner_waits_for_the_first() {
    let jobs = || {
        let [mut first, mut second] = [0, 1].map(|_| long_job()[0].clone());
        first["takes_ms"] = json!(600_000);
        (second["name"], second["at_ms"], second["takes_ms"]) =
            (json!("job-2"), json!(TROUBLE_MS + 10_000), json!(15_000));
        json!([first, second])
    };
    let overlooked = || {
        let kind = FaultKind::System { name: "job-overlooked".to_owned(), amount: 1 };
        vec![fault(kind, "runner-1", None, 60_000)]
    };
    // V1 drops the second job, V2 cancels the first.
    for (flow, invariant) in [("v1", "acked-message-handled"), ("v2", "leased-job-not-aborted")] {
        let upstream = run(&case("upstream", flow, jobs(), overlooked()));
        assert!(broken(&upstream).contains(invariant), "{flow}: {:?}", broken(&upstream));
        assert_clean(&case("hardened", flow, jobs(), overlooked()));
    }
}

#[test]
fn an_orphaned_session_is_no_obstacle_once_it_has_expired() {
    let mut short = case("upstream", "v1", json!([]), vec![kill()]);
    short.parameters["service"]["session_life"] = json!({"secs": 120, "nanos": 0});
    let trial = run(&short);
    assert_eq!(exits(&trial), [(600, None)]);
    assert_eq!(trial.outcome.verdict.severity(), Severity::Pass, "{:?}", trial.outcome.verdict);
}

#[test]
fn random_seeds_catch_upstream_in_several_ways_and_leave_hardened_clean() {
    let mut caught = BTreeSet::new();
    for seed in 0..60 {
        let upstream = trial::run_seed(&ActionsIdleRunner, "upstream", seed);
        caught.extend(upstream.verdict.findings.iter().map(|finding| finding.fingerprint()));
    }
    assert!(caught.len() >= 5, "{caught:?}");
    for seed in 0..40 {
        let hardened = trial::run_seed(&ActionsIdleRunner, "hardened", seed);
        assert_eq!(hardened.verdict.severity(), Severity::Pass, "seed {seed}: {:?}", hardened.verdict);
    }
}

#[test]
fn a_seed_is_the_same_run_on_every_thread() {
    let digests =
        || (0..6).map(|seed| trial::run_seed(&ActionsIdleRunner, "upstream", seed).digest).collect::<Vec<_>>();
    let here = digests();
    #[expect(clippy::disallowed_methods, reason = "the thread is what is tested")]
    let there = std::thread::spawn(digests).join().expect("no panic");
    assert_eq!(here, there);
    assert_eq!(here, digests(), "and again on this one");
}
