//! Trials and campaigns of a toy scenario.

mod toy;

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use squall_sim::coverage::Gap;
use squall_sim::explore::{Campaign, Run, Summary, explore};
use squall_sim::regressions::Past;
use squall_sim::report::{self, Report};
use squall_sim::scenario::Scenario;
use squall_sim::trace::{Keep, What};
use squall_sim::trial::{self, Outcome};
use squall_sim::verdict::Severity;
use squall_sim::{case_file, determinism};
use toy::Toy;

fn campaign(variant: &str, seeds: u64) -> Campaign {
    Campaign::of(variant, NonZeroU64::new(seeds).expect("some seeds"))
}

fn explored(campaign: &Campaign) -> (Vec<Run>, Summary) {
    let mut runs = Vec::new();
    let summary = explore(&Toy, campaign, &AtomicBool::new(false), &mut |run| {
        runs.push(run.clone());
        ControlFlow::Continue(())
    });
    (runs, summary)
}

fn outcomes(runs: Vec<Run>) -> Vec<Outcome> {
    runs.into_iter().map(|run| run.outcome).collect()
}

#[test]
fn a_campaign_finds_the_bug_and_none_in_the_repaired_variant() {
    let (_, upstream) = explored(&campaign("upstream", 40));
    assert_eq!(upstream.worst, Severity::Stuck);
    assert_eq!(upstream.coverage.fingerprints.keys().collect::<Vec<_>>(), ["every-job-ends/job"]);
    assert!(upstream.failed > 0 && upstream.failed < 40, "{} of 40 fail", upstream.failed);

    let (_, hardened) = explored(&campaign("hardened", 40));
    assert_eq!((hardened.worst, hardened.failed, hardened.seeds), (Severity::Pass, 0, 40));
    assert_eq!(hardened.coverage.gaps(), []);
    assert!(hardened.coverage.families["crash"].effective > 0);
    let subjects: u64 = hardened.coverage.tallies.iter().map(|tally| tally.subjects).sum();
    assert_eq!(subjects, 400, "ten jobs a seed");
}

#[test]
fn what_comes_out_of_a_seed_depends_on_no_thread() {
    let (one, _) = explored(&campaign("upstream", 30));
    let (four, _) = explored(&Campaign { jobs: NonZeroUsize::new(4).expect("some"), ..campaign("upstream", 30) });
    assert_eq!(outcomes(one), outcomes(four));
}

#[test]
fn shards_together_are_the_campaign() {
    let (whole, _) = explored(&campaign("upstream", 20));
    let shard = |text: &str| Campaign { shard: text.parse().expect("a shard"), ..campaign("upstream", 20) };
    let mut parts = [outcomes(explored(&shard("1/2")).0), outcomes(explored(&shard("2/2")).0)].concat();
    parts.sort_by_key(|outcome| outcome.seed);
    assert_eq!(parts, outcomes(whole));
}

