//! The laboratory as a scenario, so that a case that was found can be replayed and told as a story.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use squall_protocol::Fact;
use squall_protocol::retry::mutants;
use squall_sim::World;
use squall_sim::case::{CASE_VERSION, Case};
use squall_sim::fault::FaultPlan;
use squall_sim::invariant::{Invariant, Property};
use squall_sim::scenario::{CaseError, Scenario};

use super::fleet::Fleet;
use super::record::{BACK, FACT};
use super::run;
use super::trial::{self, Trial};

/// How long a fleet may take to be back after heal.
const BACK_WITHIN: Duration = Duration::from_secs(300);

/// The laboratory's scenario. It has no bugs of its own; its policy is a parameter.
#[derive(Clone, Copy, Debug)]
pub struct RetryLab;

const NAME: &str = "retry-lab";

/// The case of a fleet, a plan and a seed.
pub fn case(fleet: &Fleet, plan: &FaultPlan, end_ms: u64, seed: u64) -> Case {
    Case {
        version: CASE_VERSION,
        scenario: NAME.to_owned(),
        variant: "upstream".to_owned(),
        seed,
        end_ms,
        choices: Value::Null,
        parameters: serde_json::to_value(fleet).expect("plain data"),
        workload: json!({}),
        plan: plan.clone(),
    }
}

impl Scenario for RetryLab {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "A fleet of agents retries with a policy, and comes back after what went wrong."
    }

    fn generate(&self, seed: u64, variant: &str) -> Case {
        let plan = Trial::Outage.plan();
        let fleet = Fleet::of(20, mutants::sound());
        Case { variant: variant.to_owned(), ..case(&fleet, &plan, trial::end_ms(Trial::Outage, &plan), seed) }
    }

    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError> {
        let misfit = |why: String| CaseError::Misfit { part: "parameters", scenario: NAME.to_owned(), why };
        let fleet = Fleet::deserialize(&case.parameters).map_err(|why| misfit(why.to_string()))?;
        fleet.check().map_err(misfit)?;
        run::furnish(world, &fleet, &case.plan, case.end_ms);
        Ok(())
    }

    fn invariants(&self, case: &Case) -> Vec<Box<dyn Invariant>> {
        let agents = case.parameters["agents"].as_u64().unwrap_or(0);
        let summary = "Every agent is answered again within five minutes after heal.";
        vec![Box::new(Property::eventually("fleet-is-back", summary, "agent", BACK_WITHIN, move |history, found| {
            found.subjects(agents as usize);
            for number in 0..agents {
                let name = format!("agent-{number}");
                let is_back = |fact: &Fact| matches!(fact, Fact::Custom { kind, subject, detail } if kind == FACT && *subject == name && detail == BACK);
                let back = history.journal.iter().find(|entry| is_back(&entry.fact));
                let bound = history.heal_at + BACK_WITHIN;
                if history.end > bound && back.is_none_or(|entry| entry.at > bound) {
                    found.breach(&name, bound, format!("{name} was not answered by {bound}"));
                }
            }
        }))]
    }
}
