//! Cases of a toy scenario become smaller under their fingerprint, and its bug is hunted down.

mod toy;

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use squall_protocol::Fact;
use squall_sim::case::Case;
use squall_sim::hunt::{Hunt, Progress, hunt};
use squall_sim::scenario::Scenario;
use squall_sim::shrink::{Budget, End, Shrunk, shrink};
use squall_sim::trace::Keep;
use squall_sim::trial;
use squall_sim::verdict::Severity;
use toy::Toy;

const GENEROUS: Budget = Budget { attempts: 10_000, time: Duration::from_secs(600) };

/// The case of the first seed from `start` on that fails in this variant.
fn failing(variant: &str, start: u64) -> Case {
    let mut cases = (start..).map(|seed| Toy.generate(seed, variant));
    cases.find(|case| !passes(case)).expect("some seed fails")
}

fn passes(case: &Case) -> bool {
    let trial = trial::run(&Toy, case, Keep::Digest).expect("it fits");
    trial.outcome.verdict.severity() == Severity::Pass
}

/// How many jobs a worker begins.
fn started(case: &Case) -> usize {
    let trial = trial::run(&Toy, case, Keep::Digest).expect("it fits");
    trial.ended.journal.iter().filter(|entry| matches!(entry.fact, Fact::JobStarted { .. })).count()
}

fn shrunk(case: &Case, budget: Budget) -> Shrunk {
    let watch = &mut |_| ControlFlow::Continue(());
    shrink(&Toy, case, budget, &AtomicBool::new(false), watch).expect("it fits").expect("it fails")
}

#[test]
fn one_crash_one_worker_and_few_jobs_are_left() {
    for start in [0, 100] {
        let case = failing("upstream", start);
        let Shrunk { case: small, finding, progress, end } = shrunk(&case, GENEROUS);
        assert_eq!(end, End::Smallest);
        assert_eq!(finding.fingerprint(), "every-job-ends/job");
        assert_eq!((small.plan.faults.len(), progress.faults), (1, 1), "{small:?}");
        assert_eq!(small.parameters["workers"], 1, "{small:?}");
        assert_eq!(small.workload["jobs"], started(&small), "none but those that are taken until the crash: {small:?}");
        assert_eq!((small.seed, &small.choices), (case.seed, &case.choices));
        assert!(small.end_ms < case.end_ms && small.plan.heal_at_ms < case.plan.heal_at_ms, "{small:?}");
        let repaired = Case { choices: Toy.generate(0, "hardened").choices, ..small };
        assert!(passes(&repaired), "the repaired design passes what is left");
    }
}

#[test]
fn a_smaller_case_never_fails_in_another_way() {
    // Without its jobs the toy is stuck no more; with job-3 the worker panics whatever is taken away.
    let case = failing("panicking", 0);
    let small = shrunk(&case, GENEROUS);
    assert_eq!((small.finding.severity, small.finding.fingerprint().as_str()), (Severity::Panic, "no-panic/agent"));
    assert_eq!((small.case.plan.faults.len(), &small.case.workload["jobs"]), (0, &4.into()), "job-0 to job-3");
}

#[test]
fn a_search_is_the_same_again_and_may_end_at_any_time_with_the_best_so_far() {
    let case = failing("upstream", 0);
    let budget = |attempts| Budget { attempts, ..GENEROUS };
    let whole = shrunk(&case, GENEROUS);
    assert_eq!(whole, shrunk(&case, GENEROUS));
    let mut last = case.plan.faults.len();
    for attempts in (0..whole.progress.attempts).step_by(9) {
        let part = shrunk(&case, budget(attempts));
        assert_eq!((part.end, part.progress.attempts), (End::Budget, attempts));
        assert!(!passes(&part.case), "after {attempts} attempts");
        assert!(part.progress.faults <= last);
        last = part.progress.faults;
    }
    assert_eq!(shrunk(&case, Budget { time: Duration::ZERO, ..GENEROUS }).case, case, "there was no time");
    let mut seen = 0;
    let stopped = shrink(&Toy, &case, GENEROUS, &AtomicBool::new(false), &mut |progress| {
        seen = progress.attempts;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = stopped.expect("it fits").expect("it fails");
    assert_eq!((stopped.end, stopped.progress.attempts, seen), (End::Stopped, 3, 3));
    assert_eq!(stopped.case, shrunk(&case, budget(3)).case);
}

#[test]
fn what_passes_is_not_shrunk() {
    let case = Toy.generate(0, "hardened");
    let watch = &mut |_| panic!("there is nothing to try");
    assert_eq!(shrink(&Toy, &case, GENEROUS, &AtomicBool::new(false), watch), Ok(None));
}

fn hunting(seeds: u64) -> Hunt {
    Hunt { start: 0, seeds: NonZeroU64::new(seeds).expect("some"), jobs: NonZeroUsize::MIN, budget: GENEROUS }
}

#[test]
fn a_hunt_counts_seeds_until_the_bug_shows() {
    let watch = &mut |_| ControlFlow::Continue(());
    let never = AtomicBool::new(false);
    let hunted = hunt(&Toy, "toy.forget", &hunting(100), &never, watch);
    let first = failing("toy.forget", 0);
    let caught = hunted.caught.as_ref().expect("some seed shows it");
    assert_eq!((caught.seed, hunted.seeds, hunted.interrupted), (first.seed, first.seed + 1, false));
    assert_eq!((caught.faults, caught.shrunk.case.plan.faults.len()), (first.plan.faults.len(), 1));

    let beside = Hunt { jobs: NonZeroUsize::new(4).expect("some"), ..hunting(100) };
    let beside = hunt(&Toy, "toy.forget", &beside, &never, watch);
    assert_eq!((beside.seeds, beside.caught), (hunted.seeds, hunted.caught), "on any number of threads");
}

#[test]
fn what_is_no_bug_is_not_found() {
    let watch = &mut |_| ControlFlow::Continue(());
    for variant in ["hardened", "toy.colour", "panicking"] {
        let hunted = hunt(&Toy, variant, &hunting(10), &AtomicBool::new(false), watch);
        let shown = hunted.caught.map(|caught| caught.shrunk.finding.fingerprint());
        assert_eq!((hunted.seeds, shown, hunted.interrupted), (10, None, false), "{variant}");
    }
}

#[test]
fn a_hunt_ends_when_it_is_stopped() {
    let stop = AtomicBool::new(false);
    let hunted = hunt(&Toy, "hardened", &hunting(1_000), &stop, &mut |progress| {
        assert_eq!(progress, Progress::Seed);
        stop.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    assert!(hunted.interrupted && hunted.caught.is_none() && hunted.seeds < 1_000);
}
