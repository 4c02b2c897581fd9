//! Shrinking: from a case that fails to the smallest one that fails in the same way.
//!
//! What is smaller is tried part by part, see [`tree`]; a candidate counts when its worst finding has the fingerprint of
//! the first failure. Where the repaired design passes the first case it has to pass the smaller ones as well: otherwise
//! a case would shrink to one in which no design could do better.

mod case;
pub mod tree;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::strategy::ValueTree;
use serde_json::Value;

use self::tree::Tree;
use crate::case::Case;
use crate::scenario::{CaseError, Scenario};
use crate::stopwatch::Stopwatch;
use crate::trace::Keep;
use crate::trial;
use crate::verdict::{Finding, Severity};

/// The variant whose design is repaired.
const HARDENED: &str = "hardened";

/// How much may be tried. What comes out depends on the attempts alone, unless the time is over first.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The most candidates.
    pub attempts: u64,
    /// The most real time.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { attempts: 2_000, time: Duration::from_secs(25) }
    }
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Candidates that were tried.
    pub attempts: u64,
    /// How many of them failed in the same way and became the smallest.
    pub accepted: u64,
    /// Faults of the smallest so far.
    pub faults: usize,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing smaller is left to try.
    Smallest,
    /// The budget was used up.
    Budget,
    /// Somebody stopped it.
    Stopped,
}

/// The smallest case that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// The case.
    pub case: Case,
    /// What its run is named after: the fingerprint is that of the first failure.
    pub finding: Finding,
    /// How the search went.
    pub progress: Progress,
    /// Why it ended.
    pub end: End,
}

/// Shrinks a case that fails; `None` when it passes. It ends with the smallest so far when `stop` becomes true, or when
/// `watch` breaks, which is called after each attempt.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn shrink(
    scenario: &dyn Scenario,
    case: &Case,
    budget: Budget,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Option<Shrunk>, CaseError> {
    let Some(finding) = worst(scenario, case)? else { return Ok(None) };
    let mut search = Search { scenario, control: control(scenario, case), finding, accepted: 0 };
    let progress = |attempts, search: &Search<'_>, smallest: &Case| Progress {
        attempts,
        accepted: search.accepted,
        faults: smallest.plan.faults.len(),
    };
    let clock = Stopwatch::start();
    let (mut smallest, mut attempts, mut accepted_before) = (case.clone(), 0, None);
    // One part that became smaller may let an earlier one become smaller.
    let end = 'search: loop {
        if accepted_before.replace(search.accepted) == Some(search.accepted) {
            break End::Smallest;
        }
        let mut tree = Tree::of(smallest.clone());
        let mut goes_on = tree.simplify();
        while goes_on {
            if attempts >= budget.attempts || clock.elapsed() >= budget.time {
                break 'search End::Budget;
            }
            attempts += 1;
            goes_on = match search.attempt(tree.current()) {
                Some(failing) => {
                    smallest = failing.clone();
                    tree.mend(failing);
                    tree.simplify()
                }
                None => tree.complicate(),
            };
            let told = watch(progress(attempts, &search, &smallest));
            if told.is_break() || stop.load(Ordering::Relaxed) {
                break 'search End::Stopped;
            }
        }
    };
    let progress = progress(attempts, &search, &smallest);
    Ok(Some(Shrunk { case: smallest, finding: search.finding, progress, end }))
}

struct Search<'a> {
    scenario: &'a dyn Scenario,
    /// The choices with which smaller cases have to pass.
    control: Option<Value>,
    /// That of the smallest case.
    finding: Finding,
    accepted: u64,
}

impl Search<'_> {
    /// The candidate, if it fails in the same way. Faults that act on what it no longer has are taken out of it.
    fn attempt(&mut self, mut candidate: Case) -> Option<Case> {
        let found = loop {
            match worst(self.scenario, &candidate) {
                Ok(found) => break found?,
                Err(CaseError::Plan { why, .. }) => drop(candidate.plan.faults.remove(why.of_nothing()?)),
                Err(CaseError::Misfit { .. }) => return None,
            }
        };
        let same = found.fingerprint() == self.finding.fingerprint() && found.severity == self.finding.severity;
        let kept = same && self.control.as_ref().is_none_or(|choices| passes(self.scenario, &candidate, choices));
        kept.then(|| {
            self.accepted += 1;
            self.finding = found;
            candidate
        })
    }
}

/// What a case's run is named after.
fn worst(scenario: &dyn Scenario, case: &Case) -> Result<Option<Finding>, CaseError> {
    let trial = trial::run(scenario, case, Keep::Digest)?;
    Ok(trial.outcome.verdict.worst().cloned())
}

/// Does a case pass with these choices in the place of its own?
fn passes(scenario: &dyn Scenario, case: &Case, choices: &Value) -> bool {
    let repaired = Case { variant: HARDENED.to_owned(), choices: choices.clone(), ..case.clone() };
    let trial = trial::run(scenario, &repaired, Keep::Digest);
    trial.is_ok_and(|trial| trial.outcome.verdict.severity() == Severity::Pass)
}

/// The choices of the repaired design, where it differs from that of the case and passes it.
pub(crate) fn control(scenario: &dyn Scenario, case: &Case) -> Option<Value> {
    let repaired = trial::as_variant(scenario, case, HARDENED).ok()?.choices;
    (repaired != case.choices && passes(scenario, case, &repaired)).then_some(repaired)
}
