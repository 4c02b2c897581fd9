//! The determinism contract, checked: the same case must run the same way again.

use std::fmt;

use crate::case::Case;
use crate::scenario::{CaseError, Scenario};
use crate::time::SimTime;
use crate::trace::{Event, Keep};
use crate::trial;
use crate::verdict::{Finding, Severity};
use crate::world::Ended;

/// How often two runs are watched for their first difference. What leaks does not always show at once.
const WATCHED_PAIRS_MAX: u32 = 3;

/// Two runs of one case were not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The digests of the two runs.
    pub digests: [String; 2],
    /// Where they part, if it could be seen again.
    pub parting: Option<Parting>,
}

/// The first event in which two runs differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Parting {
    /// How many events were the same before.
    pub events_before: usize,
    /// True time of the event, in the run in which it came first.
    pub at: SimTime,
    /// The name of its node.
    pub node: String,
    /// What the two runs had there; `None` for a run that had ended.
    pub events: [Option<Event>; 2],
}

/// Runs a case twice on this thread and compares.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn check(scenario: &dyn Scenario, case: &Case) -> Result<Option<Difference>, CaseError> {
    let first = trial::run(scenario, case, Keep::Digest)?;
    check_again(scenario, case, &first.outcome.digest)
}

/// Runs a case once more on this thread and compares it with the digest of an earlier run.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn check_again(scenario: &dyn Scenario, case: &Case, earlier: &str) -> Result<Option<Difference>, CaseError> {
    let again = trial::run(scenario, case, Keep::Digest)?.outcome.digest;
    if again == earlier {
        return Ok(None);
    }
    let mut parting = None;
    for _ in 0..WATCHED_PAIRS_MAX {
        let one = trial::run(scenario, case, Keep::Events)?.ended;
        let other = trial::run(scenario, case, Keep::Events)?.ended;
        parting = part(&one, &other);
        if parting.is_some() {
            break;
        }
    }
    Ok(Some(Difference { digests: [earlier.to_owned(), again], parting }))
}

/// Where two runs part.
fn part(one: &Ended, other: &Ended) -> Option<Parting> {
    let length = one.events.len().max(other.events.len());
    let differs = (0..length).find(|&n| one.events.get(n) != other.events.get(n))?;
    let events = [one.events.get(differs).cloned(), other.events.get(differs).cloned()];
    let first = events.iter().flatten().min_by_key(|event| event.at)?;
    let node = one.nodes.get(first.node.0 as usize).cloned().unwrap_or_else(|| format!("node {}", first.node.0));
    Some(Parting { events_before: differs, at: first.at, node, events })
}

impl Difference {
    /// The difference as a finding.
    pub fn finding(&self) -> Finding {
        let subject_kind = self.parting.as_ref().and_then(Parting::kind).unwrap_or_else(|| "digest".to_owned());
        Finding {
            severity: Severity::Nondeterminism,
            invariant: "same-case-same-run".to_owned(),
            subject_kind,
            subject: self.parting.as_ref().map_or_else(|| "the whole run".to_owned(), |parting| parting.node.clone()),
            at: self.parting.as_ref().map_or(SimTime::ZERO, |parting| parting.at),
            message: self.to_string(),
        }
    }
}

impl Parting {
    /// The kind of the event, such as `arrived`.
    fn kind(&self) -> Option<String> {
        let event = self.events.iter().flatten().next()?;
        Some(serde_json::to_value(&event.what).ok()?.get("event")?.as_str()?.to_owned())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.digests;
        write!(to, "two runs of the same case have digests {one} and {other}")?;
        match &self.parting {
            Some(parting) => write!(to, "; they part {parting}")?,
            None => write!(to, ", but were the same when watched event by event")?,
        }
        write!(
            to,
            ". Look for what outlives a world or is not drawn from its seed: a static or thread-local counter, a \
             generator of somebody's own, the order of a hash map, an address or a thread id in a decision"
        )
    }
}

impl fmt::Display for Parting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |event: &Option<Event>| {
            event.as_ref().map_or_else(|| "the end of the run".to_owned(), |event| format!("{:?}", event.what))
        };
        let [one, other] = &self.events;
        write!(
            to,
            "after {} equal events, at {} on {}: {} in one and {} in the other",
            self.events_before,
            self.at,
            self.node,
            told(one),
            told(other)
        )
    }
}
