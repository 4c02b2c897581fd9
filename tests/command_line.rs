//! The command line over a toy scenario.

#[path = "../sim/tests/toy/mod.rs"]
mod toy;

use std::fs;
use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use squall::cli::{self, Surroundings};
use squall_sim::World;
use squall_sim::case::Case;
use squall_sim::invariant::Invariant;
use squall_sim::scenario::{CaseError, Scenario};
use squall_sim::verdict::Severity;
use squall_sim::{case_file, trial};
use toy::Toy;

static NEVER: AtomicBool = AtomicBool::new(false);
static AT_ONCE: AtomicBool = AtomicBool::new(true);

struct Printed {
    code: u8,
    out: String,
    err: String,
}

fn squall(arguments: &[&str]) -> Printed {
    squall_until(arguments, || &NEVER)
}

fn squall_until(arguments: &[&str], interrupted: fn() -> &'static AtomicBool) -> Printed {
    squall_over(&[&Toy], arguments, interrupted)
}

fn squall_over(
    scenarios: &[&'static dyn Scenario],
    arguments: &[&str],
    interrupted: fn() -> &'static AtomicBool,
) -> Printed {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut around = Surroundings { out: &mut out, err: &mut err, interrupted, program: None };
    let arguments = ["squall"].iter().chain(arguments).map(Into::into);
    let code = cli::run(arguments, scenarios, &[], &mut around);
    Printed { code, out: String::from_utf8(out).expect("text"), err: String::from_utf8(err).expect("text") }
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

#[test]
fn a_scenario_without_a_server_is_not_served() {
    let printed = squall(&["serve", "toy-queue"]);
    assert_eq!((printed.code, printed.out.as_str()), (2, ""));
    assert!(printed.err.contains("toy-queue has no server to serve"), "{}", printed.err);
}

#[test]
fn explore_prints_a_line_for_each_seed_and_a_summary() {
    let printed = squall(&["explore", "toy-queue", "--variant", "upstream", "--seeds", "20", "--format", "json"]);
    assert_eq!((printed.code, printed.err.as_str()), (3, ""));
    let lines = json(&printed.out);
    let (summary, runs) = lines.split_last().expect("lines");
    assert_eq!(
        runs.iter().map(|run| run["seed"].as_u64().expect("a seed")).collect::<Vec<_>>(),
        (0..20).collect::<Vec<_>>()
    );
    for run in runs {
        let fields: Vec<&str> = run.as_object().expect("an object").keys().map(String::as_str).collect();
        for field in [
            "scenario",
            "variant",
            "seed",
            "digest",
            "verdict",
            "invariant",
            "fingerprint",
            "sim_ms",
            "wall_us",
            "exchanges",
            "faults",
            "faults_effective",
        ] {
            assert!(fields.contains(&field), "{field} is missing in {fields:?}");
        }
        assert_eq!(run["verdict"] == "pass", run["invariant"].is_null());
    }
    let failed = runs.iter().filter(|run| run["verdict"] != "pass").count();
    assert!(failed > 0);
    assert_eq!((&summary["summary"], &summary["seeds"]), (&true.into(), &20.into()));
    assert_eq!(summary["failed"], failed);
    assert!(summary["wall_ms"].is_u64());
    let campaign = &summary["campaigns"][0];
    assert_eq!(campaign["fingerprints"]["every-job-ends/job"]["trials"], failed);
    assert!(campaign["families"]["crash"]["effective"].as_u64().expect("a count") > 0);
    assert_eq!(campaign["invariants"]["every-job-ends"], 200);
    assert_eq!(campaign["gaps"], Value::Array(Vec::new()));
}

#[test]
fn without_a_variant_the_bug_must_show_and_the_repair_must_hold() {
    let both = squall(&["explore", "--seeds", "20"]);
    assert_eq!(both.code, 0, "{}", both.out);
    assert!(both.out.starts_with("squall replay toy-queue "), "{}", both.out);
    assert!(both.out.contains("every-job-ends") && both.out.contains("20 seeds clean"), "{}", both.out);
    assert!(both.out.contains("→ 1 ") && both.out.contains("every hardened one is clean"), "{}", both.out);
    let wide = both.out.lines().map(|line| line.chars().count()).max();
    assert!(wide.is_some_and(|wide| wide <= 120), "{}", both.out);

    // One seed without a crash shows nothing.
    let quiet = (0..).find(|seed| Toy.generate(*seed, "upstream").plan.faults.is_empty()).expect("some").to_string();
    let missed = squall(&["explore", "--seeds", "1", "--start", &quiet]);
    assert_eq!(missed.code, 1, "{}", missed.out);
    assert!(missed.out.contains("NOT CAUGHT in 1 seeds"), "{}", missed.out);

    let hardened = squall(&["explore", "--variant", "hardened", "--seeds", "20"]);
    assert_eq!(hardened.code, 0, "{}", hardened.out);
}

#[test]
fn a_gap_is_told_in_a_sentence() {
    let quiet = (0..).find(|seed| Toy.generate(*seed, "upstream").plan.faults.is_empty()).expect("some").to_string();
    let empty = squall(&["explore", "--variant", "hardened", "--seeds", "1", "--start", &quiet, "--shard", "1/2"]);
    let other = squall(&["explore", "--variant", "hardened", "--seeds", "1", "--start", &quiet, "--shard", "2/2"]);
    let told = [empty.out, other.out].concat();
    assert_eq!(told.matches("toy-queue hardened: no seed was run").count(), 1, "{told}");
}

/// The toy on a holiday: there is no work, and nobody to do it.
struct Holiday;

impl Scenario for Holiday {
    fn name(&self) -> &'static str {
        "holiday"
    }

    fn summary(&self) -> &'static str {
        "Nothing is to be done."
    }

    fn generate(&self, seed: u64, _: &str) -> Case {
        let workload = serde_json::json!({"jobs": 0});
        Case { scenario: self.name().to_owned(), workload, ..Toy.generate(seed, "desert") }
    }

    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError> {
        Toy.furnish(case, world)
    }

    fn invariants(&self, case: &Case) -> Vec<Box<dyn Invariant>> {
        Toy.invariants(case)
    }
}

