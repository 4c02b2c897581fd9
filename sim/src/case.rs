//! A case: everything a run depends on, as plain data.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::FaultPlan;

/// The version of the format of a case that this program writes and reads.
pub const CASE_VERSION: u32 = 1;

/// Everything that a run depends on besides the program itself. A seed is the short name of a generated case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Case {
    /// The format's version, [`CASE_VERSION`].
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name: `upstream`, `hardened`, or a bug's.
    pub variant: String,
    /// The world's streams of randomness are drawn from it.
    pub seed: u64,
    /// The whole of true time that is simulated, in milliseconds.
    pub end_ms: u64,
    /// What the agents and servers do where the real project and the repaired one differ.
    pub choices: Value,
    /// The unknowns of the real servers, and the size of the world.
    pub parameters: Value,
    /// What is asked of the world, and when.
    pub workload: Value,
    /// What goes wrong.
    pub plan: FaultPlan,
}
