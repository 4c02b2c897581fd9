//! One trial: a case of a scenario is run in a world and judged.

use squall_protocol::Fact;

use crate::case::Case;
use crate::invariant::{self, History, Invariant, Kind, Tally};
use crate::kernel::Halt;
use crate::panics;
use crate::scenario::{CaseError, Scenario};
use crate::time::SimTime;
use crate::trace::Keep;
use crate::verdict::{Finding, Severity, Verdict};
use crate::world::{self, Ended, World};

/// The longest that a case may last, in milliseconds: a hundred years. Clocks still show a date that can be written.
pub const END_MS_MAX: u64 = 100 * 365 * 86_400_000;

/// The digest of a world that never ran.
const NO_DIGEST: &str = "0000000000000000";

/// A trial, with all that its world left behind.
#[derive(Debug)]
pub struct Trial {
    /// What it came to.
    pub outcome: Outcome,
    /// The world's remains, for reports.
    pub ended: Ended,
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name.
    pub variant: String,
    /// The case's seed.
    pub seed: u64,
    /// The verdict.
    pub verdict: Verdict,
    /// The digest of every event.
    pub digest: String,
    /// When the world ended, in true time.
    pub ended_at: SimTime,
    /// How many requests were answered.
    pub exchanges: u64,
    /// The faults of the plan, in its order.
    pub faults: Vec<FaultRecord>,
    /// What each invariant applied to.
    pub tallies: Vec<Tally>,
    /// Jobs that were queued.
    pub jobs_queued: u64,
    /// Executions of jobs that were begun.
    pub jobs_started: u64,
}

/// One fault, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// The family.
    pub family: String,
    /// Did it begin before the world ended?
    pub began: bool,
    /// How many things it changed.
    pub effects: u64,
}

impl Outcome {
    /// How many faults changed something.
    pub fn faults_effective(&self) -> usize {
        self.faults.iter().filter(|fault| fault.effects > 0).count()
    }

    /// The outcome of a seed that never became a world.
    fn broken(scenario: &dyn Scenario, variant: &str, seed: u64, message: String) -> Self {
        let halt = Halt::Panic { task: "the generator of cases".to_owned(), message };
        Self {
            scenario: scenario.name().to_owned(),
            variant: variant.to_owned(),
            seed,
            verdict: Verdict::of(of_halt(&halt, SimTime::ZERO).into_iter().collect()),
            digest: NO_DIGEST.to_owned(),
            ended_at: SimTime::ZERO,
            exchanges: 0,
            faults: Vec::new(),
            tallies: Vec::new(),
            jobs_queued: 0,
            jobs_started: 0,
        }
    }
}

/// Runs a case of a scenario and judges it. A panic of anything inside is a verdict.
///
/// # Errors
/// [`CaseError`] when the case does not fit the scenario.
pub fn run(scenario: &dyn Scenario, case: &Case, keep: Keep) -> Result<Trial, CaseError> {
    if case.end_ms > END_MS_MAX {
        let why = format!("a run lasts at most {END_MS_MAX} ms, not {}", case.end_ms);
        return Err(CaseError::Misfit { part: "end_ms", scenario: case.scenario.clone(), why });
    }
    let mut misfit = None;
    let ended = caught("the world", || {
        world::run(case.seed, keep, SimTime::from_millis(case.end_ms), |world| {
            misfit = furnish(scenario, case, world).err();
            if misfit.is_some() {
                world.stop();
            }
        })
    });
    if let Some(misfit) = misfit {
        return Err(misfit);
    }
    let ended = ended.unwrap_or_else(never_ended);
    let (verdict, tallies) = judge(scenario, case, &ended);
    let count = |counts: fn(&Fact) -> bool| ended.journal.iter().filter(|entry| counts(&entry.fact)).count() as u64;
    let outcome = Outcome {
        scenario: case.scenario.clone(),
        variant: case.variant.clone(),
        seed: case.seed,
        verdict,
        digest: ended.digest.clone(),
        ended_at: ended.at,
        exchanges: ended.exchanges,
        faults: records(case, &ended),
        tallies,
        jobs_queued: count(|fact| matches!(fact, Fact::JobQueued { .. })),
        jobs_started: count(|fact| matches!(fact, Fact::JobStarted { .. })),
    };
    Ok(Trial { outcome, ended })
}

/// Runs the case that a seed stands for. Whatever is wrong with it is a verdict, too.
pub fn run_seed(scenario: &dyn Scenario, variant: &str, seed: u64) -> Outcome {
    match generate(scenario, variant, seed) {
        Ok(case) => match run(scenario, &case, Keep::Digest) {
            Ok(trial) => trial.outcome,
            Err(misfit) => Outcome::broken(scenario, variant, seed, misfit.to_string()),
        },
        Err(broken) => *broken,
    }
}

/// The case that a seed stands for.
///
/// # Errors
/// A verdict, when the scenario panics over it.
pub fn generate(scenario: &dyn Scenario, variant: &str, seed: u64) -> Result<Case, Box<Outcome>> {
    panics::keep_quiet();
    panics::caught(|| scenario.generate(seed, variant))
        .map_err(|thrown| Box::new(Outcome::broken(scenario, variant, seed, thrown.to_string())))
}

