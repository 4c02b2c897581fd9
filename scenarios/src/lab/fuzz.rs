//! Searching for what hurts a policy most.
//!
//! The plainest triggers come first, then others are drawn and changed. Each is run with the policy and with a sound one
//! beside it: a trigger that hurts any policy says nothing. For each measure the trigger is kept in which the policy does
//! worst compared with the sound one, and then made as small as it can be while it still hurts.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use squall_protocol::retry::{Policy, mutants};
use squall_sim::stopwatch::Stopwatch;

use super::measure::{MEASURES, Measure};
use super::parallel;
use super::run::Observed;
use super::triggers::Trigger;

/// Triggers of one round of the search.
const ROUND: usize = 16;
/// Of a round, so many are drawn afresh; the others are neighbours of the worst ones.
const FRESH: usize = 8;
/// A policy that does this many times worse than a sound one is hurt.
const HURT: f64 = 2.0;
/// Runs that making one trigger smaller may take.
const SHRINK_RUNS_MAX: usize = 120;

/// What is searched for, and how long.
#[derive(Clone, Debug)]
pub struct Search {
    /// The policy.
    pub policy: Policy,
    /// By which measures it is to be hurt.
    pub measures: Vec<Measure>,
    /// How long in real time.
    pub time: Duration,
    /// How many triggers at most; with it alone the search is the same every time.
    pub triggers: Option<usize>,
    /// How many threads.
    pub jobs: NonZeroUsize,
    /// What the search draws from.
    pub seed: u64,
}

/// A trigger that hurts.
#[derive(Clone, Debug)]
pub struct Wound {
    /// By which measure.
    pub measure: Measure,
    /// The policy's value.
    pub value: f64,
    /// The sound policy's.
    pub sound: f64,
    /// How many times worse that is.
    pub times: f64,
    /// The trigger.
    pub trigger: Trigger,
    /// What was found first, before it was made smaller.
    pub found: Trigger,
}

impl Wound {
    /// As one JSON object; `case` is the file of its case.
    pub fn to_json(&self, policy: &str, case: Option<&str>) -> Value {
        let Self { measure, value, sound, times, trigger, found } = self;
        let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
        json!({
            "policy": policy,
            "measure": measure.name,
            "value": rounded(*value),
            "sound": rounded(*sound),
            "times": rounded(*times),
            "trigger": trigger.to_string(),
            "agents": trigger.agents,
            "faults_before": found.plan().faults.len(),
            "faults_after": trigger.plan().faults.len(),
            "case": case,
        })
    }
}

/// Below this a value is taken for nothing: it is added to both values before they are compared.
pub fn floor(measure: &Measure) -> f64 {
    match measure.name {
        "attempts_per_success" => 0.5,
        "load_over_capacity" => 0.2,
        "peak_per_100ms" => 4.0,
        "peak_to_mean" => 4.0,
        "recovery_ms_p50" | "recovery_ms_p99" | "recovery_ms_max" => 20_000.0,
        "orphan_ms" => 5_000.0,
        "wait_max_over_median" => 4.0,
        "synchrony" => 0.2,
        _ => 10.0,
    }
}

/// What could not be measured, because the run sent too much to get there, is for another measure to tell.
fn taken(measure: &Measure, seen: &Observed) -> f64 {
    let value = measure.of(seen);
    if value.is_nan() { 0.0 } else { value }
}

/// The policy's value, the sound one's, and how many times worse that is.
fn times_worse(measure: &Measure, seen: &Observed, sound: &Observed) -> (f64, f64, f64) {
    let (value, beside) = (taken(measure, seen), taken(measure, sound));
    (value, beside, (value + floor(measure)) / (beside + floor(measure)))
}

/// How many times worse it is at most, whatever the sound policy does.
fn times_at_most(measure: &Measure, seen: &Observed) -> f64 {
    (taken(measure, seen) + floor(measure)) / floor(measure)
}