#[test]
fn a_campaign_ends_with_what_it_has() {
    let stop = AtomicBool::new(false);
    let mut seen = Vec::new();
    let endless = Campaign { seeds: None, jobs: NonZeroUsize::new(2).expect("some"), ..campaign("hardened", 1) };
    let stopped = explore(&Toy, &endless, &stop, &mut |run| {
        seen.push(run.outcome.seed);
        stop.store(seen.len() >= 5, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    assert!(stopped.interrupted && stopped.seeds >= 5);
    assert_eq!(seen, (0..stopped.seeds).collect::<Vec<_>>(), "in order and without gaps");

    let broken = explore(&Toy, &endless, &AtomicBool::new(false), &mut |_| ControlFlow::Break(()));
    assert!(broken.interrupted);
    assert_eq!(broken.seeds, 1);

    let timed =
        explore(&Toy, &Campaign { time: Some(Duration::ZERO), ..endless }, &AtomicBool::new(false), &mut |_| {
            ControlFlow::Continue(())
        });
    assert_eq!((timed.seeds, timed.interrupted), (0, false));
    assert_eq!(timed.coverage.gaps(), [Gap::NoTrial]);
}

#[test]
fn whatever_breaks_is_a_verdict_with_a_name() {
    let told = |variant: &str| {
        let outcome = trial::run_seed(&Toy, variant, 0);
        let worst = outcome.verdict.worst().expect("it fails").clone();
        (worst.severity, worst.fingerprint(), worst.message)
    };
    let (severity, fingerprint, message) = told("panicking");
    assert_eq!((severity, fingerprint.as_str()), (Severity::Panic, "no-panic/agent"));
    assert!(message.contains("/agent panicked: job-3 is too hard") && message.contains("mod.rs:"), "{message}");

    let (severity, fingerprint, message) = told("spinning");
    assert_eq!((severity, fingerprint.as_str()), (Severity::Stuck, "time-passes/agent"));
    assert!(message.contains("without time passing"), "{message}");

    for (variant, says) in [
        ("unbuildable", "the house has no floor"),
        ("ungenerable", "the generator of cases panicked"),
        ("unjudgeable", "the judge panicked: no idea"),
    ] {
        let (severity, _, message) = told(variant);
        assert!(severity == Severity::Panic && message.contains(says), "{variant}: {message}");
    }
}

#[test]
fn a_world_in_which_nothing_happens_is_a_gap() {
    let (_, desert) = explored(&campaign("desert", 3));
    assert_eq!(desert.worst, Severity::Stuck, "jobs were queued");
    assert_eq!(desert.coverage.gaps()[..2], [Gap::NoExchange, Gap::NoJobRan { queued: 30 }]);
}

#[test]
fn a_panic_ends_its_seed_and_not_the_campaign() {
    let (runs, summary) = explored(&campaign("panicking", 5));
    assert_eq!((runs.len(), summary.failed, summary.worst), (5, 5, Severity::Panic));
}

#[test]
fn a_case_that_does_not_fit_is_an_error_of_its_giver() {
    let mut case = Toy.generate(0, "upstream");
    case.workload = serde_json::json!({"jobs": "ten"});
    let misfit = trial::run(&Toy, &case, Keep::Digest).expect_err("a text is no number");
    assert_eq!(misfit.to_string(), "`workload` of the case does not fit scenario toy-queue: jobs is no number");

    let endless = squall_sim::case::Case { end_ms: u64::MAX, ..Toy.generate(0, "upstream") };
    let misfit = trial::run(&Toy, &endless, Keep::Digest).expect_err("too long");
    assert!(misfit.to_string().starts_with("`end_ms` of the case does not fit scenario toy-queue"), "{misfit}");

    let mut nowhere = (0..).map(|seed| Toy.generate(seed, "upstream")).find(|case| !case.plan.faults.is_empty());
    let case = nowhere.as_mut().expect("some seed draws a fault");
    case.plan.faults[0].target.node = Some("worker-99".to_owned());
    let misfit = trial::run(&Toy, case, Keep::Digest).expect_err("there is no such node");
    assert!(misfit.to_string().contains("worker-99"), "{misfit}");
}

#[test]
fn a_run_is_the_same_again_and_what_outlives_a_world_is_named() {
    let case = Toy.generate(3, "upstream");
    assert_eq!(determinism::check(&Toy, &case), Ok(None));

    let leaking = Toy.generate(3, "leaking");
    let difference = determinism::check(&Toy, &leaking).expect("it fits").expect("the counter goes on");
    let parting = difference.parting.clone().expect("it shows in the first request");
    assert!(matches!(&parting.events, [Some(one), Some(other)] if
        matches!((&one.what, &other.what), (What::Arrived { .. }, What::Arrived { .. }))));
    assert_eq!(parting.node, "queue");
    let finding = difference.finding();
    assert_eq!(
        (finding.severity, finding.fingerprint().as_str()),
        (Severity::Nondeterminism, "same-case-same-run/arrived")
    );
    assert!(finding.message.contains("a static that outlives the world"), "{}", finding.message);
}

#[test]
fn a_campaign_checks_seeds_for_determinism() {
    let always = Campaign { check_every: NonZeroU64::new(1), ..campaign("leaking", 2) };
    assert_eq!(explored(&always).1.worst, Severity::Nondeterminism);
    let never = Campaign { check_every: None, ..campaign("leaking", 2) };
    assert!(explored(&never).1.worst < Severity::Nondeterminism);
}

/// The first failing seed of the variant, told.
fn failing(variant: &str) -> (squall_sim::case::Case, trial::Trial) {
    let (runs, _) = explored(&campaign(variant, 40));
    let failing = runs.iter().find(|run| run.outcome.verdict.severity() != Severity::Pass).expect("some seed fails");
    let case = Toy.generate(failing.outcome.seed, variant);
    let trial = trial::run(&Toy, &case, Keep::Events).expect("it fits");
    assert_eq!(trial.outcome, failing.outcome, "watched or not");
    (case, trial)
}

#[test]
fn the_story_tells_time_node_request_fault_and_verdict() {
    let (case, trial) = failing("upstream");
    let report = Report { replay: "squall replay toy-queue 1", scenario: &Toy, case: &case, trial: &trial };
    let story = report::text(&report);
    assert!(story.starts_with("squall replay toy-queue 1\n"), "{story}");
    let lost = &trial.outcome.verdict.worst().expect("it failed").subject;
    for told in [
        "verdict     stuck: every-job-ends (job job-",
        "loses power (1 effect)",
        "POST queue/take → 200 after ",
        " more like it, the last at 0:14:",
        &format!("{lost} is started by worker-"),
        "has been done by worker-",
        "info: looking for work pause=5s",
        "verdict: stuck\n  invariant  every-job-ends: Every job that was queued is reported in the end. (within 10 min 0 s",
        &format!("at         {}", toy::JUDGED_AT),
        &format!("what       {lost} was queued and never reported"),
    ] {
        assert!(story.contains(told), "{told:?} is missing in\n{story}");
    }
    let lines = story.lines().count();
    assert!((10..150).contains(&lines), "{lines} lines:\n{story}");
}

#[test]
fn the_json_of_a_run_holds_its_case_and_its_events() {
    let (case, trial) = failing("upstream");
    let report = Report { replay: "squall replay toy-queue 1", scenario: &Toy, case: &case, trial: &trial };
    let json = report::json::run(&report, Duration::from_micros(7));
    let mut lines = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let first = lines.next().expect("a line for the run");
    assert_eq!((&first["digest"], &first["verdict"]), (&trial.outcome.digest.as_str().into(), &"stuck".into()));
    assert_eq!((&first["wall_us"], &first["fingerprint"]), (&7.into(), &"every-job-ends/job".into()));
    assert_eq!(case_file::parse(&first["case"].to_string()), Ok(case));
    let events: Vec<_> = lines.collect();
    assert_eq!(events.len(), trial.ended.events.len());
    assert!(events.iter().any(|event| event["event"] == "request_sent" && event["node"] == "worker-0"));
    assert!(events.iter().any(|event| event["event"] == "fact" && event["fact"]["fact"] == "job_started"));
}

#[test]
fn cases_of_the_past_come_first_and_none_is_left_out_in_silence() {
    let (case, trial) = failing("upstream");
    let lost = {
        let mut case = case.clone();
        case.workload = serde_json::json!({"jobs": "ten"});
        Past { file: "b.json".to_owned(), case }
    };
    let past = vec![Past { file: "a.json".to_owned(), case }, lost];
    let upstream = Campaign { past: past.clone(), ..campaign("upstream", 2) };
    let (runs, summary) = explored(&upstream);
    assert_eq!(runs.iter().map(|run| run.file.as_deref()).collect::<Vec<_>>(), [Some("a.json"), None, None]);
    assert_eq!((&runs[0].outcome.digest, summary.cases, summary.seeds), (&trial.outcome.digest, 1, 2));
    assert_eq!(summary.coverage.fingerprints["every-job-ends/job"].file.as_deref(), Some("a.json"));
    let why = "`workload` of the case does not fit scenario toy-queue: jobs is no number".to_owned();
    assert_eq!(summary.coverage.certain_gaps(), [Gap::LostCase { file: "b.json".to_owned(), why }]);

    // The choices are those that are checked, whatever the case was found with.
    let (runs, _) = explored(&Campaign { past, ..campaign("hardened", 1) });
    assert_eq!((runs[0].outcome.verdict.severity(), runs[0].outcome.variant.as_str()), (Severity::Pass, "hardened"));
}
