//! Paths and JSON of the services beside the distributed task that Azure's agent speaks to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a location service tells what there is, below its own base URL on the second host.
pub const CONNECTION_DATA: &str = "_apis/connectionData?connectOptions=1&lastChangeId=-1&lastChangeId64=-1";
/// The same without what it asks for.
pub const CONNECTION_DATA_PATH: &str = "_apis/connectionData";

/// Where feature flags are asked for by name, below the tenant.
pub const FEATURE_FLAGS: &str = "_apis/FeatureFlags";

/// Where events of customer intelligence go, below the tenant.
pub const CUSTOMER_INTELLIGENCE: &str = "_apis/CustomerIntelligence/Events";

/// Where packages of the agent are, below the tenant and before platform and version.
pub const PACKAGES: &str = "_apis/distributedtask/packages/agent/linux-x64";

/// Names of feature flags.
pub mod flag {
    /// Longer and longer waits after failures (`MessageListener.cs:72-98`).
    pub const PROGRESSIVE_BACKOFF: &str = "DistributedTask.Agent.EnableProgressiveRetryBackoff";
    /// One of the two that are asked for between the first renewal of a job and the start of its worker
    /// (`JobDispatcher.cs:451-453`).
    pub const CHECK_IF_TASK_NODE_RUNNER_IS_DEPRECATED: &str = "DistributedTask.Agent.CheckIfTaskNodeRunnerIsDeprecated";
    /// The other one.
    pub const FAIL_JOB_WHEN_AGENT_DIES: &str = "DistributedTask.Agent.FailJobWhenAgentDies";
}

/// A feature flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FeatureFlag {
    /// Its name.
    pub name: String,
    /// `On` or `Off`.
    pub effective_state: String,
}

impl FeatureFlag {
    /// A flag in a state.
    pub fn new(name: &str, on: bool) -> Self {
        Self { name: name.to_owned(), effective_state: if on { "On" } else { "Off" }.to_owned() }
    }

    /// Is it on?
    pub fn is_on(&self) -> bool {
        self.effective_state.eq_ignore_ascii_case("on")
    }
}

/// An event of customer intelligence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomerIntelligenceEvent {
    /// Whose it is, such as `PipelinesTasks`.
    pub area: String,
    /// What it tells about, such as `ExecutionHandler`.
    pub feature: String,
    /// What it tells.
    pub properties: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed_task::wire::from_value;

    #[test]
    fn flags_are_on_in_any_case_and_off_otherwise() {
        let flag = |state: &str| from_value::<FeatureFlag>(serde_json::json!({"EffectiveState": state})).unwrap();
        assert!(flag("on").is_on() && flag("On").is_on());
        assert!(!flag("Off").is_on() && !flag("").is_on());
        assert_eq!(serde_json::to_value(FeatureFlag::new("x", true)).unwrap()["effectiveState"], "On");
    }
}
