//! `flox-download`: the incident from a case written by hand, what random seeds find, and what each repair pays.

#[path = "incidents/flox_download.rs"]
mod scripted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scripted::{BEGIN_MS, incident as incident_case};
use serde_json::json;
use squall::flox_download::{FloxDownload, SCALE};
use squall_protocol::Fact;
use squall_protocol::flox::server::incident;
use squall_sim::SimTime;
use squall_sim::case::Case;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target};
use squall_sim::trace::{Keep, What};
use squall_sim::trial::{self, Trial};
use squall_sim::verdict::Severity;

const MIB: f64 = (1 << 20) as f64;

fn run(case: &Case) -> Trial {
    trial::run(&FloxDownload, case, Keep::Events).expect("a case that fits")
}

/// The bytes of each answer with the file, and when it ended.
fn sent(trial: &Trial) -> Vec<(u64, SimTime)> {
    let sent = |entry: &squall_sim::journal::Entry| match entry.fact {
        Fact::ArtifactSent { bytes, .. } => Some((bytes, entry.at)),
        _ => None,
    };
    trial.ended.journal.iter().filter_map(sent).collect()
}

/// What the code logged, with its time in milliseconds since the job began.
fn logged(trial: &Trial, part: &str) -> Vec<(u64, String)> {
    let line = |event: &squall_sim::trace::Event| match &event.what {
        What::Log { message, .. } if message.contains(part) => Some((event.at.as_millis() - BEGIN_MS, message.clone())),
        _ => None,
    };
    trial.ended.events.iter().filter_map(line).collect()
}

fn broken(trial: &Trial) -> BTreeSet<&str> {
    trial.outcome.verdict.findings.iter().map(|finding| finding.invariant.as_str()).collect()
}

#[test]
fn every_attempt_of_curl_dies_at_14_3_of_30_megabytes_after_80_seconds() {
    let trial = run(&incident_case("upstream"));
    let sent = sent(&trial);
    assert_eq!(sent.len(), 4, "one attempt and three retries: {sent:?}");
    let resets = logged(&trial, "curl: (92) HTTP/2 stream 1 was not closed cleanly: INTERNAL_ERROR (err 2)");
    let meters = logged(&trial, "47 30.0M  47 14.3M    0     0  182k      0  0:02:48  0:01:20");
    assert_eq!((resets.len(), meters.len()), (4, 4), "{resets:?} {:?}", logged(&trial, "M"));
    // Each attempt takes 80 s; between them curl waits for 1, 2 and 4 s.
    for ((n, (at_ms, _)), due_ms) in resets.iter().enumerate().zip([80_400, 161_800, 244_200, 328_600]) {
        assert!((due_ms..due_ms + 500).contains(at_ms), "attempt {n} died after {at_ms} ms, not {due_ms}");
    }
    for (bytes, _) in sent {
        let mib = bytes as f64 / MIB;
        assert!((14.3..14.4).contains(&mib), "{mib} MiB");
    }
    assert!(broken(&trial).contains("artifact-not-given-up-early"), "{:?}", broken(&trial));
}

