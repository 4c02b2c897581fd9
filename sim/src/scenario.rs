//! A scenario: how a case becomes a world, and what must hold in it.

use thiserror::Error;

use crate::case::Case;
use crate::invariant::Invariant;
use crate::world::World;

/// Why a case cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaseError {
    /// A part of the case does not fit its scenario.
    #[error("the case's {part} does not fit scenario {scenario}: {why}")]
    Misfit {
        /// `choices`, `parameters`, `workload`, `plan` or `end_ms`.
        part: &'static str,
        /// The scenario.
        scenario: String,
        /// What is wrong.
        why: String,
    },
}

/// A scenario of a system: agents, servers, work and the faults they meet.
pub trait Scenario: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it is about, in one sentence.
    fn summary(&self) -> &'static str;

    /// The case that a seed stands for. `variant` is `upstream`, `hardened` or a bug's name.
    fn generate(&self, seed: u64, variant: &str) -> Case;

    /// Furnishes a world: nodes, services, workload. Faults are injected by the runner.
    ///
    /// # Errors
    /// [`CaseError`] when the case does not fit.
    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError>;

    /// What must hold in a run of this case.
    fn invariants(&self, case: &Case) -> Vec<Box<dyn Invariant>>;
}
