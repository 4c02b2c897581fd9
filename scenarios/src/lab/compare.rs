//! Comparing policies: each goes through each trial, over several seeds.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value};
use squall_protocol::retry::Policy;

use super::fleet::{Fleet, Transport};
use super::measure::{MEASURES, capacity_per_s, unrecovered};
use super::parallel;
use super::run::{Observed, observe};
use super::trial::Trial;

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The policies and what they are called.
    pub policies: Vec<(String, Policy)>,
    /// The trials.
    pub trials: Vec<Trial>,
    /// How many agents.
    pub agents: u32,
    /// How many seeds, from 0.
    pub seeds: u64,
    /// How requests get to the server, if it is not to follow from the number of agents.
    pub transport: Option<Transport>,
}

/// A policy in a trial.
#[derive(Clone, Debug)]
pub struct Row {
    /// The policy's name.
    pub policy: String,
    /// The trial.
    pub trial: Trial,
    /// How many agents.
    pub agents: u32,
    /// How many seeds were run.
    pub seeds: u64,
    /// For each measure its median and the distance between its quartiles, in the order of [`MEASURES`]; no numbers where
    /// no run could be measured.
    pub values: Vec<Spread>,
    /// Agents that were not back at the end, over all seeds.
    pub unrecovered: usize,
    /// Runs that ended early because too many requests were sent.
    pub cut_short: usize,
    /// Runs whose world broke.
    pub broken: Vec<String>,
    /// What the first seed looked like.
    pub course: Course,
}

/// The course of one run, for plots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Requests of each second since trouble began, over capacity.
    pub load: Vec<f64>,
    /// Seconds from trouble to where recovery is measured from.
    pub heal_s: f64,
    /// Seconds after which each agent was back that was, by length.
    pub back_s: Vec<f64>,
}

/// A median and the distance between the quartiles.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// From the lower quartile to the upper one.
    pub iqr: f64,
}

impl Spread {
    /// Of some values. What could not be measured is left out; of nothing both are [`f64::NAN`].
    pub fn of(mut values: Vec<f64>) -> Self {
        values.retain(|value| !value.is_nan());
        if values.is_empty() {
            return Self { median: f64::NAN, iqr: f64::NAN };
        }
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            // Linear between neighbours, as most programs have it.
            let place = ((values.len() - 1) * quarter) as f64 / 4.0;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            let (low, high) = (values[below], values[above]);
            low + (high - low) * (place - place.floor())
        };
        Self { median: at(2), iqr: at(3) - at(1) }
    }
}

impl Comparison {
    /// How many runs it takes.
    pub fn runs(&self) -> u64 {
        (self.policies.len() * self.trials.len()) as u64 * self.seeds
    }

    fn fleet(&self, policy: &Policy) -> Fleet {
        let fleet = Fleet::of(self.agents, policy.clone());
        Fleet { transport: self.transport.unwrap_or(fleet.transport), ..fleet }
    }

    /// Runs it on so many threads. Each row is handed to `sink` when its seeds are done, and `tick` is called after every
    /// run. When `stop` becomes true, the row that is under way is handed over with the seeds that it has.
    pub fn run(
        &self,
        jobs: NonZeroUsize,
        stop: &AtomicBool,
        mut tick: impl FnMut(),
        mut sink: impl FnMut(Row) -> ControlFlow<()>,
    ) {
        let mut units = Vec::new();
        for trial in &self.trials {
            for (name, policy) in &self.policies {
                units.extend((0..self.seeds).map(|seed| (name, policy, *trial, seed)));
            }
        }
        let mut under_way: Vec<Observed> = Vec::new();
        let row_of = |unit: usize, seen: &mut Vec<Observed>, sink: &mut dyn FnMut(Row) -> ControlFlow<()>| {
            let (name, _, trial, _): &(&String, &Policy, Trial, u64) = &units[unit];
            sink(Row::of(name, *trial, std::mem::take(seen)))
        };
        let mut last = 0;
        let work =
            |(_, policy, trial, seed): &(&String, &Policy, Trial, u64)| observe(&self.fleet(policy), *trial, *seed);
        parallel::each(jobs, &units, stop, work, |unit, seen| {
            under_way.push(seen);
            tick();
            last = unit;
            if under_way.len() as u64 == self.seeds {
                row_of(unit, &mut under_way, &mut sink)
            } else {
                ControlFlow::Continue(())
            }
        });
        if !under_way.is_empty() {
            let _ = row_of(last, &mut under_way, &mut sink);
        }
    }
}

