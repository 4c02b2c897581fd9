//! Hunting a bug: how many seeds it takes until a general invariant fails, and how little of the seed's case it takes.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::explore::{Campaign, explore};
use crate::scenario::Scenario;
use crate::shrink::{self, Budget, Shrunk};
use crate::stopwatch::Stopwatch;
use crate::trial::{self, Outcome};
use crate::verdict::Severity;

/// How a bug is hunted.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    /// The first seed.
    pub start: u64,
    /// The most seeds.
    pub seeds: NonZeroU64,
    /// How many threads run seeds.
    pub jobs: NonZeroUsize,
    /// How much may be tried to make the case smaller.
    pub budget: Budget,
}

/// How far a hunt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One more seed was run.
    Seed,
    /// A seed was found; its case becomes smaller.
    Shrinking(shrink::Progress),
}

/// What a hunt came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Hunted {
    /// How many seeds were run, up to the one that was found.
    pub seeds: u64,
    /// What was found.
    pub caught: Option<Caught>,
    /// The real time it took.
    pub wall: Duration,
    /// Was it ended early?
    pub interrupted: bool,
}

/// A seed that shows a bug.
#[derive(Clone, Debug, PartialEq)]
pub struct Caught {
    /// The seed.
    pub seed: u64,
    /// Faults of its case.
    pub faults: usize,
    /// The smallest case that shows it in the same way.
    pub shrunk: Shrunk,
}

/// Hunts a bug of a scenario: the first seed on which an invariant fails with it, and holds with the repaired design.
pub fn hunt(
    scenario: &dyn Scenario,
    bug: &str,
    hunt: &Hunt,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Hunted {
    let clock = Stopwatch::start();
    let campaign = Campaign { start: hunt.start, jobs: hunt.jobs, check_every: None, ..Campaign::of(bug, hunt.seeds) };
    let (mut found, mut seeds) = (None, 0);
    let summary = explore(scenario, &campaign, stop, &mut |run| {
        seeds += 1;
        let is_found = shows(scenario, &run.outcome);
        found = is_found.then_some(run.outcome.seed);
        if is_found { ControlFlow::Break(()) } else { watch(Progress::Seed) }
    });
    let caught = found.and_then(|seed| {
        let case = trial::generate(scenario, bug, seed).ok()?;
        let shrinking = &mut |progress| watch(Progress::Shrinking(progress));
        let shrunk = shrink::shrink(scenario, &case, hunt.budget, stop, shrinking).ok()??;
        Some(Caught { seed, faults: case.plan.faults.len(), shrunk })
    });
    let interrupted = caught.is_none() && summary.interrupted;
    Hunted { seeds, caught, wall: clock.elapsed(), interrupted }
}

/// Does a run show the bug? A panic is one of the program, and what the repaired design does not pass either shows
/// nothing.
fn shows(scenario: &dyn Scenario, outcome: &Outcome) -> bool {
    matches!(outcome.verdict.severity(), Severity::Violation | Severity::Stuck)
        && trial::generate(scenario, &outcome.variant, outcome.seed)
            .is_ok_and(|case| shrink::control(scenario, &case).is_some())
}
