//! Cases of the past are run first, and none is left out in silence.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SCENARIO: &str = "actions-idle-runner";

fn squall(folder: &Path, arguments: &[&str]) -> Output {
    let squall = Command::new(env!("CARGO_BIN_EXE_squall")).args(arguments).current_dir(folder).output();
    squall.expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with one case of the past: one that fails in the variant `upstream`.
fn with_a_case() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let past = folder.path().join("squall-regressions");
    fs::create_dir(&past).expect("there is room");
    for seed in 0.. {
        let found = squall(folder.path(), &["replay", SCENARIO, &seed.to_string(), "--format", "case"]);
        if found.status.code() != Some(0) {
            fs::write(past.join("old.json"), found.stdout).expect("there is room");
            return folder;
        }
    }
    unreachable!("some seed fails")
}

#[test]
fn a_case_of_the_past_is_run_before_the_seeds_with_the_choices_that_are_checked() {
    let folder = with_a_case();
    let run = |variant: &str| {
        let arguments = ["explore", SCENARIO, "--variant", variant, "--seeds", "1", "--start", "3", "--format", "json"];
        let output = squall(folder.path(), &arguments);
        let lines: Vec<Value> = text(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (output.status.code(), lines)
    };
    let file = Path::new("squall-regressions").join("old.json").display().to_string();
    let (_, upstream) = run("upstream");
    assert_eq!(upstream[0]["file"], file.as_str());
    assert_ne!(upstream[0]["verdict"], "pass");
    assert_eq!((&upstream[1]["seed"], &upstream[1]["file"]), (&3.into(), &Value::Null));
    let (code, hardened) = run("hardened");
    assert_eq!((code, &hardened[0]["verdict"], &hardened[0]["variant"]), (Some(0), &"pass".into(), &"hardened".into()));
    assert_eq!((&hardened[2]["seeds"], &hardened[2]["campaigns"][0]["cases"]), (&1.into(), &1.into()));

    let told = text(&squall(folder.path(), &["explore", SCENARIO, "--variant", "upstream", "--seeds", "1"]));
    let replay = format!("squall replay {file} --variant upstream");
    assert!(told.starts_with(&replay), "{told}");
    let again: Vec<&str> = replay.split(' ').skip(1).collect();
    assert_ne!(squall(folder.path(), &again).status.code(), Some(0));
    let repaired = squall(folder.path(), &["replay", &file, "--variant", "hardened"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", text(&repaired));
}

#[test]
fn a_case_that_no_longer_applies_fails_the_check() {
    let folder = with_a_case();
    let path = folder.path().join("squall-regressions/old.json");
    let mut case: Value = serde_json::from_str(&fs::read_to_string(&path).expect("it is there")).expect("JSON");
    case["plan"]["faults"] = serde_json::json!([{"kind": "crash", "target": {"node": "runner-99"}, "at_ms": 1}]);
    fs::write(&path, case.to_string()).expect("there is room");
    let output = squall(folder.path(), &["explore", SCENARIO, "--variant", "hardened", "--seeds", "1"]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("FAILS: actions-idle-runner hardened: squall-regressions/old.json was not run:"), "{told}");
    assert!(told.contains("runner-99"), "{told}");

    case["scenario"] = "gone".into();
    fs::write(&path, case.to_string()).expect("there is room");
    let output = squall(folder.path(), &["explore", SCENARIO, "--variant", "hardened", "--seeds", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let noted = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(noted.contains("squall-regressions/old.json is left to the test \"gone\""), "{noted}");
}