impl Row {
    fn of(policy: &str, trial: Trial, seen: Vec<Observed>) -> Self {
        let spread = |measure: &super::Measure| Spread::of(seen.iter().map(|seen| measure.of(seen)).collect());
        let broken = seen.iter().filter_map(|seen| seen.broken.as_ref()).map(|halt| format!("{halt:?}"));
        Self {
            policy: policy.to_owned(),
            trial,
            agents: seen.first().map_or(0, |seen| seen.fleet.agents),
            seeds: seen.len() as u64,
            values: MEASURES.iter().map(spread).collect(),
            unrecovered: seen.iter().map(|seen| unrecovered(&seen.record)).sum(),
            cut_short: seen.iter().filter(|seen| seen.record.cut_short).count(),
            broken: broken.collect(),
            course: seen.first().map(Course::of).unwrap_or_default(),
        }
    }

    /// The value of a measure.
    pub fn value(&self, name: &str) -> Spread {
        let place = MEASURES.iter().position(|measure| measure.name == name);
        place.and_then(|place| self.values.get(place)).copied().unwrap_or_default()
    }

    /// As one JSON object.
    pub fn to_json(&self) -> Value {
        let mut line = Map::new();
        line.insert("policy".to_owned(), self.policy.as_str().into());
        line.insert("trial".to_owned(), self.trial.name().into());
        line.insert("agents".to_owned(), self.agents.into());
        line.insert("seeds".to_owned(), self.seeds.into());
        for (measure, Spread { median, iqr }) in MEASURES.iter().zip(&self.values) {
            line.insert(measure.name.to_owned(), rounded(*median).into());
            line.insert(format!("{}_iqr", measure.name), rounded(*iqr).into());
        }
        line.insert("unrecovered".to_owned(), self.unrecovered.into());
        line.insert("cut_short".to_owned(), self.cut_short.into());
        line.into()
    }

    /// What makes its numbers less than they seem, in a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let Self { policy, trial, seeds, unrecovered, cut_short, broken, agents, .. } = self;
        let mut told = Vec::new();
        if *cut_short > 0 {
            told.push(format!(
                "{policy} in {trial}: {cut_short} of {seeds} runs sent so many requests that they were ended early"
            ));
        }
        if *unrecovered > 0 {
            let all = u64::from(*agents) * seeds;
            told.push(format!(
                "{policy} in {trial}: {unrecovered} of {all} agents were not back at the end of the run"
            ));
        }
        told.extend(broken.iter().map(|why| format!("{policy} in {trial}: a run broke: {why}")));
        told
    }
}

impl Course {
    fn of(seen: &Observed) -> Self {
        let record = &seen.record;
        let first = (record.trouble_at.as_millis() / 100) as usize;
        let capacity = capacity_per_s(&seen.fleet);
        let seconds = record.sent.get(first..).unwrap_or_default().chunks(10);
        let back = record.back.iter().flatten().map(|back| back.since(record.from).as_secs_f64());
        let mut back_s: Vec<f64> = back.collect();
        back_s.sort_by(f64::total_cmp);
        Self {
            load: seconds.map(|second| f64::from(second.iter().sum::<u32>()) / capacity).collect(),
            heal_s: record.from.since(record.trouble_at).as_secs_f64(),
            back_s,
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles_are_the_usual_ones() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, iqr: 1.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, iqr: 1.5 });
        assert_eq!(Spread::of(vec![7.0]), Spread { median: 7.0, iqr: 0.0 });
        assert_eq!(Spread::of(vec![f64::NAN, 7.0]), Spread { median: 7.0, iqr: 0.0 });
        assert!(Spread::of(vec![f64::NAN]).median.is_nan());
        assert!(Spread::of(Vec::new()).median.is_nan());
    }
}
