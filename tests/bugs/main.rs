//! A regression test for each bug of the bank, named after it: its smallest case fails with the bug and by the invariant
//! that found it, and passes with the repaired design.
//!
//! The cases and their index are made by `cargo run --release -- bugs --out tests/bugs/cases`. A bug that no random seed
//! shows is marked in the index by that run, with how many seeds it looked at; some of them are looked at again here, and
//! its case is written by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use squall::registry;
use squall_sim::case::Case;
use squall_sim::scenario::{Bug, Scenario};
use squall_sim::trace::Keep;
use squall_sim::verdict::Finding;
use squall_sim::{case_file, trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let bank = Arc::new(Bank::read());
    let mut bugs = Vec::new();
    for scenario in registry::scenarios() {
        bugs.extend(scenario.bugs().into_iter().map(|bug| (scenario, bug)));
    }
    let names: Vec<String> = bugs.iter().map(|(_, bug)| bug.name.clone()).collect();
    let mut trials: Vec<Trial> = bugs.into_iter().map(|(scenario, bug)| regression(&bank, scenario, bug)).collect();
    trials.push(Trial::test("the bank names no other bug", move || bank.names_only(&names)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is known of the bugs.
struct Bank {
    folder: PathBuf,
    index: BTreeMap<String, Known>,
}

/// What a run of `squall bugs` says of a bug.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Known {
    Shown { fingerprint: String },
    NotFound { not_found_in_seeds: u64 },
}

/// A bug counts as not found when at least so many seeds were looked at.
const LOOKED: u64 = 500;
/// So many of them are looked at again: a bug that shows in the first few has lost its mark.
const LOOK_AGAIN: u64 = 4;

impl Bank {
    fn read() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bugs");
        let folder = here.join("cases");
        let index = fs::read_to_string(folder.join("index.json")).expect("the index is there");
        Self { folder, index: serde_json::from_str(&index).expect("an index") }
    }

    fn case(&self, bug: &str) -> Result<Case, Failed> {
        let path = self.folder.join(format!("{bug}.json"));
        let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        case_file::parse(&text).map_err(|why| format!("{}: {why}", path.display()).into())
    }

    fn names_only(&self, bugs: &[String]) -> Result<(), Failed> {
        let files = fs::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.path()));
        let files = files.collect::<Result<Vec<PathBuf>, _>>()?;
        let cases = files.iter().filter_map(|path| path.file_name()?.to_str()?.strip_suffix(".json"));
        let named = cases.filter(|name| *name != "index").chain(self.index.keys().map(String::as_str));
        let others: Vec<&str> = named.filter(|name| !bugs.iter().any(|bug| bug == name)).collect();
        if others.is_empty() { Ok(()) } else { Err(format!("there are no such bugs: {}", others.join(", ")).into()) }
    }
}

fn regression(bank: &Arc<Bank>, scenario: &'static dyn Scenario, bug: Bug) -> Trial {
    let bank = bank.clone();
    let name = bug.name.clone();
    Trial::test(name, move || match bank.index.get(&bug.name) {
        Some(Known::Shown { fingerprint }) => shows(scenario, &bug, &bank.case(&bug.name)?, Some(fingerprint)),
        Some(Known::NotFound { not_found_in_seeds }) if *not_found_in_seeds < LOOKED => {
            Err(format!("{not_found_in_seeds} seeds are too few to call it not found").into())
        }
        Some(Known::NotFound { .. }) => {
            is_hidden(scenario, &bug)?;
            shows(scenario, &bug, &bank.case(&bug.name)?, None)
        }
        None => Err(format!("it was not looked for: {RUN}").into()),
    })
}

const RUN: &str = "run `cargo run --release -- bugs --out tests/bugs/cases`, with its name";

/// Do the first seeds pass with the bug, as the run has said?
fn is_hidden(scenario: &dyn Scenario, bug: &Bug) -> Result<(), Failed> {
    for seed in 0..LOOK_AGAIN {
        let outcome = trial::run_seed(scenario, &bug.name, seed);
        if let Some(finding) = outcome.verdict.worst() {
            return Err(format!("seed {seed} shows it, {finding:?}: {RUN}").into());
        }
    }
    Ok(())
}

/// Does the case fail with the bug, in this way if one is known, and pass without it?
fn shows(scenario: &dyn Scenario, bug: &Bug, case: &Case, fingerprint: Option<&str>) -> Result<(), Failed> {
    let found = |variant: &str| -> Result<Option<Finding>, Failed> {
        let case = trial::as_variant(scenario, case, variant).map_err(|broken| format!("{:?}", broken.verdict))?;
        Ok(trial::run(scenario, &case, Keep::Digest)?.outcome.verdict.worst().cloned())
    };
    let with = found(&bug.name)?;
    let shown = with.as_ref().map(Finding::fingerprint);
    if shown.is_none() || fingerprint.is_some_and(|expected| shown.as_deref() != Some(expected)) {
        let (summary, upstream, expected) = (&bug.summary, &bug.upstream, fingerprint.unwrap_or("any failure"));
        return Err(format!("{summary} ({upstream}): {expected} is expected, {shown:?} is found: {with:?}").into());
    }
    match found("hardened")? {
        None => Ok(()),
        Some(finding) => Err(format!("the repaired design fails, too: {finding:?}").into()),
    }
}
