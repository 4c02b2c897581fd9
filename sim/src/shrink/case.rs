//! The parts of a case that may become smaller: fewer faults first, then a shorter run, less work and fewer machines,
//! then shorter and milder faults and rounder times.

use std::collections::VecDeque;
use std::ops::Range;

use serde_json::Value;

use super::tree::{Part, Shape};
use crate::case::Case;

/// Numbers of the parameters up to this are taken for counts of things, such as machines.
const COUNT_MAX: u64 = 64;
/// How the names of fields end that hold a time and no count.
const TIMES: [&str; 5] = ["secs", "nanos", "_ms", "_s", "_us"];

/// One part of a case. Those within the workload and the parameters are named by a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Faults,
    Heal,
    End,
    List(Section, String),
    Smaller(Section, String),
    /// Real servers have their lives and time-outs: those may become rounder, and no server gets others.
    Rounder(Section, String),
    FaultNumber(usize),
    Beginning(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Workload,
    Parameters,
}

impl Shape for Case {
    fn part(&self, place: usize) -> Option<Part> {
        let place = self.place(place)?;
        Some(match &place {
            Place::Faults => Part::List { len: self.plan.faults.len() },
            Place::List(section, pointer) => Part::List { len: self.at(*section, pointer).as_array()?.len() },
            Place::Rounder(section, pointer) => Part::Rounder { size: size(self.at(*section, pointer))? },
            Place::Smaller(section, pointer) => Part::Smaller { size: size(self.at(*section, pointer))? },
            Place::Heal => Part::Smaller { size: self.plan.heal_at_ms },
            Place::End => Part::Smaller { size: self.end_ms },
            Place::FaultNumber(number) => Part::Smaller { size: self.plan.number(*number)? },
            Place::Beginning(fault) => Part::Rounder { size: self.plan.faults.get(*fault)?.at_ms },
        })
    }

    fn remove(&mut self, place: usize, elements: Range<usize>) {
        match self.place(place) {
            Some(Place::Faults) => drop(self.plan.faults.drain(elements)),
            Some(Place::List(section, pointer)) => {
                if let Some(list) = self.at_mut(section, &pointer).as_array_mut() {
                    list.drain(elements);
                }
            }
            _ => {}
        }
    }

    fn resize(&mut self, place: usize, size: u64) {
        match self.place(place) {
            Some(Place::Smaller(section, pointer) | Place::Rounder(section, pointer)) => {
                resize(self.at_mut(section, &pointer), size);
            }
            Some(Place::Heal) => self.plan.heal_at_ms = size,
            Some(Place::End) => self.end_ms = size,
            Some(Place::FaultNumber(number)) => self.plan.set_number(number, size),
            Some(Place::Beginning(fault)) => self.plan.faults[fault].at_ms = size,
            Some(Place::Faults | Place::List(..)) | None => {}
        }
    }
}

impl Case {
    /// The place of this number, if there are so many.
    fn place(&self, number: usize) -> Option<Place> {
        use Section::{Parameters, Workload};
        let lists = |section| lists(self.section(section)).into_iter().map(move |it| Place::List(section, it));
        let numbers = |section: Section, wish: fn(Section, String) -> Place, wanted: fn(&str, u64) -> bool| {
            let numbers = numbers(self.section(section)).into_iter();
            numbers.filter(move |(pointer, size)| wanted(pointer, *size)).map(move |(it, _)| wish(section, it))
        };
        [Place::Faults, Place::Heal, Place::End]
            .into_iter()
            .chain(lists(Workload))
            .chain(lists(Parameters))
            .chain(numbers(Parameters, Place::Smaller, is_count))
            .chain((0..self.plan.numbers()).map(Place::FaultNumber))
            .chain(numbers(Workload, Place::Smaller, |_, _| true))
            .chain((0..self.plan.faults.len()).map(Place::Beginning))
            .chain(numbers(Parameters, Place::Rounder, |pointer, size| !is_count(pointer, size)))
            .nth(number)
    }

    fn section(&self, section: Section) -> &Value {
        match section {
            Section::Workload => &self.workload,
            Section::Parameters => &self.parameters,
        }
    }

    fn at(&self, section: Section, pointer: &str) -> &Value {
        self.section(section).pointer(pointer).unwrap_or(&Value::Null)
    }

    fn at_mut(&mut self, section: Section, pointer: &str) -> &mut Value {
        let whole = match section {
            Section::Workload => &mut self.workload,
            Section::Parameters => &mut self.parameters,
        };
        whole.pointer_mut(pointer).expect("a place names what is there")
    }
}

/// Pointers to the lists within a value, the outer ones before the inner.
fn lists(value: &Value) -> Vec<String> {
    let (mut found, mut waiting) = (Vec::new(), VecDeque::from([(String::new(), value)]));
    while let Some((pointer, value)) = waiting.pop_front() {
        if value.is_array() {
            found.push(pointer.clone());
        }
        waiting.extend(inner(&pointer, value));
    }
    found
}

/// Pointers to the whole numbers within a value, with their sizes, in the order of the text.
fn numbers(value: &Value) -> Vec<(String, u64)> {
    fn collect(pointer: String, value: &Value, found: &mut Vec<(String, u64)>) {
        inner(&pointer, value).into_iter().for_each(|(pointer, value)| collect(pointer, value, found));
        found.extend(size(value).map(|size| (pointer, size)));
    }
    let mut found = Vec::new();
    collect(String::new(), value, &mut found);
    found
}