/// A case with the choices of a variant in the place of its own.
///
/// # Errors
/// A verdict, when the scenario panics over it.
pub fn as_variant(scenario: &dyn Scenario, case: &Case, variant: &str) -> Result<Case, Box<Outcome>> {
    let choices = generate(scenario, variant, case.seed)?.choices;
    Ok(Case { variant: variant.to_owned(), choices, ..case.clone() })
}

fn furnish(scenario: &dyn Scenario, case: &Case, world: &World) -> Result<(), CaseError> {
    scenario.furnish(case, world)?;
    world.inject(&case.plan).map_err(|why| CaseError::Plan { scenario: case.scenario.clone(), why: Box::new(why) })
}

fn judge(scenario: &dyn Scenario, case: &Case, ended: &Ended) -> (Verdict, Vec<Tally>) {
    let mut findings = Vec::from_iter(of_halt(&ended.halt, ended.at));
    let judged = caught("the judge", || {
        let invariants = scenario.invariants(case);
        let heal_at = SimTime::from_millis(case.plan.heal_at_ms);
        let history = History { journal: &ended.journal, heal_at, end: end_of(case, ended) };
        invariant::judge(&applicable(invariants, &ended.halt), &history)
    });
    let tallies = match judged {
        Ok(judged) => {
            findings.extend(judged.verdict.findings);
            judged.tallies
        }
        Err(halt) => {
            findings.extend(of_halt(&halt, ended.at));
            Vec::new()
        }
    };
    (Verdict::of(findings), tallies)
}

/// A run that was cut short says nothing about what would still have happened.
fn applicable(mut invariants: Vec<Box<dyn Invariant>>, halt: &Halt) -> Vec<Box<dyn Invariant>> {
    if matches!(halt, Halt::NoProgress { .. } | Halt::Panic { .. }) {
        invariants.retain(|invariant| !matches!(invariant.kind(), Kind::EventuallyWithin(_)));
    }
    invariants
}

/// Until when the history is known: where nothing can happen any more, it is known to the case's end.
fn end_of(case: &Case, ended: &Ended) -> SimTime {
    if ended.halt == Halt::Idle { SimTime::from_millis(case.end_ms) } else { ended.at }
}

/// What the end of a world is a sign of.
fn of_halt(halt: &Halt, at: SimTime) -> Option<Finding> {
    let finding = |severity, invariant: &str, task: &str, message| Finding {
        severity,
        invariant: invariant.to_owned(),
        subject_kind: kind_of_task(task),
        subject: task.to_owned(),
        at,
        message,
    };
    match halt {
        // A world in which nothing can happen any more may simply have done its work; liveness is for invariants.
        Halt::End | Halt::Idle => None,
        Halt::NoProgress { task } => {
            let message = format!("{task} ran on and on without time passing, until its budget of steps was used up");
            Some(finding(Severity::Stuck, "time-passes", task, message))
        }
        Halt::Panic { task, message } => {
            Some(finding(Severity::Panic, "no-panic", task, format!("{task} panicked: {message}")))
        }
    }
}

/// `runner-3/agent` is an `agent`, and so is `runner-4/agent`.
fn kind_of_task(task: &str) -> String {
    let name = task.rsplit('/').next().unwrap_or(task);
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '#');
    if kind.is_empty() { name.to_owned() } else { kind.to_owned() }
}

fn records(case: &Case, ended: &Ended) -> Vec<FaultRecord> {
    let record = |(id, fault): (usize, &crate::fault::Fault)| FaultRecord {
        family: fault.kind.family().to_owned(),
        began: fault.at_ms <= ended.at.as_millis(),
        effects: ended.effects.of(id),
    };
    case.plan.faults.iter().enumerate().map(record).collect()
}

/// What is left of a world that a panic outside of its tasks tore down.
fn never_ended(halt: Halt) -> Ended {
    Ended {
        halt,
        at: SimTime::ZERO,
        digest: NO_DIGEST.to_owned(),
        exchanges: 0,
        journal: Vec::new(),
        events: Vec::new(),
        effects: Default::default(),
        nodes: vec!["world".to_owned()],
    }
}

fn caught<T>(task: &str, work: impl FnOnce() -> T) -> Result<T, Halt> {
    panics::keep_quiet();
    panics::caught(work).map_err(|thrown| Halt::Panic { task: task.to_owned(), message: thrown.to_string() })
}

#[cfg(test)]
mod tests {
    use super::kind_of_task;

    #[test]
    fn tasks_of_one_kind_are_alike_on_every_node() {
        assert_eq!(kind_of_task("runner-3/agent"), "agent");
        assert_eq!(kind_of_task("runner-12/worker-4"), "worker");
        assert_eq!(kind_of_task("connection"), "connection");
        assert_eq!(kind_of_task("12"), "12");
        assert_eq!(kind_of_task(""), "");
    }
}
