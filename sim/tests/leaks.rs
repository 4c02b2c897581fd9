//! Everything that is known to leak out of a simulation is planted, and reported with its place and its likely source.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::Request;
use serde_json::Value;
use squall_protocol::{http as wire, supervise};
use squall_sim::case::{CASE_VERSION, Case};
use squall_sim::determinism::{Difference, Elsewhere, Suspect, check_again, check_elsewhere};
use squall_sim::fault::FaultPlan;
use squall_sim::http::serve;
use squall_sim::invariant::Invariant;
use squall_sim::scenario::{CaseError, Scenario};
use squall_sim::trace::{Event, Keep, What};
use squall_sim::trial::run;
use squall_sim::verdict::Severity;
use squall_sim::{Process, SimTime, World};
use tower::ServiceExt;

/// When the agent does what it should not, in seconds.
const AT_S: u64 = 7;

/// An agent that sends a number to a server. Where it has it from is the variant.
struct Leaks;

impl Scenario for Leaks {
    fn name(&self) -> &'static str {
        "leaks"
    }

    fn summary(&self) -> &'static str {
        "An agent decides by what is not drawn from its seed."
    }

    fn generate(&self, seed: u64, variant: &str) -> Case {
        Case {
            version: CASE_VERSION,
            scenario: self.name().to_owned(),
            variant: variant.to_owned(),
            seed,
            end_ms: 60_000,
            choices: Value::Null,
            parameters: Value::Null,
            workload: Value::Null,
            plan: FaultPlan::default(),
        }
    }

    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError> {
        let always = || supervise::Always { delay: Duration::from_secs(60) };
        world.node("server").service("server", "server", always, |process| async move {
            serve(process, 80, Router::new().route("/", get(async || "hello"))).await.expect("the port is free");
            0
        });
        let variant = case.variant.clone();
        world.node("agent").service("agent", "agent", always, move |process| ask(process, variant.clone()));
        Ok(())
    }

    fn invariants(&self, _: &Case) -> Vec<Box<dyn Invariant>> {
        Vec::new()
    }
}

async fn ask(process: Process, variant: String) -> i32 {
    process.clock().sleep(Duration::from_secs(AT_S)).await;
    let number = leak(&variant);
    let request = Request::get("http://server/").header("number", number).body(wire::empty()).expect("a request");
    let answer = process.http().oneshot(request).await.expect("nothing is wrong with the network");
    wire::read(answer.into_body(), 100).await.expect("a short body");
    0
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what no code of a simulation may do is what is reported"
)]
fn leak(variant: &str) -> u64 {
    /// Outlives every world.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    match variant {
        "nothing" => 7,
        "hash order" => {
            let set: std::collections::HashSet<u64> = (0..64).collect();
            set.into_iter().fold(0, |order, number| order * 31 % 1_000_000_007 + number)
        }
        "rand 0.9" => rand::random(),
        "counter" => COUNTER.fetch_add(1, Ordering::Relaxed),
        "rand 0.8" => rand08::random(),
        "fastrand" => fastrand::u64(..),
        "thread" => {
            let id = std::thread::spawn(|| format!("{:?}", std::thread::current().id()));
            id.join().expect("no panic").bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte))
        }
        "time" => {
            let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            std::thread::spawn(now).join().expect("no panic").as_nanos() as u64
        }
        "address" => std::ptr::from_ref(Box::leak(Box::new(0_u64))) as usize as u64,
        other => panic!("{other} is no leak"),
    }
}

/// Runs a case in a process of its own: this very test program, told to run the test below.
fn fresh(case: &Case, keep: Keep) -> Option<Elsewhere> {
    let mut child = Command::new(std::env::current_exe().ok()?)
        .args(["--exact", "a_run_in_a_process_of_its_own", "--nocapture"])
        .env(CASE, serde_json::to_string(&(case, keep == Keep::Events)).ok()?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take()?, &mut printed).ok()?;
    child.wait().ok()?;
    let line = printed.lines().find(|line| line.starts_with('['))?;
    let (digest, events): (String, Vec<Event>) = serde_json::from_str(line).ok()?;
    Some(Elsewhere { digest, events })
}

const CASE: &str = "SQUALL_TEST_CASE";

#[test]
fn a_run_in_a_process_of_its_own() {
    let Ok(given) = std::env::var(CASE) else { return };
    let (case, events): (Case, bool) = serde_json::from_str(&given).expect("a case");
    let ended = run(&Leaks, &case, if events { Keep::Events } else { Keep::Digest }).expect("it fits").ended;
    let printed = serde_json::to_string(&(ended.digest, ended.events)).expect("plain data");
    writeln!(std::io::stdout(), "\n{printed}").expect("somebody reads it");
}

/// What a second run on this thread, and one in a fresh process, have to say.
fn difference(variant: &str) -> Option<Difference> {
    let case = Leaks.generate(1, variant);
    let first = run(&Leaks, &case, Keep::Digest).expect("it fits").outcome.digest;
    let again = check_again(&Leaks, &case, &first, Some(&fresh)).expect("it fits");
    again.or_else(|| check_elsewhere(&Leaks, &case, &first, &fresh).expect("it fits"))
}

#[track_caller]
fn reported(variant: &str, suspect: Suspect, source: &str) {
    let difference = difference(variant).expect("it leaks");
    assert_eq!(difference.suspect, suspect, "{difference}");
    let parting = difference.parting.as_ref().expect("it is seen event by event");
    // The bytes of the request differ when they arrive; a number of another length may differ before, in a segment's time.
    assert_eq!(parting.node, "server", "{difference}");
    assert!(matches!(parting.events[0].as_ref().expect("no end").what, What::Arrived { .. }), "{difference}");
    assert!(parting.at.since(SimTime::from_secs(AT_S)) < Duration::from_secs(1), "{difference}");
    let told = difference.finding().message;
    assert!(told.contains("at 0:00:07.") && told.contains(" on server: ") && told.contains(source), "{told}");
}

#[test]
fn what_does_not_leak_is_the_same_everywhere() {
    assert_eq!(difference("nothing"), None);
}

#[test]
fn the_order_of_a_hash_set_is_of_its_thread() {
    reported("hash order", Suspect::Thread, "HashSet");
}

#[test]
fn a_generator_of_the_thread_is_of_its_thread() {
    reported("rand 0.9", Suspect::Thread, "rand::random");
}

#[test]
fn a_counter_is_of_its_process() {
    reported("counter", Suspect::Process, "static");
}

#[test]
fn the_generator_of_rand_0_8_is_from_outside() {
    reported("rand 0.8", Suspect::Outside, "rand 0.8");
}

/// Its seed is made of the time and the thread's id, which are the same in every fresh process.
#[test]
fn fastrand_is_of_its_process() {
    reported("fastrand", Suspect::Process, "fastrand");
}

#[test]
fn an_address_is_from_outside() {
    reported("address", Suspect::Outside, "an address");
}

/// A real thread, and with it real time, does not even start: the engine refuses it, and the run panics.
#[test]
fn a_real_thread_is_refused() {
    for variant in ["thread", "time"] {
        let verdict = run(&Leaks, &Leaks.generate(1, variant), Keep::Digest).expect("it fits").outcome.verdict;
        let worst = verdict.worst().expect("it panics");
        assert_eq!(worst.severity, Severity::Panic, "{worst:?}");
        assert!(worst.message.contains("thread"), "{worst:?}");
    }
}