#[test]
fn a_campaign_in_which_nothing_was_done_fails_with_the_reason() {
    let explore = |seeds: &str| {
        let arguments = ["explore", "holiday", "--variant", "hardened", "--seeds", seeds];
        squall_over(&[&Holiday], &arguments, || &NEVER)
    };
    let few = explore("5");
    assert_eq!(few.code, 0, "five seeds prove nothing either way");
    assert!(few.out.contains("note: holiday hardened: no request was ever answered"), "{}", few.out);
    let many = explore("10");
    assert_eq!(many.code, 1);
    assert!(many.out.contains("FAILS: holiday hardened: no request was ever answered"), "{}", many.out);
    assert!(many.out.contains("note: holiday hardened: invariant every-job-ends never had anything"), "{}", many.out);
}

#[test]
fn shards_are_added_up_to_the_campaign() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |shard: &str| {
        let out = folder.path().join(shard.replace('/', "-"));
        let path = out.to_str().expect("text");
        squall(&["explore", "--seeds", "21", "--shard", shard, "--format", "json", "--out", path]);
        out.join("runs.jsonl").to_str().expect("text").to_owned()
    };
    let [first, second, third, whole] = ["1/3", "2/3", "3/3", "1/1"].map(run);
    let merged = squall(&["merge", &first, &third, &second, "--format", "json"]);
    assert_eq!((merged.code, merged.err.as_str()), (0, ""));
    let whole = fs::read_to_string(whole).expect("it is there");
    let whole: Value = serde_json::from_str(whole.lines().last().expect("a summary")).expect("JSON");
    let merged = &json(&merged.out)[0];
    assert_eq!((&merged["seeds"], &merged["failed"]), (&whole["seeds"], &whole["failed"]));
    for (merged, whole) in [0, 1].map(|n| (&merged["campaigns"][n], &whole["campaigns"][n])) {
        for field in ["variant", "seeds", "failed", "fingerprints", "families", "invariants", "gaps", "exchanges"] {
            assert_eq!(merged[field], whole[field], "{field}");
        }
    }
    let told = squall(&["merge", &first, &second, &third]);
    assert!(told.out.contains("21 seeds clean") && told.out.contains("every-job-ends"), "{}", told.out);
}

#[test]
fn continuous_integration_gets_annotations_and_a_junit_report() {
    let github = |variant: &str| squall(&["explore", "--variant", variant, "--seeds", "20", "--format", "github"]).out;
    let upstream = github("upstream");
    let error = upstream.lines().find(|line| line.starts_with("::error ")).expect("an annotation");
    assert!(error.contains("title=stuck%3A every-job-ends/job in toy-queue upstream::job-"), "{error}");
    assert!(error.contains("again by: squall replay toy-queue "), "{error}");
    assert!(!github("hardened").contains("::error"));
    let both = squall(&["explore", "--seeds", "20", "--format", "github"]).out;
    assert!(both.contains("::notice title=stuck") && !both.contains("::error"), "{both}");

    let junit = squall(&["explore", "--variant", "upstream", "--seeds", "20", "--format", "junit"]);
    assert_eq!(junit.code, 3);
    for told in [
        "<testsuite name=\"toy-queue upstream\" tests=\"2\"",
        "failures=\"1\"",
        "<testcase name=\"every-job-ends\"",
        "squall replay toy-queue ",
    ] {
        assert!(junit.out.contains(told), "{told} is missing in {}", junit.out);
    }
    let both = squall(&["explore", "--seeds", "20", "--format", "junit"]).out;
    assert!(both.starts_with("<?xml") && both.contains("failures=\"0\""), "{both}");
}

