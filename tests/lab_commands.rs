//! `squall lab` on the command line, and the commands of its guide.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use squall::cli::{self, Surroundings};
use squall::lab::MEASURES;
use squall_protocol::retry::file;

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
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut around = Surroundings { out: &mut out, err: &mut err, interrupted, program: None };
    let arguments = ["squall"].iter().chain(arguments).map(Into::into);
    let code = cli::run(arguments, &[], &[], &mut around);
    Printed { code, out: String::from_utf8(out).expect("text"), err: String::from_utf8(err).expect("text") }
}

const SMALL: [&str; 8] = ["lab", "compare", "--trial", "rolling", "--agents", "10", "--seeds", "2"];

fn small(more: &[&str]) -> Printed {
    squall(&[&SMALL[..], more].concat())
}

#[test]
fn json_has_a_line_for_each_policy_with_every_measure() {
    let expression = "exp(base=1s,cap=60s,jitter=full)";
    let printed = small(&["--policy", "fixed", "--policy", expression, "--format", "json"]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""));
    let lines: Vec<Value> = printed.out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(
        lines.iter().map(|line| line["policy"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["fixed", expression]
    );
    for line in &lines {
        assert_eq!(
            (line["trial"].as_str(), line["agents"].as_u64(), line["seeds"].as_u64()),
            (Some("rolling"), Some(10), Some(2))
        );
        for measure in MEASURES {
            assert!(line[measure.name].is_number() && line[format!("{}_iqr", measure.name)].is_number(), "{measure:?}");
        }
    }
    assert_eq!(
        printed.out,
        small(&["--policy", "fixed", "--policy", expression, "--format", "json", "--jobs", "1"]).out
    );
}

#[test]
fn csv_and_text_and_a_page_say_the_same() {
    let csv = small(&["--policy", "exp(base=1s,cap=60s)", "--format", "csv"]).out;
    assert_eq!(csv.lines().count(), 2);
    assert!(csv.lines().nth(1).expect("a row").starts_with("\"exp(base=1s,cap=60s)\",rolling,10,2,"), "{csv}");
    let text = small(&["--policy", "fixed"]).out;
    assert!(text.contains("peak/mean") && text.contains("fixed"), "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let printed = small(&[
        "--policy",
        "fixed",
        "--policy",
        "full-jitter",
        "--format",
        "html",
        "--out",
        page.to_str().expect("a name"),
    ]);
    assert_eq!((printed.code, printed.out.as_str()), (0, ""));
    let html = fs::read_to_string(page).expect("it was written");
    assert_eq!(html.matches("<svg").count(), 4, "the load of each policy, recovery, and one against the other");
    for axis in
        ["load / capacity", "seconds since trouble began", "agents that are back, %", "seconds until 99 % are back"]
    {
        assert!(html.contains(axis), "an axis says {axis}");
    }
    assert!(!html.contains("<script") && !html.contains("src="), "it is complete in itself");
}

#[test]
fn bad_usage_gets_a_sentence() {
    let refused = |arguments: &[&str], says: &str| {
        let printed = squall(&[&["lab"], arguments].concat());
        assert_eq!((printed.code, printed.out.as_str()), (2, ""), "{arguments:?}");
        assert!(printed.err.contains(says), "{arguments:?}: {}", printed.err);
    };
    refused(&["compare", "--policy", "best"], "no wait and no preset is called best");
    refused(&["compare", "--policy", "exp(base=10s,cap=1s)"], "the cap of 1s is below the base of 10s");
    refused(&["compare", "--policy", "exp(base=1s,jitter=-1)"], "jitter of -1 is none");
    refused(&["compare", "--policy", "full-jitter+retry-after(cap=inf)"], "no span of time");
    refused(&["compare", "--policy", "token-bucket(ratio=-1)"], "no wait and no preset");
    refused(&["compare", "--policy", "none+token-bucket(ratio=-1)"], "a budget's ratio of -1 is none");
    refused(&["region", "exp(base=10s,cap=1s)"], "the cap of 1s is below the base of 10s");
    refused(&["fuzz", "exp(base=1s,jitter=-1)"], "jitter of -1 is none");
    refused(&["compare", "--policy", "nowhere.toml"], "it cannot be read");
    refused(&["compare", "--trial", "flood"], "no trial is called flood");
    refused(&["compare", "--agents", "0"], "from 1 to 10000");
    refused(&["compare", "--agents", "10001"], "from 1 to 10000");
    refused(&["fuzz", "fixed", "--measure", "beauty"], "no measure is called beauty");
    refused(&["fuzz", "exp(bse=?)"], "bse cannot be free");
}

