//! Bad input is answered in one line that says what was wrong and what is accepted, with exit code 2.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SCENARIO: &str = "actions-idle-runner";

fn squall(arguments: &[&str], folder: &Path) -> Output {
    let squall = Command::new(env!("CARGO_BIN_EXE_squall")).args(arguments).current_dir(folder).output();
    squall.expect("the program starts")
}

#[track_caller]
fn refused(arguments: &[&str], because: &str, accepted: &str) {
    refused_in(tempfile::tempdir().expect("a folder").path(), arguments, because, accepted);
}

#[track_caller]
fn refused_in(folder: &Path, arguments: &[&str], because: &str, accepted: &str) {
    let before = fs::read_dir(folder).expect("a folder").count();
    let output = squall(arguments, folder);
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    assert!(told.starts_with("squall: ") && !told.contains("panicked"), "{arguments:?}: {told}");
    assert!(told.contains(because) && told.contains(accepted), "{arguments:?}: {told}");
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), before, "{arguments:?} left something behind");
}

#[test]
fn commands() {
    refused(&["frobnicate"], "frobnicate", "list, explore, bugs, replay, merge, serve, lab and init");
    refused(&[], "no command", "list, explore, bugs, replay, merge, serve, lab and init");
    refused(&["explore", "--frob"], "--frob", "unexpected");
    refused(&["lab"], "no command", "compare, fuzz, region and schema");
    refused(&["lab", "frobnicate"], "frobnicate", "compare, fuzz, region and schema");
}

#[test]
fn scenarios_variants_and_formats() {
    refused(&["explore", "nope"], "\"nope\"", SCENARIO);
    refused(&["replay", "nope", "1"], "\"nope\"", SCENARIO);
    refused(&["replay", "nope"], "neither a case file nor a scenario", SCENARIO);
    refused(&["replay", "case.json", "3"], "case.json", "leave the seed 3 out");
    refused(&["explore", SCENARIO, "--variant", "nope"], "has no variant \"nope\"", "`squall list` names");
    refused(&["replay", SCENARIO, "1", "--variant", "nope"], "\"nope\"", "upstream, hardened and its bugs");
    refused(&["explore", "--format", "xml"], "'xml'", "text, json, github, junit");
    refused(&["list", "--format", "xml"], "'xml'", "text, json");
    refused(&["replay", SCENARIO, "1", "--format", "xml"], "'xml'", "text, json");
}

#[test]
fn bugs() {
    refused(&["bugs", "nope"], "no bug is called \"nope\"", "`squall list` names them all");
    refused(&["bugs", "--seeds", "0"], "'0'", "at least 1");
    refused(&["bugs", "--start", "18446744073709551615"], "no seed is left", "the last seed");
    refused(&["bugs", "--format", "xml"], "'xml'", "text, json");
    refused(&["bugs", "--out", "/proc/nope/x"], "/proc/nope/x", "can be written");
}

#[test]
fn numbers() {
    refused(&["replay", SCENARIO, "abc"], "\"abc\" is no seed", "whole number");
    refused(&["replay", SCENARIO, "-1"], "\"-1\" is no seed", "whole number");
    refused(&["replay", SCENARIO, "18446744073709551616"], "is no seed", "18446744073709551615");
    refused(&["replay", SCENARIO], "needs a seed", "squall replay");
    refused(&["explore", "--seeds", "-5"], "'-5'", "at least 1");
    refused(&["explore", "--seeds", "0"], "'0'", "at least 1");
    refused(&["explore", "--start", "-1"], "'-1'", "from 0 to");
    refused(&["explore", "--start", "18446744073709551615", "--seeds", "2"], "no seed is left", "the last seed");
    refused(&["explore", "--jobs", "0"], "'0'", "from 1 to 512");
    refused(&["explore", "--jobs", "many"], "'many'", "from 1 to 512");
    refused(&["explore", "--shard", "3/2"], "'3/2'", "I from 1 to N");
    refused(&["explore", "--shard", "0"], "'0'", "I from 1 to N");
    refused(&["explore", "--time", "10parsecs"], "'10parsecs'", "30s, 10m or 2h");
    refused(&["explore", "--time", "-5s"], "-5", "");
}

#[test]
fn places_that_cannot_be_written() {
    refused(&["explore", "--out", "/proc/nope/x"], "/proc/nope/x", "can be written");
    refused(
        &["replay", SCENARIO, "1", "--out", "no/such/folder/story.txt"],
        "no/such/folder/story.txt",
        "can be written",
    );
    refused(&["replay", SCENARIO, "1", "--out", "."], "cannot write", "can be written");
}

