//! `squall list`.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;
use squall_protocol::retry::{mutants, presets};
use squall_sim::scenario::{Bug, Scenario};
use squall_sim::{fault, invariant};

use super::refusal::Refusal;
use super::{HARDENED, Surroundings, tables};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Everything that has a name.
#[derive(Debug, Serialize)]
pub(super) struct Catalogue {
    pub(super) scenarios: Vec<Named>,
    pub(super) bugs: Vec<Bug>,
    pub(super) faults: Vec<Named>,
    pub(super) invariants: Vec<Named>,
    pub(super) policies: Vec<Named>,
}

#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) summary: String,
}

impl Named {
    fn new(name: &str, summary: &str) -> Self {
        Self { name: name.to_owned(), summary: summary.to_owned() }
    }
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let catalogue = Catalogue {
        scenarios: scenarios.iter().map(|scenario| Named::new(scenario.name(), scenario.summary())).collect(),
        bugs: scenarios.iter().flat_map(|scenario| scenario.bugs()).collect(),
        faults: fault::catalogue().iter().map(|(name, summary)| Named::new(name, summary)).collect(),
        invariants: invariants(scenarios),
        policies: policies(),
    };
    match arguments.format {
        Format::Text => write!(around.out, "{}", tables::catalogue(&catalogue))?,
        Format::Json => {
            writeln!(around.out, "{}", serde_json::to_string(&catalogue).expect("a catalogue is plain data"))?;
        }
    }
    Ok(0)
}

/// Every policy that has a name: those of real projects, and those with a known wound.
fn policies() -> Vec<Named> {
    let all = presets::all().into_iter().chain(mutants::all());
    all.map(|preset| Named::new(preset.name, &format!("{} ({})", preset.summary, preset.source))).collect()
}

/// The reusable invariants, and those that scenarios have of their own.
fn invariants(scenarios: &[&'static dyn Scenario]) -> Vec<Named> {
    let reusable: Vec<Named> =
        invariant::catalogue().into_iter().map(|(name, summary, _)| Named::new(name, summary)).collect();
    let mut own = BTreeMap::new();
    for scenario in scenarios {
        for invariant in scenario.invariants(&scenario.generate(0, HARDENED)) {
            own.insert(invariant.name(), invariant.summary());
        }
    }
    own.retain(|name, _| !reusable.iter().any(|reusable| reusable.name == *name));
    reusable.into_iter().chain(own.into_iter().map(|(name, summary)| Named::new(name, summary))).collect()
}
