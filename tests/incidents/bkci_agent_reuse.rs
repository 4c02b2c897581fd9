//! The incident of `bkci-agent-reuse`, TencentBlueKing/bk-ci#10877.

use serde_json::json;
use squall::bkci_agent_reuse::BkciAgentReuse;
use squall_sim::case::Case;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target};
use squall_sim::scenario::Scenario;

/// When the trouble with the broker is over.
const HEAL_MS: u64 = 1_200_000;

/// A build whose first job fails, is retried and works again; and another one that waits for the agent.
///
/// The event of the end of attempt 1 comes a second time while attempt 2 runs.
pub fn incident(variant: &str) -> Case {
    let mut case = BkciAgentReuse.generate(1, variant);
    case.parameters = json!({
        "agents": [{"name": "agent-1", "parallel_task_count": 2}],
        "preparation": {
            "usual": {"start": {"secs": 1, "nanos": 0}, "end": {"secs": 2, "nanos": 0}},
            "slow": {"start": {"secs": 1, "nanos": 0}, "end": {"secs": 2, "nanos": 0}},
            "slow_percent": 0,
        },
    });
    let job = |stage: u32, place: serde_json::Value, takes_ms: u64, outcomes: &[&str]| json!({"stage": stage, "place": place, "takes_ms": takes_ms, "outcomes": outcomes});
    let on_agent = || json!({"agent": "agent-1"});
    case.workload = json!({"builds": [
        {"name": "build-1", "at_ms": 60_000, "retry_at_ms": [230_000], "jobs": [
            job(0, on_agent(), 150_000, &["failed", "succeeded"]),
            job(1, json!({"same_as": 1}), 30_000, &["succeeded"]),
        ]},
        {"name": "build-2", "at_ms": 250_000, "jobs": [job(0, on_agent(), 30_000, &["succeeded"])]},
    ]});
    let kind = FaultKind::System { name: "event-duplicated".to_owned(), amount: 98 };
    let fault = Fault { kind, target: Target::default(), at_ms: 200_000, for_ms: 400_000 };
    case.plan = FaultPlan { faults: vec![fault], heal_at_ms: HEAL_MS };
    case
}
