//! `squall list`.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;
use squall_protocol::retry::{mutants, presets};
use squall_sim::scenario::{Bug, Scenario};
use squall_sim::{fault, invariant};

use super::refusal::Refusal;
use super::{HARDENED, Surroundings, tables};
use crate::serve::Serve;

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
    servers: &[&'static dyn Serve],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let catalogue = Catalogue {
        scenarios: scenarios.iter().map(|scenario| Named::new(scenario.name(), scenario.summary())).collect(),
        bugs: scenarios.iter().flat_map(|scenario| scenario.bugs()).collect(),
        faults: faults(scenarios),
        invariants: invariants(scenarios, servers),
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

/// Those that every world knows, and those that scenarios have of their own.
fn faults(scenarios: &[&'static dyn Scenario]) -> Vec<Named> {
    let mut own: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
    for scenario in scenarios {
        for (name, summary) in scenario.system_faults() {
            own.entry(name).or_insert((summary, Vec::new())).1.push(scenario.name());
        }
    }
    let general = fault::catalogue().iter().map(|(name, summary)| Named::new(name, summary));
    let own = own.into_iter().map(|(name, (summary, of))| Named::new(name, &format!("{summary} ({})", of.join(", "))));
    general.chain(own).collect()
}

/// Every policy that has a name: those of real projects, and those with a known wound.
fn policies() -> Vec<Named> {
    let all = presets::all().into_iter().chain(mutants::all());
    all.map(|preset| Named::new(preset.name, &format!("{} ({})", preset.summary, preset.source))).collect()
}

/// The reusable invariants, and those that scenarios and servers have of their own.
fn invariants(scenarios: &[&'static dyn Scenario], servers: &[&'static dyn Serve]) -> Vec<Named> {
    let reusable: Vec<Named> =
        invariant::catalogue().into_iter().map(|(name, summary, _)| Named::new(name, summary)).collect();
    let mut own = BTreeMap::new();
    for scenario in scenarios {
        for invariant in scenario.invariants(&scenario.generate(0, HARDENED)) {
            own.insert(invariant.name(), invariant.summary());
        }
    }
    own.extend(servers.iter().flat_map(|server| server.own_invariants()));
    own.retain(|name, _| !reusable.iter().any(|reusable| reusable.name == *name));
    reusable.into_iter().chain(own.into_iter().map(|(name, summary)| Named::new(name, summary))).collect()
}