#[test]
fn ctrl_c_ends_a_campaign_with_what_it_has() {
    let printed =
        squall_until(&["explore", "--variant", "hardened", "--seeds", "1000", "--format", "json"], || &AT_ONCE);
    assert_eq!(printed.code, 0);
    assert!(printed.err.contains("interrupted"), "{}", printed.err);
    let lines = json(&printed.out);
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["interrupted"], &summary["seeds"]), (&true.into(), &0.into()));
    let both = squall_until(&["explore", "--seeds", "1000"], || &AT_ONCE);
    assert_eq!(both.code, 1, "nothing was caught");
}

#[test]
fn a_failing_seed_replays_alike_and_as_a_case_file_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("found");
    let path = out.to_str().expect("text");
    let explored = squall(&["explore", "--variant", "upstream", "--seeds", "20", "--format", "json", "--out", path]);
    let runs = json(&explored.out);
    assert_eq!(json(&fs::read_to_string(out.join("runs.jsonl")).expect("it is there")), runs);
    let failing = runs.iter().find(|run| run["verdict"] == "stuck").expect("some fail");

    let seed = failing["seed"].to_string();
    let replayed = squall(&["replay", "toy-queue", &seed, "--format", "json"]);
    let same = |run: &Value| ["digest", "verdict", "invariant", "fingerprint"].map(|field| run[field].clone());
    assert_eq!(replayed.code, 3);
    assert_eq!(same(&json(&replayed.out)[0]), same(failing));

    let story = squall(&["replay", "toy-queue", &seed]);
    let command = format!("squall replay toy-queue {seed} --variant upstream");
    assert!(story.out.starts_with(&command) && story.out.contains("every-job-ends"), "{}", story.out);
    let kept = out.join(format!("toy-queue-upstream-{seed}.txt"));
    assert_eq!(fs::read_to_string(kept).expect("it is there"), story.out);

    let case = out.join(format!("toy-queue-upstream-{seed}.json"));
    let from_file = squall(&["replay", case.to_str().expect("text"), "--format", "json"]);
    assert_eq!((from_file.code, same(&json(&from_file.out)[0])), (3, same(failing)));
}

#[test]
fn replay_writes_a_file_instead_and_tells_the_verdict_by_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let story = folder.path().join("story.txt");
    let replayed =
        squall(&["replay", "toy-queue", "1", "--variant", "hardened", "--out", story.to_str().expect("text")]);
    assert_eq!((replayed.code, replayed.out.as_str()), (0, ""));
    assert!(fs::read_to_string(&story).expect("it is there").contains("verdict: pass"));

    for (variant, code, told) in
        [("panicking", 5, "panicked"), ("leaking", 4, "same-case-same-run"), ("spinning", 3, "time-passes")]
    {
        let case = folder.path().join("case.json");
        fs::write(&case, case_file::to_text(&Toy.generate(0, variant))).expect("there is room");
        let replayed = squall(&["replay", case.to_str().expect("text")]);
        assert_eq!(replayed.code, code, "{}", replayed.out);
        assert!(replayed.out.contains(told), "{}", replayed.out);
    }
}

#[test]
fn a_failing_run_is_shrunk_and_comes_as_a_token_and_as_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let seed = (0..).find(|seed| trial::run_seed(&Toy, "upstream", *seed).verdict.severity() > Severity::Pass);
    let seed = seed.expect("some seed fails").to_string();
    let shrunk = squall(&["replay", "toy-queue", &seed, "--shrink"]);
    assert_eq!(shrunk.code, 3, "{}", shrunk.out);
    assert!(shrunk.err.contains(" to 1 in ") && shrunk.err.contains("nothing smaller"), "{}", shrunk.err);
    let command = shrunk.out.lines().next().expect("a replay command");
    let again: Vec<&str> = command.split(' ').skip(1).collect();
    assert!(again[1].starts_with("squall:"), "{command}");
    assert_eq!(squall(&again).out, shrunk.out);

    let token = squall(&["replay", "toy-queue", &seed, "--shrink", "--format", "token"]);
    assert_eq!((token.code, token.out.trim_end()), (3, again[1]));
    let path = folder.path().join("small.json");
    let path = path.to_str().expect("text");
    let kept = squall(&["replay", "toy-queue", &seed, "--shrink", "--format", "case", "--out", path]);
    assert_eq!(kept.code, 3);
    let from_file = json(&squall(&["replay", path, "--format", "json"]).out);
    let from_token = json(&squall(&["replay", again[1], "--format", "json"]).out);
    assert_eq!((&from_file[0]["case"], &from_file[0]["digest"]), (&from_token[0]["case"], &from_token[0]["digest"]));

    let passes = squall(&["replay", "toy-queue", &seed, "--variant", "hardened", "--shrink"]);
    assert_eq!(passes.code, 0);
    assert!(passes.err.contains("nothing to shrink"), "{}", passes.err);
}