#[test]
fn a_policy_comes_from_a_file_with_errors_that_name_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    let named = path.to_str().expect("a name");
    fs::write(&path, "preset = \"full-jitter\"\nretries = 4\n").expect("written");
    assert_eq!(small(&["--policy", named, "--format", "csv"]).code, 0);
    fs::write(&path, "wait = \"none\"\nretires = 4\n").expect("written");
    let printed = small(&["--policy", named]);
    assert_eq!(printed.code, 2);
    assert!(printed.err.contains("line 2, column 1: unknown field `retires`"), "{}", printed.err);
    fs::write(&path, "preset = \"full-jitter\"\n\nlayers = 0\n").expect("written");
    let printed = small(&["--policy", named]);
    assert!(printed.err.contains("line 3, column 1: 0 layers of retries are none"), "{}", printed.err);
}

#[test]
fn a_policy_that_hammers_is_warned_about_and_bounded() {
    let alone = ["--trial", "outage", "--agents", "20", "--seeds", "1", "--transport", "exchange"];
    let printed = squall(&[&["lab", "compare", "--policy", "none"], &alone[..]].concat());
    assert_eq!(printed.code, 0);
    assert!(printed.err.contains("none: it may retry without any wait"), "{}", printed.err);
    assert!(printed.err.contains("were ended early"), "{}", printed.err);
}

#[test]
fn what_could_not_be_measured_is_no_number_and_never_the_best() {
    let both = ["lab", "compare", "--policy", "none", "--policy", "fixed", "--trial", "outage"];
    let of = |format| {
        let alone = ["--agents", "20", "--seeds", "1", "--transport", "exchange", "--format", format];
        squall(&[&both[..], &alone[..]].concat()).out
    };
    let json = of("json");
    let none: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("an object");
    assert!(none["recovery_ms_p99"].is_null() && none["load_over_capacity_iqr"].is_null(), "{none}");
    assert!(none["attempts_per_success"].is_number(), "{none}");
    let csv = of("csv");
    let columns = |line: usize| csv.lines().nth(line).expect("a line").split(',').collect::<Vec<_>>();
    let place = columns(0).iter().position(|name| *name == "recovery_ms_p99").expect("a column");
    assert_eq!((columns(1)[place], columns(1).len()), ("", columns(0).len()), "{csv}");
    assert!(of("text").contains('–') && of("html").contains("<td class=\"\">–</td>"));
}

/// Policies that ask for a million attempts a second, or for ever, end with a warning.
#[test]
fn extreme_policies_are_bounded() {
    let small = ["--trial", "brownout", "--agents", "5", "--seeds", "1", "--transport", "exchange"];
    for (policy, warning) in [
        ("fixed(wait=1us)", "more than ten times a second"),
        ("none+pace(per_second=1000000,burst=1000000)", "without any wait"),
        ("exp(base=1us,cap=1ms,factor=1.1)+limit(retries=1000000)", "more than ten times a second"),
        ("fixed(wait=1s)+retry-after(combine=sum)", "however long that is"),
    ] {
        let printed = squall(&[&["lab", "compare", "--policy", policy], &small[..]].concat());
        assert_eq!(printed.code, 0, "{policy}: {}", printed.err);
        assert!(printed.err.contains(warning), "{policy}: {}", printed.err);
    }
    let waits_for_ever = squall(&[&["lab", "compare", "--policy", "fixed(wait=1000000h)"], &small[..]].concat());
    assert_eq!(waits_for_ever.code, 0);
    assert!(waits_for_ever.err.contains("were not back at the end of the run"), "{}", waits_for_ever.err);
}

#[test]
fn an_interrupted_comparison_prints_what_it_has() {
    let arguments = [&SMALL[..], &["--policy", "fixed", "--format", "json"]].concat();
    let printed = squall_until(&arguments, || &AT_ONCE);
    assert_eq!((printed.code, printed.out.as_str()), (0, ""));
    assert!(printed.err.contains("interrupted after 0 of 2 runs"), "{}", printed.err);
}

