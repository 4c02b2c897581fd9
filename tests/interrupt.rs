//! Ctrl-C on the real program.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

#[test]
fn ctrl_c_ends_a_campaign_in_an_orderly_way() {
    let arguments = ["explore", "--variant", "hardened", "--time", "10m", "--jobs", "1", "--format", "json"];
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    let mut running =
        squall.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut out = BufReader::new(running.stdout.take().expect("piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a first run");
    assert!(first.starts_with('{'), "{first}");

    let interrupt = format!("kill -INT {}", running.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().expect("a shell").success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    let mut told = String::new();
    running.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    assert!(running.wait().expect("it ends").code().is_some(), "it ended by itself, not by the signal");
    assert!(told.contains("interrupted"), "{told}");
    let summary: serde_json::Value = serde_json::from_str(rest.lines().last().expect("a summary")).expect("JSON");
    assert_eq!((&summary["summary"], &summary["interrupted"]), (&true.into(), &true.into()));
    assert_eq!(summary["seeds"], 1 + rest.lines().count() - 1, "every run has its line");
}
