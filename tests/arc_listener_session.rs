//! `arc-listener-session`: what random seeds find, and the timings of the incident from plans written by hand.

#[path = "incidents/arc_listener_session.rs"]
mod scripted;

use std::collections::BTreeSet;

use scripted::{TROUBLE_MS, after_a_kill, incident};
use squall::arc_listener_session::ArcListenerSession;
use squall_protocol::Fact;
use squall_sim::case::Case;
use squall_sim::scenario::Scenario;
use squall_sim::trace::{Event, Keep, What};
use squall_sim::trial::{self, Trial};
use squall_sim::verdict::Severity;

fn run(case: &Case) -> Trial {
    trial::run(&ArcListenerSession, case, Keep::Events).expect("a case that fits")
}

/// When sessions were asked for from the trouble on, in milliseconds after it.
fn creations(trial: &Trial) -> Vec<u64> {
    let sent = |event: &Event| match &event.what {
        What::RequestSent { method, path, .. } if method == "POST" && path.contains("/sessions") => Some(event.at),
        _ => None,
    };
    let at = trial.ended.events.iter().filter_map(sent).map(|at| at.as_millis());
    at.filter(|at| *at >= TROUBLE_MS).map(|at| at - TROUBLE_MS).collect()
}

/// When processes ended after the trouble, in milliseconds after it, and with which code.
fn exits(trial: &Trial) -> Vec<(u64, Option<i32>)> {
    let journal = trial.ended.journal.iter();
    let down = journal.filter_map(|entry| match entry.fact {
        Fact::AgentDown { code, .. } => Some((entry.at.as_millis() - TROUBLE_MS, code)),
        _ => None,
    });
    down.collect()
}

fn broken(trial: &Trial) -> BTreeSet<&str> {
    trial.outcome.verdict.findings.iter().map(|finding| finding.invariant.as_str()).collect()
}

/// The pauses between sessions that are asked for by one process after another.
fn pauses(at: &[u64]) -> Vec<u64> {
    at.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn a_killed_listener_of_0_14_crashes_every_three_seconds() {
    let upstream = run(&after_a_kill(&[]));
    let at = creations(&upstream);
    assert!((3_000..3_300).contains(&at[0]), "the pod is made again: {at:?}");
    let loops = pauses(&at[..200]);
    assert!(loops.iter().all(|pause| (3_000..3_500).contains(pause)), "{loops:?}");
    let exits = exits(&upstream);
    assert_eq!(exits[0], (0, None), "killed");
    assert!(exits[1..200].iter().all(|(_, code)| *code == Some(1)));
    for invariant in ["restarts-bounded", "agent-outlives-trouble"] {
        assert!(broken(&upstream).contains(invariant), "{:?}", broken(&upstream));
    }
}

#[test]
fn a_killed_listener_of_0_8_asks_eleven_times_thirty_seconds_apart_before_it_crashes() {
    let at = creations(&run(&after_a_kill(&[("on_conflict", "v0_8"), ("message_order", "v0_8_2")])));
    let of_first_process = pauses(&at[..11]);
    assert!(of_first_process.iter().all(|pause| (30_000..30_200).contains(pause)), "{of_first_process:?}");
    assert!((3_000..3_500).contains(&(at[11] - at[10])), "{at:?}");
}

#[test]
fn a_killed_listener_of_0_7_asks_eleven_times_up_to_45_seconds_apart() {
    let at = creations(&run(&after_a_kill(&[("on_conflict", "v0_7")])));
    let of_first_process = pauses(&at[..11]);
    assert!(of_first_process.iter().all(|pause| (30_000..45_200).contains(pause)), "{of_first_process:?}");
    assert!(of_first_process.iter().any(|pause| *pause > 31_000), "they are drawn: {of_first_process:?}");
}

#[test]
fn the_repaired_listener_takes_its_session_over_after_one_restart() {
    let mut case = after_a_kill(&[]);
    case.choices = ArcListenerSession.generate(1, "hardened").choices;
    let trial = run(&case);
    assert_eq!(trial.outcome.verdict.severity(), Severity::Pass, "{:?}", trial.outcome.verdict);
    let at = creations(&trial);
    assert_eq!(at.len(), 1);
    assert!((10_000..10_500).contains(&at[0]), "{at:?}");
}

#[test]
fn the_repaired_listener_ends_its_session_when_it_is_asked_to_stop() {
    let mut case = incident();
    case.choices = ArcListenerSession.generate(1, "hardened").choices;
    let trial = run(&case);
    assert_eq!(trial.outcome.verdict.severity(), Severity::Pass, "{:?}", trial.outcome.verdict);
    assert_eq!(creations(&trial).len(), 1);
}

#[test]
fn random_seeds_catch_upstream_in_several_ways_and_leave_hardened_clean() {
    let mut caught = BTreeSet::new();
    // Twenty seeds are a minute of work: a listener crashes every three seconds for hours. So as many as it takes.
    for seed in 0..20 {
        if caught.len() >= 5 {
            break;
        }
        let upstream = trial::run_seed(&ArcListenerSession, "upstream", seed);
        caught.extend(upstream.verdict.findings.iter().map(|finding| finding.fingerprint()));
    }
    assert!(caught.len() >= 5, "{caught:?}");
    for seed in 0..30 {
        let hardened = trial::run_seed(&ArcListenerSession, "hardened", seed);
        assert_eq!(hardened.verdict.severity(), Severity::Pass, "seed {seed}: {:?}", hardened.verdict);
    }
}

#[test]
fn a_seed_is_the_same_run_twice() {
    let digests =
        || (0..4).map(|seed| trial::run_seed(&ArcListenerSession, "hardened", seed).digest).collect::<Vec<_>>();
    assert_eq!(digests(), digests());
}