/// Ctrl-C on the real program, which has a row by then and is at work on the next.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_rows_that_are_there() {
    let arguments = ["lab", "compare", "--agents", "20", "--seeds", "3", "--jobs", "1", "--format", "json"];
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    let mut running =
        squall.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut out = BufReader::new(running.stdout.take().expect("piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a first row");
    assert!(first.starts_with('{'), "{first}");
    let interrupt = format!("kill -INT {}", running.id());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().expect("a shell").success());
    let (mut rest, mut told) = (String::new(), String::new());
    out.read_to_string(&mut rest).expect("text");
    running.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    assert_eq!(running.wait().expect("it ends").code(), Some(0), "{told}");
    assert!(told.contains("interrupted after"), "{told}");
    assert!(rest.lines().all(|row| serde_json::from_str::<Value>(row).is_ok()), "{rest}");
    assert!(rest.lines().count() < 10, "{rest}");
}

#[test]
fn the_search_finds_what_hurts_and_its_case_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("a name");
    let wound = squall(&[
        "lab",
        "fuzz",
        "mutant-reset-on-connect",
        "--measure",
        "attempts_per_success",
        "--triggers",
        "32",
        "--format",
        "json",
        "--out",
        out,
    ]);
    assert_eq!(wound.code, 0, "{}", wound.err);
    let wound: Value = serde_json::from_str(wound.out.lines().next().expect("a wound")).expect("an object");
    assert!(wound["times"].as_f64().expect("a number") >= 2.0, "{wound}");
    let replayed = squall(&["replay", wound["case"].as_str().expect("a file")]);
    assert!([0, 3].contains(&replayed.code), "{}", replayed.err);
    assert!(replayed.out.contains("verdict"), "{}", replayed.out);
}

#[test]
fn a_region_closes_with_a_budget() {
    let printed = squall(&["lab", "region", "--format", "json"]);
    let regions: Vec<Value> = printed.out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let stuck: Vec<u64> = regions.iter().map(|region| region["stuck"].as_u64().expect("a number")).collect();
    assert!(stuck[0] > 10 && stuck[1] == 0, "{stuck:?}");
    // The first is told which budget would close it, and that one does.
    let budget = &regions[0]["closed_by"]["token-bucket"];
    let with = format!(
        "{}+token-bucket(tokens={},ratio={})",
        regions[0]["policy"].as_str().expect("a name"),
        budget["tokens"],
        budget["ratio"]
    );
    let closed = squall(&["lab", "region", &with]);
    assert!(closed.out.contains("It returns to normal from every one of these overloads."), "{with}: {}", closed.out);
}

#[test]
fn the_published_schema_is_that_of_the_program() {
    let published: Value = serde_json::from_str(include_str!("../docs/policy.schema.json")).expect("JSON");
    assert_eq!(
        published,
        serde_json::to_value(file::schema()).expect("plain data"),
        "write it anew: squall lab schema"
    );
}

/// Every command of the guide is one that this program takes, run with a small fleet and few seeds.
#[test]
fn the_guide_runs() {
    let guide = include_str!("../docs/retry-policy.md");
    let folder = tempfile::tempdir().expect("a folder");
    let policy = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
    let path = folder.path().join("policy.toml");
    fs::write(&path, policy).expect("written");
    let mut ran = 0;
    for line in guide.lines().filter_map(|line| line.strip_prefix("squall ")) {
        let place = |word: &str| match word {
            "policy.toml" => path.display().to_string(),
            "page.html" | "region.html" | "wounds" => folder.path().join(word).display().to_string(),
            word => word.trim_matches('\'').to_owned(),
        };
        let mut words: Vec<String> = line.split_whitespace().map(place).collect();
        if words[1] == "compare" {
            words.extend(["--agents", "10", "--seeds", "1", "--trial", "rolling"].map(str::to_owned));
            words.retain(|word| word != "--agents=1000");
        }
        if words[1] == "fuzz" {
            words.extend(["--triggers", "1"].map(str::to_owned));
        }
        if words[0] == "replay" {
            continue;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let printed = squall(&words);
        assert_eq!(printed.code, 0, "{line}: {}", printed.err);
        ran += 1;
    }
    assert!(ran >= 5, "{ran}");
}
