//! The table of faults: their meaning and their fields from the schema of cases, what is drawn from many plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use squall::sim::fault::families::families;
use squall::sim::fault::{FaultPlan, Swarm, catalogue};
use squall::sim::strategies::faults;

use super::shown;

/// So many plans show every value of a field.
const PLANS: u64 = 4_000;
/// More values than this are told as a range.
const VALUES_MAX: usize = 12;

/// What is drawn for a field of a kind of fault.
#[derive(Default)]
struct Drawn {
    numbers: BTreeSet<i128>,
    texts: BTreeSet<String>,
    missing: bool,
}

impl Drawn {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Number(number) => {
                let number = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
                self.numbers.insert(number.expect("a whole number"));
            }
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                self.texts.insert(format!("{name}: {}", value.to_string().replace('|', "\\|")));
            }),
            Value::String(text) => {
                self.texts.insert(format!("`{text}`"));
            }
            _ => self.missing = true,
        }
    }

    fn told(&self) -> String {
        let mut told: Vec<String> = self.texts.iter().cloned().collect();
        let signed = self.numbers.iter().all(|number| self.numbers.contains(&-number));
        let shown = self.numbers.iter().filter(|number| !signed || **number > 0);
        let numbers: Vec<String> =
            shown.map(|number| format!("{}{number}", if signed && *number != 0 { "±" } else { "" })).collect();
        match (numbers.first(), numbers.last()) {
            (Some(first), Some(last)) if numbers.len() > VALUES_MAX => told.push(format!("{first} to {last}")),
            _ => told.extend(numbers),
        }
        if self.missing {
            told.push("none".to_owned());
        }
        told.join(", ")
    }
}

fn swarm() -> Swarm {
    let swarm = faults(["agent"], ["server"], Duration::from_secs(7_200));
    Swarm { families: families().map(str::to_owned).collect(), faults_max: 20, ..swarm }
}

/// What is drawn, by kind and field.
fn drawn() -> BTreeMap<(String, String), Drawn> {
    let mut drawn: BTreeMap<(String, String), Drawn> = BTreeMap::new();
    for seed in 0..PLANS {
        for fault in FaultPlan::generate(&swarm(), seed).faults {
            let plain = serde_json::to_value(fault).expect("plain data");
            let kind = plain["kind"].as_str().expect("a kind").to_owned();
            let members = plain.as_object().expect("an object");
            for (name, value) in members {
                drawn.entry((kind.clone(), name.clone())).or_default().add(value);
            }
            if kind == "status" && !members.contains_key("retry_after") {
                drawn.entry((kind.clone(), "retry_after".to_owned())).or_default().missing = true;
            }
        }
    }
    drawn
}

/// A description as one line of a table.
fn described(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// The family of a kind: the name that checks and campaigns know.
fn family(kind: &str) -> &str {
    let all: Vec<&str> = families().collect();
    let dashed = kind.replace('_', "-");
    let named = all.iter().find(|family| **family == dashed || (**family == "reset" && dashed == "reset-after"));
    named.copied().unwrap_or("of one's own")
}

fn table() -> String {
    let schema: Value = serde_json::from_str(&shown::text("sim/case.schema.json")).expect("JSON");
    let drawn = drawn();
    let mut table = "| family | kind | field | drawn | what it means |\n|---|---|---|---|---|\n".to_owned();
    let put = "a string takes all";
    for kind in schema["$defs"]["Fault"]["oneOf"].as_array().expect("the kinds of faults") {
        let name = kind["properties"]["kind"]["const"].as_str().expect("a name");
        writeln!(table, "| `{}` | `{name}` | | | {} |", family(name), described(kind)).expect(put);
        let fields = kind["properties"].as_object().expect("fields");
        for (field, about) in fields.iter().filter(|(field, _)| *field != "kind") {
            let told = drawn.get(&(name.to_owned(), field.clone())).map(Drawn::told).unwrap_or_default();
            let default = match &about["default"] {
                Value::Null => String::new(),
                default => format!(" Default: `{}`.", default.to_string().trim_matches('"')),
            };
            writeln!(table, "| | | `{field}` | {told} | {}{default} |", described(about)).expect(put);
        }
    }
    table
}

#[test]
fn the_table_of_faults_is_that_of_the_program() {
    shown::is_as_made("docs/faults.md", "faults", &table());
}

#[test]
fn every_family_is_in_the_table() {
    let table = table();
    for (name, _) in catalogue() {
        assert!(table.contains(&format!("| `{name}` |")), "{name} is missing");
    }
}