#[test]
fn case_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let replayed = squall(&["replay", SCENARIO, "3", "--format", "json"], folder.path());
    let first = String::from_utf8(replayed.stdout).expect("text");
    let first: serde_json::Value = serde_json::from_str(first.lines().next().expect("a line")).expect("JSON");
    let case = &first["case"];
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut case = case.clone();
        change(&mut case);
        case.to_string()
    };
    let nowhere = serde_json::json!({"kind": "crash", "target": {"node": "runner-99"}, "at_ms": 1, "for_ms": 1});
    let nobody = serde_json::json!({"kind": "crash", "at_ms": 1, "for_ms": 1});
    for (text, because, accepted) in [
        (case.to_string()[..200].to_owned(), "ends in the middle", "one whole JSON object"),
        (String::new(), "ends in the middle", "one whole JSON object"),
        ("hello".to_owned(), "not JSON", "one JSON object"),
        (r#"{"version":1}"#.to_owned(), "not a case", "missing field"),
        (r#"{"version":999}"#.to_owned(), "version 999", "reads version 1"),
        (changed(&|case| case["scenario"] = "nope".into()), "\"nope\"", SCENARIO),
        (changed(&|case| case["sed"] = 1.into()), "field sed", "no case has"),
        (changed(&|case| case["end_ms"] = u64::MAX.into()), "end_ms", "at most"),
        (changed(&|case| case["choices"] = 7.into()), "choices", SCENARIO),
        (changed(&|case| case["plan"]["faults"] = serde_json::json!([nowhere])), "runner-99", "the nodes are"),
        (changed(&|case| case["plan"]["faults"] = serde_json::json!([nobody])), "has to name the node", "plan"),
    ] {
        fs::write(folder.path().join("case.json"), text).expect("there is room");
        refused_in(folder.path(), &["replay", "case.json"], because, accepted);
    }
    fs::write(folder.path().join("case.json"), [0xff, 0xfe]).expect("there is room");
    refused_in(folder.path(), &["replay", "case.json"], "not JSON", "one JSON object");
    refused_in(folder.path(), &["replay", "missing.json"], "cannot read", "missing.json");
    refused_in(folder.path(), &["replay", "."], "cannot read", ".");
    refused(&["replay", "squall:abc"], "no token of a case", "one word without spaces");
}

#[test]
fn cases_of_the_past() {
    let folder = tempfile::tempdir().expect("a folder");
    let past = folder.path().join("squall-regressions");
    fs::create_dir(&past).expect("there is room");
    fs::write(past.join("notes.txt"), "not looked at").expect("there is room");
    fs::write(past.join("cut.json"), "{").expect("there is room");
    refused_in(folder.path(), &["explore"], "cut.json is no case of the past", "one whole JSON object");
}

#[test]
fn shards_to_merge() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = |shard: &str, name: &str| {
        let arguments = ["explore", SCENARIO, "--seeds", "2", "--shard", shard, "--format", "json"];
        fs::write(folder.path().join(name), squall(&arguments, folder.path()).stdout).expect("there is room");
    };
    part("1/2", "one");
    part("2/2", "two");
    part("1/3", "other");
    fs::write(folder.path().join("empty"), "").expect("there is room");
    let refused = |files: &[&str], because: &str, accepted: &str| {
        refused_in(folder.path(), &[&["merge"], files].concat(), because, accepted);
    };
    refused(&["one"], "shard 2/2 is missing", "all shards of a campaign");
    refused(&["one", "two", "one"], "both of shard 1/2", "each shard once");
    refused(&["one", "other"], "of shard 1/3, and others are of 2 shards", "shards of one campaign");
    refused(&["empty"], "empty does not end with the summary", "runs.jsonl");
    refused(&["missing"], "cannot read missing", "runs.jsonl");
    refused(&[], "FILE", "not provided");
}

#[test]
fn servers() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it listens").to_string();
    refused(&["serve"], "SCENARIO", "not provided");
    refused(&["serve", "nope"], "\"nope\"", SCENARIO);
    refused(&["serve", SCENARIO, "--listen", "here"], "'here'", "127.0.0.1:0");
    refused(&["serve", SCENARIO, "--listen", &address], &format!("cannot listen on {address}"), "port 0 for any");
    refused(&["serve", SCENARIO, "--jobs", "many"], "'many'", "number of jobs");
    refused(&["serve", SCENARIO, "--jobs", "-1"], "'-1'", "number of jobs");
    refused(&["serve", SCENARIO, "--encryption", "rot13"], "'rot13'", "key-under-rsa");
    refused(&["serve", SCENARIO, "--journal", "no/where"], "no/where", "--journal takes a file");
    refused(&["serve", SCENARIO, "--calls", "no/where"], "no/where", "--calls takes a file");
    refused(&["serve", "flox-download", "--set", "http2-reset=OOPS"], "\"OOPS\"", "REFUSED_STREAM");
}
