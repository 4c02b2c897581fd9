//! The search finds the known wounds by itself, each by the measure that it is about.

use std::sync::atomic::AtomicBool;

use serde_json::Value;
use squall::cli::{self, Surroundings};

static NEVER: AtomicBool = AtomicBool::new(false);

/// As many triggers as there are plain ones: a longer search is `squall lab fuzz`.
const TRIGGERS: &str = "9";

fn squall(arguments: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut around = Surroundings { out: &mut out, err: &mut err, interrupted: || &NEVER, program: None };
    let code = cli::run(["squall"].iter().chain(arguments).map(Into::into), &[], &[], &mut around);
    (code, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

/// Searches for what hurts a mutant by a measure: it has to do so many times worse than the same policy without its
/// wound, in a trigger with few agents, and the case of it replays.
fn is_found(mutant: &str, measure: &str, times: f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("a name");
    let search = ["lab", "fuzz", mutant, "--measure", measure, "--triggers", TRIGGERS];
    let (code, told, err) = squall(&[&search[..], &["--jobs", "2", "--format", "json", "--out", out]].concat());
    assert_eq!(code, 0, "{err}");
    let wound: Value = serde_json::from_str(told.lines().next().expect("a wound")).expect("an object");
    println!("{wound}");
    assert!(wound["times"].as_f64().expect("a number") >= times, "{wound}");
    let number = |name: &str| wound[name].as_u64().expect("a number");
    assert!(number("agents") <= 20 && number("faults_after") <= number("faults_before"), "{wound}");
    let (code, replayed, err) = squall(&["replay", wound["case"].as_str().expect("a file")]);
    assert!([0, 3].contains(&code) && replayed.contains("verdict"), "{replayed}{err}");
}

#[test]
fn jitter_before_the_cap() {
    is_found("mutant-jitter-before-cap", "load_over_capacity", 2.0);
}

#[test]
fn one_seed_for_all() {
    is_found("mutant-shared-generator", "load_over_capacity", 2.0);
}

#[test]
fn cloned_generators() {
    is_found("mutant-cloned-generator", "load_over_capacity", 2.0);
}

#[test]
fn a_generator_seeded_by_its_own_last_value() {
    is_found("mutant-seeded-by-last", "load_over_capacity", 2.0);
}

#[test]
fn what_is_wrong_with_jitter_keeps_a_fleet_in_step() {
    for mutant in ["jitter-before-cap", "shared-generator", "cloned-generator", "seeded-by-last"] {
        is_found(&format!("mutant-{mutant}"), "synchrony", 2.0);
    }
}

#[test]
fn a_timer_on_a_clock_that_is_set() {
    is_found("mutant-wall-timer", "recovery_ms_p99", 3.0);
}

#[test]
fn a_reset_on_connect() {
    is_found("mutant-reset-on-connect", "attempts_per_success", 3.0);
}

#[test]
fn a_reset_for_each_call() {
    is_found("mutant-reset-each-call", "attempts_per_success", 2.0);
}

#[test]
fn nested_retries() {
    is_found("mutant-nested", "attempts_per_success", 3.0);
}

#[test]
fn a_retry_after_without_bound() {
    is_found("mutant-trusts-retry-after", "recovery_ms_max", 3.0);
}

#[test]
fn all_who_are_told_the_same_retry_after() {
    is_found("mutant-retry-after-cluster", "load_over_capacity", 2.0);
}

#[test]
fn a_power_that_overflows() {
    is_found("mutant-overflow", "attempts_per_success", 5.0);
}

#[test]
fn retries_after_the_deadline() {
    is_found("mutant-after-deadline", "late_requests", 3.0);
}

#[test]
fn a_sleep_while_the_lease_runs_out() {
    is_found("mutant-sleeps-through-lease", "orphan_ms", 3.0);
}

#[test]
fn a_sound_policy_has_no_wound_of_them() {
    let (code, told, err) = squall(&["lab", "fuzz", "deadline", "--triggers", TRIGGERS, "--jobs", "2"]);
    assert_eq!(code, 0, "{err}");
    for measure in ["attempts_per_success:", "late_requests:", "orphan_ms:", "load_over_capacity:"] {
        assert!(!told.contains(measure), "{told}");
    }
}
