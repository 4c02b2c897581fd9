//! The incident of `arc-listener-session`, actions/actions-runner-controller#3210.

use serde_json::json;
use squall::arc_listener_session::ArcListenerSession;
use squall_sim::case::Case;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target};
use squall_sim::scenario::Scenario;

/// Ten minutes in, everything is quiet: the listener polls.
pub const TROUBLE_MS: u64 = 600_000;
/// Half an hour after which nothing is wrong any more.
const HEAL_MS: u64 = TROUBLE_MS + 1_800_000;
const SET: &str = "arc-runner-set-1";
const SERVICE: &str = "listener";

/// The listener of 0.8.1, of which the incident tells: it is asked to stop in the middle of a poll, leaves its session
/// behind, and is in its own way when it starts again.
pub fn incident() -> Case {
    let stop = FaultKind::Stop { service: SERVICE.to_owned(), grace_ms: 60_000 };
    one_listener(stop, &[("on_conflict", "v0_8"), ("close", "v0_8"), ("message_order", "v0_8_1")])
}

/// A listener whose pod is killed. `change` puts fields of the design back to what they were.
pub fn after_a_kill(change: &[(&str, &str)]) -> Case {
    one_listener(FaultKind::Kill { service: SERVICE.to_owned() }, change)
}

/// One listener to which something happens, and a service whose sessions live for an hour.
fn one_listener(kind: FaultKind, change: &[(&str, &str)]) -> Case {
    let mut case = ArcListenerSession.generate(1, "upstream");
    case.parameters["sets"] = json!([{"name": SET, "min_runners": 0, "max_runners": 3}]);
    let service = &mut case.parameters["service"];
    service["session_life"] = json!({"secs": 3_600, "nanos": 0});
    service["conflict_extends"] = json!("nothing");
    service["queue_token_lag"] = json!({"secs": 0, "nanos": 0});
    case.workload = json!({"jobs": [], "rollouts": []});
    for (field, value) in change {
        case.choices[*field] = json!(value);
    }
    let target = Target { node: Some(SET.to_owned()), ..Target::default() };
    let fault = Fault { kind, target, at_ms: TROUBLE_MS, for_ms: 0 };
    case.plan = FaultPlan { faults: vec![fault], heal_at_ms: HEAL_MS };
    case
}
