//! The incident of `azure-post-job`, microsoft/azure-pipelines-agent#4857.

use serde_json::json;
use squall::azure_post_job::{AzurePostJob, POST_JOB};
use squall_sim::case::Case;
use squall_sim::fault::{Direction, Fault, FaultKind, FaultPlan, Target};
use squall_sim::scenario::Scenario;

/// The job is queued then.
pub const QUEUED_MS: u64 = 300_000;
/// A minute into the job, something in between begins to reset every connection to the second host.
pub const TROUBLE_MS: u64 = QUEUED_MS + 60_000;
/// When it is over.
pub const HEAL_MS: u64 = TROUBLE_MS + 1_800_000;

/// One agent, one job with a clean-up that publishes two events of its own, and a second host that is out of reach.
pub fn incident(variant: &str) -> Case {
    let mut case = AzurePostJob.generate(1, variant);
    case.parameters["agents"] = json!([{"name": "agent-1", "encryption": "plain"}]);
    let service = &mut case.parameters["service"];
    service["progressive_backoff"] = json!("off");
    service["tasks"]["session_life"] = json!({"secs": 300, "nanos": 0});
    service["tasks"]["lease_life"] = json!({"secs": 600, "nanos": 0});
    service["tasks"]["pool_redelivery"] = json!("at_once");
    let stage = |name: &str, purpose: &str, takes_ms: u64, events: u32| json!({"name": name, "purpose": purpose, "takes_ms": takes_ms, "events": events, "ends": "well"});
    let stages = [
        stage("Checkout", "work", 20_000, 0),
        stage("Build", "work", 180_000, 0),
        stage(POST_JOB, "clean_up", 2_000, 2),
    ];
    case.workload = json!({"jobs": [{"name": "job-1", "at_ms": QUEUED_MS, "stages": stages, "when_asked": "ends"}]});
    let target = Target { node: Some("agent-1".to_owned()), peer: Some("vssps".to_owned()), route: None };
    let kind = FaultKind::ResetAfter { bytes: 0, direction: Direction::Both };
    let fault = Fault { kind, target, at_ms: TROUBLE_MS, for_ms: HEAL_MS - TROUBLE_MS };
    case.plan = FaultPlan { faults: vec![fault], heal_at_ms: HEAL_MS };
    case
}