#[test]
fn the_repaired_download_of_the_incident_takes_one_transfer() {
    let trial = run(&incident_case("hardened"));
    assert_eq!(trial.outcome.verdict.severity(), Severity::Pass, "{:?}", trial.outcome.verdict);
    let all: u64 = sent(&trial).iter().map(|(bytes, _)| bytes).sum();
    assert_eq!(all, incident::SIZE_BYTES);
    let used = trial.ended.journal.iter().find(|entry| matches!(entry.fact, Fact::ArtifactUsed { .. }));
    let took = used.expect("the job has its file").at.since(SimTime::from_millis(BEGIN_MS));
    assert!((168..175).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn curl_over_http_1_1_alone_cures_the_incident() {
    let mut case = incident_case("upstream");
    case.choices["protocol"] = json!("falls_back");
    let trial = run(&case);
    let lengths: Vec<u64> = sent(&trial).iter().map(|(bytes, _)| bytes >> 20).collect();
    assert_eq!(lengths, [14, 30]);
}

#[test]
fn random_seeds_catch_upstream_in_several_ways_and_leave_hardened_clean() {
    let mut caught = BTreeSet::new();
    for seed in 0..60 {
        let upstream = trial::run_seed(&FloxDownload, "upstream", seed);
        caught.extend(upstream.verdict.findings.iter().map(|finding| finding.fingerprint()));
    }
    assert!(caught.len() >= 3, "{caught:?}");
    for seed in 0..40 {
        let hardened = trial::run_seed(&FloxDownload, "hardened", seed);
        assert_eq!(hardened.verdict.severity(), Severity::Pass, "seed {seed}: {:?}", hardened.verdict);
    }
}

#[test]
fn faults_of_this_system_act() {
    for (name, amount) in [("object-changes", 1), ("server-cut-off", 10), ("cache-poisoned", 0)] {
        let mut case = small_case("hardened", &BTreeMap::new());
        case.parameters["cache"] = json!("used");
        let kind = FaultKind::System { name: name.to_owned(), amount };
        let fault = Fault { kind, target: Target::default(), at_ms: 1_000_000, for_ms: 400_000 };
        case.plan = FaultPlan { faults: vec![fault], heal_at_ms: 2_000_000 };
        let trial = run(&case);
        assert_eq!(trial.outcome.faults[0].effects, 1, "{name}");
        assert_eq!(trial.outcome.verdict.severity(), Severity::Pass, "{name}: {:?}", trial.outcome.verdict);
    }
}

/// Eight jobs one after the other, each on a machine of its own, with the times of the incident.
fn small_case(variant: &str, choices: &BTreeMap<&str, &str>) -> Case {
    let mut case = incident_case(variant);
    for (field, value) in choices {
        case.choices[*field] = json!(value);
    }
    let publisher = &mut case.parameters["publisher"];
    publisher["size_bytes"] = json!(incident::SIZE_BYTES / SCALE);
    publisher["rate_bytes_per_s"] = json!(incident::RATE_BYTES_PER_S / SCALE);
    publisher["pace"] = json!({"secs": 1, "nanos": 0});
    let host = |n: u64| json!({"name": format!("host-{n}"), "slots": 1});
    case.parameters["hosts"] = json!((1..=8).map(host).collect::<Vec<_>>());
    let job = |n: u64| {
        let at_ms = BEGIN_MS + n * 300_000;
        json!({"name": format!("job-{n}"), "at_ms": at_ms, "host": format!("host-{n}"), "version": "1.82.0"})
    };
    case.workload = json!({ "jobs": (1..=8).map(job).collect::<Vec<_>>() });
    case.end_ms = 2 * 3_600_000;
    case
}

/// What a design came to.
struct Figures {
    completed: usize,
    /// For each download that was completed, in sizes of the file.
    sizes: f64,
    /// From when it was needed until it was used.
    mean: Duration,
}

fn figures(case: &Case) -> Figures {
    let trial = trial::run(&FloxDownload, case, Keep::Digest).expect("a case that fits");
    let mut wanted = BTreeMap::new();
    let (mut completed, mut spent, mut bytes_sent) = (0, Duration::ZERO, 0);
    for entry in &trial.ended.journal {
        match &entry.fact {
            Fact::ArtifactWanted { job, .. } => drop(wanted.entry(job.clone()).or_insert(entry.at)),
            Fact::ArtifactUsed { job, .. } => {
                completed += 1;
                spent += entry.at.since(wanted[job]);
            }
            Fact::ArtifactSent { bytes, .. } => bytes_sent += bytes,
            _ => {}
        }
    }
    let sizes = bytes_sent as f64 / (incident::SIZE_BYTES / SCALE) as f64 / f64::from(completed.max(1));
    Figures { completed: completed as usize, sizes, mean: spent / completed.max(1) }
}

/// Each repair alone on the publisher of the incident, and all of them together.
///
/// `cargo test --test flox_download each_repair -- --nocapture` prints the table.
#[test]
fn each_repair_pays_off_by_itself() {
    // A patient client that begins anew, over HTTP/2, at the publisher: what is left when nothing is repaired but its
    // patience.
    let bare = [("resume", "from_zero"), ("protocol", "http2_alone"), ("source", "publisher_alone")];
    let told = |title: &str, repaired: &[(&str, &str)], archive: bool, cache: bool, http1_cut_off_s: Option<u64>| {
        let choices: BTreeMap<&str, &str> = bare.into_iter().chain(repaired.iter().copied()).collect();
        let mut case = small_case("hardened", &choices);
        if archive {
            case.parameters["archive"] = json!({"rate_bytes_per_s": 2 * incident::RATE_BYTES_PER_S / SCALE});
        }
        case.parameters["cache"] = json!(if cache { "used" } else { "not_used" });
        if let Some(secs) = http1_cut_off_s {
            case.parameters["publisher"]["http1_cut_off"] = json!({"after": {"secs": secs, "nanos": 0}});
        }
        let figures = figures(&case);
        println!(
            "{title:<36} {:>2} of 8 completed   {:>5.2} sizes each   {:>5} s each",
            figures.completed,
            figures.sizes,
            figures.mean.as_secs()
        );
        figures
    };
    let (resume, fallback) = (("resume", "if_range"), ("protocol", "falls_back"));
    let elsewhere = ("source", "archive_too");
    println!("HTTP/2 is cut off after 80 s, HTTP/1.1 is not:");
    let none = told("nothing", &[], false, false, None);
    let http1 = told("HTTP/1.1 fall-back", &[fallback], false, false, None);
    let resumed = told("resume with a validator", &[resume], false, false, None);
    let archived = told("alternate source", &[elsewhere], true, false, None);
    let cached = told("cache (first filled by fall-back)", &[fallback], false, true, None);
    let all = told("all of them", &[fallback, resume, elsewhere], true, true, None);
    println!("both are cut off after 80 s:");
    let in_vain = told("HTTP/1.1 fall-back", &[fallback], false, false, Some(80));
    let still = told("resume with a validator", &[resume], false, false, Some(80));
    assert_eq!((none.completed, in_vain.completed), (0, 0), "beginning anew never ends");
    for repaired in [&http1, &resumed, &archived, &cached, &all, &still] {
        assert_eq!(repaired.completed, 8);
    }
    // Half a file is lost to the first attempt, or nothing, or half a file twice.
    assert!((1.4..1.6).contains(&http1.sizes), "{}", http1.sizes);
    assert!((0.99..1.01).contains(&resumed.sizes), "{}", resumed.sizes);
    assert!((1.8..2.1).contains(&archived.sizes), "{}", archived.sizes);
    // One download serves all eight jobs.
    assert!(cached.sizes < http1.sizes / 7.0, "{}", cached.sizes);
    assert!(all.mean < http1.mean && all.mean < resumed.mean && all.mean < archived.mean);
}

#[test]
fn a_seed_is_the_same_run_on_every_thread() {
    let digests = || (0..6).map(|seed| trial::run_seed(&FloxDownload, "upstream", seed).digest).collect::<Vec<_>>();
    let here = digests();
    #[expect(clippy::disallowed_methods, reason = "the thread is what is tested")]
    let there = std::thread::spawn(digests).join().expect("no panic");
    assert_eq!(here, there);
}
