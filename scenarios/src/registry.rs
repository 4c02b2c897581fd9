//! All scenarios, by the order in which they are listed.

use squall_sim::scenario::Scenario;

use crate::actions_idle_runner::ActionsIdleRunner;

/// Every scenario there is.
pub fn scenarios() -> Vec<&'static dyn Scenario> {
    vec![&ActionsIdleRunner]
}
