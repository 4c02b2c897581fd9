//! Every report on one run: complete, readable without a network, and valid for the programs that open it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use squall_sim::case::Case;
use squall_sim::report::{self, Report};
use squall_sim::scenario::Scenario;
use squall_sim::trace::Keep;
use squall_sim::trial;

use squall::actions_idle_runner::ActionsIdleRunner;

const REPLAY: &str = "squall replay actions-idle-runner 1 --variant upstream";

fn reported(told: fn(&Report<'_>) -> String) -> (Case, String) {
    let scenario = &ActionsIdleRunner;
    let case = Scenario::generate(scenario, 1, "upstream");
    let trial = trial::run(scenario, &case, Keep::Events).expect("it fits");
    assert!(trial.outcome.verdict.worst().is_some(), "a run that fails has more to show");
    let told = told(&Report { replay: REPLAY, scenario, case: &case, trial: &trial });
    (case, told)
}

#[test]
fn the_page_needs_nothing_else_and_shows_everything() {
    let (_, page) = reported(report::html);
    assert!(page.contains(REPLAY), "the replay command is on it");
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "it loads nothing");
    let (_, rest) = page.split_once("<script id=\"scene\" type=\"application/json\">").expect("the picture's data");
    let (scene, _) = rest.split_once("</script>").expect("its end");
    let scene: Value = serde_json::from_str(scene).expect("it is JSON");
    for part in ["lanes", "requests", "bars", "bands", "marks", "findings"] {
        assert!(scene[part].as_array().is_some_and(|list| !list.is_empty()), "{part}");
    }
    let logged = scene["marks"].as_array().into_iter().flatten().any(|mark| mark["kind"] == "log");
    assert!(logged, "what the agent's own code logged is there");
}

#[test]
fn the_diagram_is_a_sequence_of_those_concerned() {
    let (_, diagram) = reported(report::mermaid);
    let mut lines = diagram.lines();
    assert_eq!(lines.next(), Some("sequenceDiagram"));
    assert!(diagram.contains("->>") && diagram.contains("participant"), "{diagram}");
    assert!(diagram.lines().count() < 90 && !diagram.contains(';'), "{diagram}");
}

#[test]
fn the_trace_has_a_process_for_each_machine_and_ends_what_it_begins() {
    let (_, trace) = reported(report::perfetto);
    let trace: Value = serde_json::from_str(&trace).expect("it is JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!(count("b"), count("e"));
    assert!(count("X") > 0 && count("i") > 0);
    let named = events.iter().filter(|event| event["name"] == "process_name").count();
    assert!(named >= 5, "{named} machines");
    assert!(events.iter().all(|event| event["ts"].as_f64().is_none_or(|at| at >= 0.0)));
}

/// Where there is a browser, it runs the page's script over a real run and draws the picture.
#[test]
fn a_browser_draws_the_picture() {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let found = browsers.iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(browser) = found else {
        println!("skipped: none of {} is installed", browsers.join(", "));
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    std::fs::write(&file, reported(report::html).1).expect("it can be written");
    let dom = dom(browser, &file, folder.path());
    assert!(dom.contains("<rect") && dom.contains("<path") && dom.contains("<circle"), "nothing was drawn");
    assert!(dom.contains("data-told=\"FAULT") || dom.contains("runner-1"), "nothing is told");
}

fn dom(browser: &str, file: &Path, profile: &Path) -> String {
    let dumped = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.join("profile").display()))
        .arg(file)
        .output()
        .expect("the browser runs");
    String::from_utf8_lossy(&dumped.stdout).into_owned()
}
