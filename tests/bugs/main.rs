//! A regression test for each bug of the bank, named after it: its smallest case fails with the bug and by the invariant
//! that found it, and passes with the repaired design.
//!
//! The cases are made by `cargo run --release -- bugs --out tests/bugs/cases`. A bug without one has to be in
//! `not_found.txt`, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
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
    /// The fingerprint that each case shows, by bug.
    shown: BTreeMap<String, String>,
    /// Why a bug has no case, by bug.
    not_found: BTreeMap<String, String>,
}

impl Bank {
    fn read() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bugs");
        let read = |name: &str| fs::read_to_string(here.join(name)).unwrap_or_else(|why| panic!("{name}: {why}"));
        let index: BTreeMap<String, Value> = serde_json::from_str(&read("cases/index.json")).expect("an index");
        let fingerprint = |entry: &Value| entry["fingerprint"].as_str().expect("a fingerprint").to_owned();
        let reasons = read("not_found.txt");
        let reason = |line: &str| {
            let (bug, reason) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} gives no reason"));
            (bug.to_owned(), reason.to_owned())
        };
        Self {
            folder: here.join("cases"),
            shown: index.iter().map(|(bug, entry)| (bug.clone(), fingerprint(entry))).collect(),
            not_found: reasons.lines().filter(|line| !line.starts_with('#')).map(reason).collect(),
        }
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
        let named = cases.filter(|name| *name != "index").chain(self.shown.keys().map(String::as_str));
        let named = named.chain(self.not_found.keys().map(String::as_str));
        let others: Vec<&str> = named.filter(|name| !bugs.iter().any(|bug| bug == name)).collect();
        if others.is_empty() { Ok(()) } else { Err(format!("there are no such bugs: {}", others.join(", ")).into()) }
    }
}

fn regression(bank: &Arc<Bank>, scenario: &'static dyn Scenario, bug: Bug) -> Trial {
    let bank = bank.clone();
    let name = bug.name.clone();
    Trial::test(name, move || match (bank.shown.get(&bug.name), bank.not_found.get(&bug.name)) {
        (Some(fingerprint), None) => shows(scenario, &bug, &bank.case(&bug.name)?, fingerprint),
        (None, Some(_)) => Ok(()),
        (Some(_), Some(_)) => Err("it has a case: take it out of not_found.txt".into()),
        (None, None) => Err("it has no case: run `cargo run --release -- bugs --out tests/bugs/cases`".into()),
    })
}

/// Does the case fail in this way with the bug, and pass without it?
fn shows(scenario: &dyn Scenario, bug: &Bug, case: &Case, fingerprint: &str) -> Result<(), Failed> {
    let found = |variant: &str| -> Result<Option<Finding>, Failed> {
        let case = trial::as_variant(scenario, case, variant).map_err(|broken| format!("{:?}", broken.verdict))?;
        Ok(trial::run(scenario, &case, Keep::Digest)?.outcome.verdict.worst().cloned())
    };
    let with = found(&bug.name)?;
    let shown = with.as_ref().map(Finding::fingerprint);
    if shown.as_deref() != Some(fingerprint) {
        let (summary, upstream) = (&bug.summary, &bug.upstream);
        return Err(format!("{summary} ({upstream}): {fingerprint} is expected, {shown:?} is found: {with:?}").into());
    }
    match found("hardened")? {
        None => Ok(()),
        Some(finding) => Err(format!("the repaired design fails, too: {finding:?}").into()),
    }
}
