//! What a failed check leaves behind: the command that runs it again, the smallest case, the story.

use std::fmt::Write;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;

use super::tested::VARIANT;
use crate::case::Case;
use crate::case_file;
use crate::report::{self, Report, words};
use crate::scenario::Scenario;
use crate::shrink::{Budget, shrink};
use crate::time::SimTime;
use crate::trace::Keep;
use crate::trial::{self, Outcome, Trial};
use crate::verdict::Finding;

/// The folder of reports, below the build's own.
const REPORTS: &str = "squall-reports";

/// Tells of a seed that failed, and fails the test.
#[track_caller]
pub(super) fn tell(scenario: &dyn Scenario, seed: u64, shrinking: Budget) -> ! {
    panic!("{}", told(scenario, seed, shrinking))
}

/// Tells of a case of the past that fails again, and fails the test.
#[track_caller]
pub(super) fn tell_past(scenario: &dyn Scenario, file: &str, outcome: &Outcome) -> ! {
    let what = outcome.verdict.worst().map(finding).unwrap_or_default();
    panic!("{:?} fails with the case of the past {file}\n  what:    {what}", scenario.name())
}

/// Runs one seed and prints its story; fails the test if the seed does.
#[track_caller]
pub(super) fn tell_seed(scenario: &dyn Scenario, seed: u64, shrinking: Budget) {
    let (case, trial) = run(scenario, seed);
    let replay = command(seed);
    let report = Report { replay: &replay, scenario, case: &case, trial: &trial };
    println!("{}", report::text(&report));
    if trial.outcome.verdict.worst().is_some() {
        panic!("{}", told(scenario, seed, shrinking));
    }
}

fn told(scenario: &dyn Scenario, seed: u64, shrinking: Budget) -> String {
    let (case, trial) = run(scenario, seed);
    let mut told = format!("{:?} fails with seed {seed}\n", scenario.name());
    let mut tell = |what: &str, text: String| {
        writeln!(told, "  {:<8} {text}", format!("{what}:")).expect("writing into a string never fails");
    };
    tell("again", command(seed));
    if let Some(worst) = trial.outcome.verdict.worst() {
        tell("what", finding(worst));
    }
    let (smallest, trial) = smallest(scenario, case, trial, shrinking);
    for fault in &smallest.plan.faults {
        let at = SimTime::from_millis(fault.at_ms);
        tell("needs", format!("at {at}, for {} ms: {}", fault.for_ms, words::fault(fault)));
    }
    if smallest.plan.faults.is_empty() {
        tell("needs", "no fault at all".to_owned());
    }
    match write(scenario, &smallest, &trial) {
        Ok(files) => {
            for (what, file) in ["story", "page", "diagram", "case"].iter().zip(&files) {
                tell(what, file.display().to_string());
            }
        }
        Err(why) => tell("story", format!("could not be written: {why}")),
    }
    told
}

/// The smallest case that fails in the same way. What cannot be run again, such as a panic that comes and goes, stays.
fn smallest(scenario: &dyn Scenario, case: Case, trial: Trial, budget: Budget) -> (Case, Trial) {
    let stop = AtomicBool::new(false);
    let mut told = case.plan.faults.len();
    let shrunk = shrink(scenario, &case, budget, &stop, &mut |progress| {
        if progress.faults < told {
            told = progress.faults;
            eprintln!("  shrinking: {told} faults left after {} attempts", progress.attempts);
        }
        ControlFlow::Continue(())
    });
    match shrunk {
        Ok(Some(shrunk)) => match trial::run(scenario, &shrunk.case, Keep::Events) {
            Ok(trial) => (shrunk.case, trial),
            Err(_) => (case, trial),
        },
        _ => (case, trial),
    }
}

fn finding(worst: &Finding) -> String {
    format!("{}: {} at {}: {}", worst.severity, worst.invariant, worst.at, worst.message)
}

fn run(scenario: &dyn Scenario, seed: u64) -> (Case, Trial) {
    let case = match trial::generate(scenario, VARIANT, seed) {
        Ok(case) => case,
        Err(broken) => panic!("{:?} cannot begin with seed {seed}: {}", scenario.name(), why(&broken.verdict.findings)),
    };
    let trial = trial::run(scenario, &case, Keep::Events).unwrap_or_else(|misfit| panic!("{misfit}"));
    (case, trial)
}

fn why(findings: &[Finding]) -> &str {
    findings.first().map_or("for no known reason", |finding| &finding.message)
}

/// The command that runs one seed of this test. The test's thread has its name.
fn command(seed: u64) -> String {
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main").map(|name| format!(" -- {name}"));
    format!("SQUALL_SEED={seed} cargo test{} --nocapture", test.unwrap_or_else(|| " --".to_owned()))
}

/// Writes the story of a run, the page to look into, the diagram to paste into an issue, and the case.
fn write(scenario: &dyn Scenario, case: &Case, trial: &Trial) -> io::Result<[PathBuf; 4]> {
    let folder = folder()?;
    let name = format!("{}-{}", slug(scenario.name()), case.seed);
    let replay = command(case.seed);
    let report = Report { replay: &replay, scenario, case, trial };
    let file = |extension: &str, text: String| {
        let path = folder.join(format!("{name}.{extension}"));
        fs::write(&path, text).map(|()| path)
    };
    Ok([
        file("txt", report::text(&report))?,
        file("html", report::html(&report))?,
        file("mmd", report::mermaid(&report))?,
        file("json", case_file::to_text(case))?,
    ])
}

/// A folder of reports in the one that the test itself was built into.
fn folder() -> io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let built = test.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let folder = built.map_or_else(std::env::temp_dir, Path::to_owned).join(REPORTS);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A name as a file's.
fn slug(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    plain.collect::<String>().split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_names_of_files() {
        assert_eq!(slug("No job is lost!"), "no-job-is-lost");
        assert_eq!(slug("../x"), "x");
    }
}
