//! A scenario: how a case becomes a world, and what must hold in it.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use squall_protocol::Design;
use thiserror::Error;

use crate::case::{CASE_VERSION, Case};
use crate::fault::{FaultPlan, PlanError};
use crate::invariant::Invariant;
use crate::world::World;

/// Why a case cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaseError {
    /// A part of the case does not fit its scenario.
    #[error("`{part}` of the case does not fit scenario {scenario}: {why}")]
    Misfit {
        /// `choices`, `parameters`, `workload` or `end_ms`.
        part: &'static str,
        /// The scenario.
        scenario: String,
        /// What is wrong.
        why: String,
    },
    /// The plan does not fit the world of its case.
    #[error("`plan` of the case does not fit scenario {scenario}: {why}")]
    Plan {
        /// The scenario.
        scenario: String,
        /// What is wrong.
        why: Box<PlanError>,
    },
}

/// A bug of a real project: the repaired design with one difference put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bug {
    /// Its stable name, which is also the variant's.
    pub name: String,
    /// What goes wrong, in a few words.
    pub summary: String,
    /// The upstream issue, or the place in its source.
    pub upstream: String,
    /// For which unknowns of the real server it shows, where not for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shows_when: Option<String>,
}

/// A scenario of a system: agents, servers, work and the faults they meet.
///
/// A scenario whose choices, parameters and workload are types of its own implements [`Model`] instead.
pub trait Scenario: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// What it is about, in one sentence.
    fn summary(&self) -> &'static str;

    /// The faults that it alone knows, each with a sentence that says what the amount of one is.
    fn system_faults(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The bugs that its design is known for, each a variant.
    fn bugs(&self) -> Vec<Bug> {
        Vec::new()
    }

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

/// A scenario whose choices, parameters and workload are types of its own. Every model is a [`Scenario`].
pub trait Model: Send + Sync {
    /// Where the real design and the repaired one differ.
    type Choices: Design;
    /// The unknowns of the real servers, and the size of the world.
    type Parameters: Serialize + DeserializeOwned;
    /// What is asked of the world, and when.
    type Workload: Serialize + DeserializeOwned;

    /// Its name on the command line.
    const NAME: &'static str;
    /// What it is about, in one sentence.
    const SUMMARY: &'static str;
    /// The faults that it alone knows, each with a sentence that says what the amount of one is.
    const SYSTEM_FAULTS: &'static [(&'static str, &'static str)] = &[];

    /// What a seed stands for. It cannot know which variant is run.
    fn draw(&self, seed: u64) -> Drawn<Self::Parameters, Self::Workload>;

    /// Furnishes a world: nodes, services, workload. Faults are injected by the runner.
    ///
    /// # Errors
    /// The part of the case that does not fit, and why: see [`Misfit`].
    fn furnish(
        &self,
        world: &World,
        choices: Self::Choices,
        parameters: Self::Parameters,
        workload: Self::Workload,
    ) -> Result<(), Misfit>;

    /// What must hold, with bounds that may follow from what the servers promise in this case. It cannot know which
    /// variant is run.
    fn invariants(&self, parameters: &Self::Parameters, workload: &Self::Workload) -> Vec<Box<dyn Invariant>>;
}

/// What a seed stands for, besides the variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn<P, W> {
    /// The whole of true time that is simulated.
    pub end: Duration,
    /// See [`Model::Parameters`].
    pub parameters: P,
    /// See [`Model::Workload`].
    pub workload: W,
    /// What goes wrong.
    pub plan: FaultPlan,
}

/// What of a case does not fit its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `choices`, `parameters` or `workload`.
    pub part: &'static str,
    /// What is wrong.
    pub why: String,
}

impl<M: Model> Scenario for M {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn summary(&self) -> &'static str {
        M::SUMMARY
    }

    fn system_faults(&self) -> &'static [(&'static str, &'static str)] {
        M::SYSTEM_FAULTS
    }

    fn bugs(&self) -> Vec<Bug> {
        let bug = |choice: &squall_protocol::choices::Choice<M::Choices>| Bug {
            name: choice.bug(),
            summary: choice.summary.to_owned(),
            upstream: choice.upstream.to_owned(),
            shows_when: choice.shows_when.map(str::to_owned),
        };
        M::Choices::choices().iter().map(bug).collect()
    }

    fn generate(&self, seed: u64, variant: &str) -> Case {
        let choices = M::Choices::named(variant).unwrap_or_else(|| panic!("{} has no variant {variant}", M::NAME));
        let Drawn { end, parameters, workload, plan } = self.draw(seed);
        Case {
            version: CASE_VERSION,
            scenario: M::NAME.to_owned(),
            variant: variant.to_owned(),
            seed,
            end_ms: end.as_millis() as u64,
            choices: plain(&choices),
            parameters: plain(&parameters),
            workload: plain(&workload),
            plan,
        }
    }

    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError> {
        let choices = part::<M::Choices>("choices", &case.choices);
        let parameters = part("parameters", &case.parameters);
        let workload = part("workload", &case.workload);
        let furnished = choices.and_then(|choices| Model::furnish(self, world, choices, parameters?, workload?));
        furnished.map_err(|Misfit { part, why }| CaseError::Misfit { part, scenario: M::NAME.to_owned(), why })
    }

    fn invariants(&self, case: &Case) -> Vec<Box<dyn Invariant>> {
        match (part("parameters", &case.parameters), part("workload", &case.workload)) {
            (Ok(parameters), Ok(workload)) => Model::invariants(self, &parameters, &workload),
            // A case that does not fit never becomes a world.
            _ => Vec::new(),
        }
    }
}

fn plain(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data")
}

fn part<T: DeserializeOwned>(part: &'static str, value: &Value) -> Result<T, Misfit> {
    T::deserialize(value).map_err(|why| Misfit { part, why: why.to_string() })
}
