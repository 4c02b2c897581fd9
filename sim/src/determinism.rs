//! The determinism contract, checked: the same case must run the same way again.

use std::fmt;
use std::thread;

use crate::case::Case;
use crate::scenario::{CaseError, Scenario};
use crate::time::SimTime;
use crate::trace::{Event, Keep};
use crate::trial;
use crate::verdict::{Finding, Severity};

/// How often two runs are watched for their first difference. What leaks does not always show at once.
const WATCHED_PAIRS_MAX: u32 = 3;

/// Two runs of one case were not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The digests of the two runs.
    pub digests: [String; 2],
    /// Where they part, if it could be seen again.
    pub parting: Option<Parting>,
    /// Who may have done it.
    pub suspect: Suspect,
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

/// What a difference may come from, by where a case runs alike and where it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// On fresh threads it runs alike: something lives as long as a thread.
    Thread,
    /// On fresh threads it does not, in fresh processes it does: something lives as long as the process.
    Process,
    /// Every process is different: something comes from outside of the simulation.
    Outside,
    /// On fresh threads it does not; nobody tried fresh processes.
    ProcessOrOutside,
}

/// A run of a case in a process of its own, as [`FreshProcess`] gives it back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Elsewhere {
    /// The digest.
    pub digest: String,
    /// The events, where they were asked for.
    pub events: Vec<Event>,
}

/// Runs a case in a fresh process of the same program; `None` when that cannot be had.
pub type FreshProcess<'a> = &'a (dyn Fn(&Case, Keep) -> Option<Elsewhere> + Sync);

/// Runs a case twice on this thread and compares.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn check(scenario: &dyn Scenario, case: &Case) -> Result<Option<Difference>, CaseError> {
    let first = trial::run(scenario, case, Keep::Digest)?;
    check_again(scenario, case, &first.outcome.digest, None)
}

/// Runs a case once more on this thread and compares it with the digest of an earlier run. With a way to run it in fresh
/// processes, more can be said about the source of a difference.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn check_again(
    scenario: &dyn Scenario,
    case: &Case,
    earlier: &str,
    fresh: Option<FreshProcess<'_>>,
) -> Result<Option<Difference>, CaseError> {
    let again = trial::run(scenario, case, Keep::Digest)?.outcome.digest;
    if again == earlier {
        return Ok(None);
    }
    let mut parting = None;
    for _ in 0..WATCHED_PAIRS_MAX {
        let one = trial::run(scenario, case, Keep::Events)?.ended;
        let other = trial::run(scenario, case, Keep::Events)?.ended;
        parting = part(&one.events, &other.events, &one.nodes);
        if parting.is_some() {
            break;
        }
    }
    let suspect = suspect(scenario, case, fresh);
    Ok(Some(Difference { digests: [earlier.to_owned(), again], parting, suspect }))
}

/// Runs a case once in a fresh process and compares it with the digest of an earlier run here.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn check_elsewhere(
    scenario: &dyn Scenario,
    case: &Case,
    earlier: &str,
    fresh: FreshProcess<'_>,
) -> Result<Option<Difference>, CaseError> {
    let Some(digest) = fresh(case, Keep::Digest).map(|run| run.digest).filter(|digest| digest != earlier) else {
        return Ok(None);
    };
    let here = trial::run(scenario, case, Keep::Events)?.ended;
    let parting = fresh(case, Keep::Events).and_then(|there| part(&here.events, &there.events, &here.nodes));
    Ok(Some(Difference { digests: [earlier.to_owned(), digest], parting, suspect: Suspect::Outside }))
}

/// Finds out where a case runs alike.
fn suspect(scenario: &dyn Scenario, case: &Case, fresh: Option<FreshProcess<'_>>) -> Suspect {
    let on_fresh_thread = || {
        #[expect(clippy::disallowed_methods, reason = "a fresh thread is what is tried; it runs a whole world")]
        thread::scope(|scope| {
            let run = move || trial::run(scenario, case, Keep::Digest).map(|trial| trial.outcome.digest).ok();
            scope.spawn(run).join().ok().flatten()
        })
    };
    if on_fresh_thread() == on_fresh_thread() {
        return Suspect::Thread;
    }
    let Some(fresh) = fresh else { return Suspect::ProcessOrOutside };
    match (fresh(case, Keep::Digest), fresh(case, Keep::Digest)) {
        (Some(one), Some(other)) if one.digest == other.digest => Suspect::Process,
        (Some(_), Some(_)) => Suspect::Outside,
        _ => Suspect::ProcessOrOutside,
    }
}

/// Where two runs part.
fn part(one: &[Event], other: &[Event], nodes: &[String]) -> Option<Parting> {
    let length = one.len().max(other.len());
    let differs = (0..length).find(|&n| one.get(n) != other.get(n))?;
    let events = [one.get(differs).cloned(), other.get(differs).cloned()];
    let first = events.iter().flatten().min_by_key(|event| event.at)?;
    let node = nodes.get(first.node.0 as usize).cloned().unwrap_or_else(|| format!("node {}", first.node.0));
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
        write!(to, ". {}", self.suspect)
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Suspect::Thread => {
                "On fresh threads it runs alike: look for the order of a HashMap or HashSet, a thread_local, or a \
                 generator that is seeded once a thread (rand::random, uuid v4)"
            }
            Suspect::Process => {
                "In fresh processes it runs alike: look for a static that outlives the world, such as a counter, a \
                 cache or a pool, for the id of a thread, or for a generator that is seeded by it (fastrand)"
            }
            Suspect::Outside => {
                "In another process it runs differently: look for a generator of somebody's own (rand 0.8, \
                 fastrand), a real thread, real time or an address in a decision"
            }
            Suspect::ProcessOrOutside => {
                "On another thread it runs differently: look for a static that outlives the world, a generator of \
                 somebody's own (rand 0.8, fastrand), a real thread, real time, an address or the id of a thread in a \
                 decision"
            }
        })
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
