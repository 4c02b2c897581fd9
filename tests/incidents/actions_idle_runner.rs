//! The incident of `actions-idle-runner`, actions/runner#3526.

use serde_json::json;
use squall::actions_idle_runner::ActionsIdleRunner;
use squall_sim::case::Case;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target, When};
use squall_sim::scenario::Scenario;

/// Ten minutes in, everything is quiet: the runner polls.
pub const TROUBLE_MS: u64 = 600_000;
/// Half an hour after which nothing is wrong any more.
const HEAL_MS: u64 = TROUBLE_MS + 1_800_000;
/// The one runner that there is.
pub const RUNNER: &str = "runner-1";

/// The three signatures in the log of the incident, one after the other.
///
/// The pipelines host answers polls with 503 for two minutes. Somebody starts the runner again; the answer to the creation
/// of its new session is lost behind another 503, and the session that it does not know of is in its way. Then its token is
/// refused for a while. Its last word is the session conflict: it stops, and is shown online and idle all the while.
pub fn incident(variant: &str) -> Case {
    let unavailable = |when| FaultKind::Status { status: 503, when, retry_after: None, percent: 100 };
    let stop = FaultKind::Stop { service: "runner".to_owned(), grace_ms: 30_000 };
    let of_system = |name: &str| FaultKind::System { name: name.to_owned(), amount: 0 };
    let later = |by_ms, fault: Fault| Fault { at_ms: fault.at_ms + by_ms, ..fault };
    let faults = vec![
        fault(unavailable(When::BeforeCommit), "pipelines", Some("messages"), 120_000),
        later(180_000, fault(unavailable(When::AfterCommit), "pipelines", Some("sessions?"), 15_000)),
        later(180_100, fault(stop, RUNNER, None, 0)),
        later(300_000, fault(of_system("tokens-revoked"), RUNNER, None, 0)),
        later(300_000, fault(of_system("registration-refused"), RUNNER, None, 70_000)),
    ];
    let job = json!({"name": "job-1", "at_ms": TROUBLE_MS + 500_000, "takes_ms": 60_000, "outcome": "succeeded", "when_asked": "ends"});
    let mut case = one_runner(variant, "v1", json!([job]), faults);
    case.parameters["service"]["refusal"] = json!("server_error");
    case.parameters["service"]["token_life"] = json!({"secs": 3_000, "nanos": 0});
    case
}

/// One runner of a flow, one plan, and a service whose sessions live for a quarter of an hour.
pub fn one_runner(variant: &str, flow: &str, jobs: serde_json::Value, faults: Vec<Fault>) -> Case {
    let mut case = ActionsIdleRunner.generate(1, variant);
    case.parameters["runners"] = json!([{"name": RUNNER, "flow": flow, "encryption": "plain"}]);
    let service = &mut case.parameters["service"];
    service["session_life"] = json!({"secs": 900, "nanos": 0});
    service["conflict_extends"] = json!("nothing");
    service["lease_life"] = json!({"secs": 600, "nanos": 0});
    service["refusal"] = json!("invalid_client");
    case.workload = json!({ "jobs": jobs });
    case.plan = FaultPlan { faults, heal_at_ms: HEAL_MS };
    case
}

/// A fault that begins with the trouble.
pub fn fault(kind: FaultKind, node: &str, route: Option<&str>, for_ms: u64) -> Fault {
    let target = Target { node: Some(node.to_owned()), peer: None, route: route.map(str::to_owned) };
    Fault { kind, target, at_ms: TROUBLE_MS, for_ms }
}