#[test]
fn bugs_are_hunted_one_by_one_and_the_missed_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("cases");
    let hunted =
        squall(&["bugs", "--seeds", "30", "--format", "json", "--out", out.to_str().expect("text"), "--jobs", "3"]);
    assert_eq!((hunted.code, hunted.err.as_str()), (1, ""), "one is not found");
    let [forget, colour, summary] = &json(&hunted.out)[..] else { panic!("{}", hunted.out) };
    for field in
        ["bug", "scenario", "upstream", "found", "seeds_to_find", "seed", "invariant", "faults_before", "faults_after"]
    {
        assert!(forget.get(field).is_some_and(|value| !value.is_null()), "{field} is missing in {forget}");
    }
    assert_eq!((&forget["bug"], &forget["found"]), (&"toy.forget".into(), &true.into()));
    assert_eq!((&forget["invariant"], &forget["faults_after"]), (&"every-job-ends".into(), &1.into()));
    assert_eq!(forget["seeds_to_find"].as_u64(), forget["seed"].as_u64().map(|seed| seed + 1));
    assert_eq!((&colour["bug"], &colour["found"], &colour["seeds"]), (&"toy.colour".into(), &false.into(), &30.into()));
    assert_eq!((&summary["bugs"], &summary["found"]), (&2.into(), &1.into()));
    assert_eq!(summary["not_found"], serde_json::json!(["toy.colour"]));

    let case = out.join("toy.forget.json");
    let replayed = squall(&["replay", case.to_str().expect("text")]);
    assert_eq!(replayed.code, 3, "{}", replayed.out);
    assert!(!out.join("toy.colour.json").exists());
    let index = json(&fs::read_to_string(out.join("index.json")).expect("it is there").replace('\n', ""));
    assert_eq!(index[0]["toy.forget"]["fingerprint"], "every-job-ends/job");
    assert_eq!(index[0]["toy.colour"], serde_json::json!({"not_found_in_seeds": 30}));

    let one = squall(&["bugs", "toy.forget", "--seeds", "30"]);
    assert_eq!(one.code, 0, "{}", one.out);
    assert!(one.out.contains("1 faults  every-job-ends") && one.out.contains("1 of 1 bugs found"), "{}", one.out);
    let missed = squall(&["bugs", "toy.colour", "--seeds", "3"]);
    assert_eq!(missed.code, 1);
    assert!(missed.out.contains("NOT FOUND in 3 seeds"), "{}", missed.out);
}

#[test]
fn ctrl_c_ends_a_hunt_with_the_bugs_that_were_done() {
    let hunted = squall_until(&["bugs", "--format", "json"], || &AT_ONCE);
    assert_eq!(hunted.code, 1);
    assert!(hunted.err.contains("interrupted"), "{}", hunted.err);
    let [summary] = &json(&hunted.out)[..] else { panic!("{}", hunted.out) };
    assert_eq!((&summary["interrupted"], &summary["found"]), (&true.into(), &0.into()));
}

#[test]
fn list_names_everything() {
    let listed = squall(&["list", "--format", "json"]);
    let lists = &json(&listed.out)[0];
    for list in ["scenarios", "bugs", "faults", "invariants", "policies"] {
        assert!(lists[list].is_array(), "{list}");
    }
    let names = |list: &str| -> Vec<String> {
        let list = lists[list].as_array().expect("a list");
        list.iter().map(|named| named["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("scenarios"), ["toy-queue"]);
    assert!(names("faults").contains(&"partition".to_owned()));
    let invariants = names("invariants");
    assert!(invariants.contains(&"every-job-ends".to_owned()) && invariants.contains(&"one-live-session".to_owned()));
    let told = squall(&["list"]);
    assert!(told.out.contains("scenarios\n  toy-queue  Workers take jobs"), "{}", told.out);
}

#[test]
fn help_is_no_error() {
    let help = squall(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("explore") && help.out.contains("Exit codes"), "{}", help.out);
    assert_eq!(squall(&["explore", "--help"]).code, 0);
}

/// Takes a few lines, as `head` does.
struct Head(usize);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_who_has_seen_enough_ends_the_campaign_quietly() {
    let mut err = Vec::new();
    let mut around = Surroundings { out: &mut Head(3), err: &mut err, interrupted: || &NEVER, program: None };
    let arguments = ["squall", "explore", "--variant", "upstream", "--time", "1h", "--format", "json"];
    let code = cli::run(arguments.map(Into::into), &[&Toy], &[], &mut around);
    assert_eq!((code, String::from_utf8_lossy(&err).as_ref()), (0, ""));
}
