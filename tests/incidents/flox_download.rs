//! The incident of `flox-download`, flox/flox#2916.

use serde_json::json;
use squall::flox_download::FloxDownload;
use squall_protocol::flox::server::Parameters;
use squall_sim::case::Case;
use squall_sim::fault::FaultPlan;
use squall_sim::scenario::Scenario;

/// The job of the incident begins a minute in.
pub const BEGIN_MS: u64 = 60_000;

/// One machine, one job, the publisher of the incident with its real sizes, and nothing else wrong.
pub fn incident(variant: &str) -> Case {
    let mut case = FloxDownload.generate(1, variant);
    case.parameters["hosts"] = json!([{"name": "host-1", "slots": 1}]);
    case.parameters["archive"] = json!(null);
    case.parameters["cache"] = json!("not_used");
    case.parameters["publisher"] = serde_json::to_value(Parameters::default()).expect("plain data");
    case.workload = json!({"jobs": [{"name": "job-1", "at_ms": BEGIN_MS, "host": "host-1", "version": "1.82.0"}]});
    case.plan = FaultPlan::default();
    case
}