impl Search {
    /// The policy's wounds, the worst first. `tick` is called after each trigger.
    pub fn run(&self, stop: &AtomicBool, mut tick: impl FnMut()) -> Vec<Wound> {
        let watch = Stopwatch::start();
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut worst: Vec<Option<Wound>> = self.measures.iter().map(|_| None).collect();
        let (mut tried, mut plain) = (0, Trigger::plain().into_iter());
        let sound = mutants::counterpart(&self.policy);
        let over = |tried: usize| {
            let enough = self.triggers.is_some_and(|most| tried >= most);
            enough || watch.elapsed() >= self.time || stop.load(Ordering::Relaxed)
        };
        while !over(tried) {
            let mut round: Vec<Trigger> = plain.by_ref().take(ROUND).collect();
            if round.is_empty() {
                round = self.round(&worst, &mut random);
            }
            round.truncate(self.triggers.map_or(ROUND, |most| most - tried));
            tried += round.len();
            let both = |trigger: &Trigger| (trigger.observe(&self.policy), trigger.observe(&sound));
            parallel::each(self.jobs, &round, stop, both, |place, (seen, sound)| {
                self.note(&mut worst, &round[place], &seen, &sound);
                tick();
                if watch.elapsed() >= self.time { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        let mut wounds: Vec<Wound> = worst.into_iter().flatten().filter(|wound| wound.times >= HURT).collect();
        wounds.sort_by(|a, b| b.times.total_cmp(&a.times));
        self.all_smaller(wounds, stop)
    }

    fn round(&self, worst: &[Option<Wound>], random: &mut ChaCha8Rng) -> Vec<Trigger> {
        let known: Vec<&Trigger> = worst.iter().flatten().map(|wound| &wound.trigger).collect();
        let next = |n: usize| {
            if n < FRESH || known.is_empty() {
                return Trigger::draw(random);
            }
            known[random.next_u64() as usize % known.len()].clone().changed(random)
        };
        (0..ROUND).map(next).collect()
    }

    fn note(&self, worst: &mut [Option<Wound>], trigger: &Trigger, seen: &Observed, sound: &Observed) {
        for (measure, worst) in self.measures.iter().zip(worst) {
            let (value, beside, times) = times_worse(measure, seen, sound);
            if worst.as_ref().is_none_or(|known| times > known.times) {
                let (trigger, found) = (trigger.clone(), trigger.clone());
                *worst = Some(Wound { measure: *measure, value, sound: beside, times, trigger, found });
            }
        }
    }

    /// Each as small as it can be, side by side.
    fn all_smaller(&self, wounds: Vec<Wound>, stop: &AtomicBool) -> Vec<Wound> {
        let mut smaller = Vec::new();
        parallel::each(
            self.jobs,
            &wounds,
            &AtomicBool::new(false),
            |wound| self.smaller(wound, stop),
            |_, wound| {
                smaller.push(wound);
                ControlFlow::Continue(())
            },
        );
        smaller
    }

    fn smaller(&self, wound: &Wound, stop: &AtomicBool) -> Wound {
        // What is left may hurt less, but by no more than half of the way down to where nothing hurts, in powers.
        let kept = (HURT * wound.times).sqrt();
        let sound = mutants::counterpart(&self.policy);
        let (mut best, mut runs) = (wound.clone(), 0);
        'again: loop {
            for trigger in best.trigger.smaller() {
                if runs >= SHRINK_RUNS_MAX || stop.load(Ordering::Relaxed) {
                    return best;
                }
                runs += 1;
                let seen = trigger.observe(&self.policy);
                if times_at_most(&wound.measure, &seen) < kept {
                    continue;
                }
                let (value, beside, times) = times_worse(&wound.measure, &seen, &trigger.observe(&sound));
                if times >= kept {
                    best = Wound { value, sound: beside, times, trigger, ..best };
                    continue 'again;
                }
            }
            return best;
        }
    }
}

/// Every measure but those that only count what a policy is meant to do.
pub fn measures() -> Vec<Measure> {
    MEASURES.into_iter().filter(|measure| measure.name != "budget_exhausted").collect()
}