/// What is directly within a value.
fn inner<'a>(pointer: &str, value: &'a Value) -> Vec<(String, &'a Value)> {
    // RFC 6901.
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => items.iter().enumerate().map(|(n, item)| (format!("{pointer}/{n}"), item)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (format!("{pointer}/{}", escaped(name)), field)).collect()
        }
        _ => Vec::new(),
    }
}

fn is_count(pointer: &str, size: u64) -> bool {
    // What a list holds is named by the list.
    let named = pointer.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
    size <= COUNT_MAX && !TIMES.iter().any(|time| named.ends_with(time))
}

fn size(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_i64().map(i64::unsigned_abs))
}

fn resize(value: &mut Value, size: u64) {
    *value = match value.as_i64() {
        Some(negative) if negative < 0 => Value::from(i64::try_from(size).map_or(i64::MIN, |size| -size)),
        _ => Value::from(size),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use serde_json::json;

    use super::*;
    use crate::case::CASE_VERSION;
    use crate::fault::{Fault, FaultKind, FaultPlan, Target};
    use crate::shrink::tree::Tree;

    fn case(parameters: Value, workload: Value, faults: Vec<Fault>) -> Case {
        Case {
            version: CASE_VERSION,
            scenario: "queue".to_owned(),
            variant: "upstream".to_owned(),
            seed: 7,
            end_ms: 7_200_000,
            choices: json!({"ack": "early"}),
            parameters,
            workload,
            plan: FaultPlan { faults, heal_at_ms: 3_600_000 },
        }
    }

    fn crash(node: &str, at_ms: u64) -> Fault {
        let target = Target { node: Some(node.to_owned()), ..Target::default() };
        Fault { kind: FaultKind::Crash, target, at_ms, for_ms: 123_456 }
    }

    fn shrunk(case: Case, fails: impl Fn(&Case) -> bool) -> Case {
        let mut tree = Tree::of(case);
        let mut goes_on = tree.simplify();
        while goes_on {
            goes_on = if fails(&tree.current()) { tree.simplify() } else { tree.complicate() };
        }
        tree.smallest().clone()
    }

    #[test]
    fn every_part_becomes_smaller_and_the_rest_is_left_alone() {
        let jobs: Vec<Value> = (1..=9).map(|n| json!({"name": format!("job-{n}"), "at_ms": n * 61_234})).collect();
        let parameters = json!({"lease": {"secs": 347, "nanos": 500}, "agents": 5, "session_ms": 60, "off": -12});
        let faults = vec![crash("a", 1_234_567), crash("b", 2_345_678)];
        let has_job = |case: &Case| case.workload["jobs"].as_array().unwrap().iter().any(|job| job["name"] == "job-4");
        let left = shrunk(case(parameters, json!({ "jobs": jobs }), faults), |case| {
            let crashes = case.plan.faults.iter().any(|fault| fault.target.node.as_deref() == Some("b"));
            has_job(case) && crashes && case.parameters["agents"].as_u64().unwrap() >= 2 && case.end_ms > 3_000_000
        });
        assert_eq!(left.workload, json!({"jobs": [{"name": "job-4", "at_ms": 0}]}));
        assert_eq!(
            left.parameters,
            json!({"lease": {"secs": 300, "nanos": 500}, "agents": 2, "session_ms": 50, "off": 0})
        );
        let [crash] = &left.plan.faults[..] else { panic!("{:?}", left.plan) };
        assert_eq!((crash.at_ms, crash.for_ms), (1_800_000, 0), "to ten minutes");
        assert_eq!(left.plan.heal_at_ms, 0);
        assert!((3_000_001..=3_100_000).contains(&left.end_ms), "{}", left.end_ms);
        assert_eq!((left.seed, left.variant.as_str(), &left.choices["ack"]), (7, "upstream", &json!("early")));
    }

    #[test]
    fn lists_within_lists_lose_elements_too() {
        let workload = json!([{"steps": [1, 2, 3]}, {"steps": [4, 5]}, {"steps": []}]);
        let left = shrunk(case(json!(null), workload, Vec::new()), |case| case.workload.to_string().contains('5'));
        assert_eq!(left.workload, json!([{"steps": [5]}]));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a-z/~]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z/~]{0,4}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is rejected and accepted, it ends, and what was accepted last is what is left.
        #[test]
        fn any_case_is_shrunk_to_an_end(parameters in any_value(), workload in any_value(), answers in any::<u64>()) {
            let mut tried = 0_u32;
            let first = case(parameters, workload, vec![crash("a", 1_234), crash("b", 0)]);
            let mut accepted = first.clone();
            let mut tree = Tree::of(first);
            let mut goes_on = tree.simplify();
            while goes_on {
                tried += 1;
                prop_assert!(tried < 20_000);
                let fails = answers.rotate_left(tried) & 1 == 1;
                if fails {
                    accepted = tree.current();
                }
                goes_on = if fails { tree.simplify() } else { tree.complicate() };
            }
            prop_assert_eq!(tree.smallest(), &accepted);
        }
    }
}
