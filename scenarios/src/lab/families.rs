//! Families of policies: expressions in which some arguments are free, such as `exp(base=?,cap=5s..10m,jitter=full)`.
//!
//! Their parameters are searched for policies that no other beats in both of two ways: how fast a fleet is back after an
//! outage, and how high the load is that it makes then. Points are spread evenly at first, then around the best.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_protocol::retry::{Policy, Span, presets};
use squall_sim::stopwatch::Stopwatch;

use super::compare::{Comparison, Row};
use super::page::non_dominated;
use super::parallel;
use super::trial::Trial;

/// Policies of one round.
const ROUND: usize = 12;
/// Rounds that are spread evenly.
const EVEN_ROUNDS: usize = 2;
/// What a `?` stands for where the argument is a span.
const SPANS_MS: [(&str, u64, u64); 5] = [
    ("base", 100, 10_000),
    ("cap", 5_000, 600_000),
    ("wait", 500, 120_000),
    ("step", 100, 30_000),
    ("after", 10_000, 600_000),
];
/// What it stands for where it is a number: in thousandths.
const NUMBERS: [(&str, u64, u64); 5] = [
    ("factor", 1_200, 5_000),
    ("ratio", 10, 1_000),
    ("retries", 1_000, 20_000),
    ("tokens", 1_000, 100_000),
    ("k", 1_100, 4_000),
];
/// What it stands for where it is one of several words.
const WORDS: [(&str, &[&str]); 1] = [("jitter", &["none", "equal", "full"])];

/// An expression with free arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The text between the free arguments; one more than there are of those.
    fixed: Vec<String>,
    free: Vec<Free>,
}

/// What a free argument may be.
#[derive(Clone, Debug, PartialEq)]
enum Free {
    /// A span of so many milliseconds.
    Span(u64, u64),
    /// A number of so many thousandths.
    Number(u64, u64),
    /// One of these.
    Word(&'static [&'static str]),
}

/// A policy of a family, or a preset beside it, and what it came to.
#[derive(Clone, Debug)]
pub struct Member {
    /// As it is written.
    pub text: String,
    /// What came of it.
    pub row: Row,
    /// Nothing beats it in both ways.
    pub best: bool,
    /// It is a preset.
    pub preset: bool,
}

impl Family {
    /// Reads an expression; `None` when nothing in it is free.
    ///
    /// # Errors
    /// A sentence, when something that is free cannot be.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let (mut fixed, mut free) = (vec![String::new()], Vec::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('=') {
            let end = after.find([',', ')']).unwrap_or(after.len());
            let (value, key) = (after[..end].trim(), before.rsplit([',', '(']).next().unwrap_or_default().trim());
            let last = fixed.last_mut().expect("there is a first part");
            *last += before;
            last.push('=');
            match Free::of(key, value)? {
                Some(found) => {
                    free.push(found);
                    fixed.push(String::new());
                }
                None => *last += &after[..end],
            }
            rest = &after[end..];
        }
        *fixed.last_mut().expect("there is a first part") += rest;
        Ok((!free.is_empty()).then_some(Self { fixed, free }))
    }

    /// The expression at a point of the unit cube.
    fn at(&self, point: &[f64]) -> String {
        let mut text = self.fixed[0].clone();
        for ((free, at), fixed) in self.free.iter().zip(point).zip(&self.fixed[1..]) {
            text += &free.at(*at);
            text += fixed;
        }
        text
    }

    /// Searches for so long, and returns what nothing beats, with presets beside it.
    pub fn search(
        &self,
        time: Duration,
        rounds: Option<usize>,
        jobs: NonZeroUsize,
        stop: &AtomicBool,
        mut tick: impl FnMut(),
    ) -> Vec<Member> {
        let (watch, mut random) = (Stopwatch::start(), ChaCha8Rng::seed_from_u64(0));
        let mut members = presets_beside(jobs, stop);
        let mut points: Vec<(Vec<f64>, (f64, f64))> = Vec::new();
        for round in 0.. {
            let over =
                watch.elapsed() >= time || rounds.is_some_and(|most| round >= most) || stop.load(Ordering::Relaxed);
            if over && round > 0 {
                break;
            }
            let next: Vec<Vec<f64>> = (0..ROUND).map(|n| self.next(round * ROUND + n, &points, &mut random)).collect();
            // A corner of the cube may make no sense, such as a cap below the base.
            let sensible = |point: &Vec<f64>| squall_protocol::retry::named(&self.at(point)).ok();
            let units: Vec<(Vec<f64>, Policy)> =
                next.into_iter().filter_map(|point| sensible(&point).map(|policy| (point, policy))).collect();
            let work = |(point, policy): &(Vec<f64>, Policy)| tried(&self.at(point), policy);
            parallel::each(jobs, &units, stop, work, |place, row| {
                points.push((units[place].0.clone(), aims(&row)));
                members.push(Member { text: row.policy.clone(), row, best: false, preset: false });
                tick();
                ControlFlow::Continue(())
            });
        }
        best(members)
    }

    /// The next point to look at: spread evenly, or near one that nothing beats so far.
    fn next(&self, n: usize, seen: &[(Vec<f64>, (f64, f64))], random: &mut ChaCha8Rng) -> Vec<f64> {
        if n < EVEN_ROUNDS * ROUND || seen.is_empty() {
            return (0..self.free.len())
                .map(|dimension| radical_inverse(n as u64 + 1, PRIMES[dimension % PRIMES.len()]))
                .collect();
        }
        let aims: Vec<(f64, f64)> = seen.iter().map(|(_, aims)| *aims).collect();
        let good: Vec<&Vec<f64>> =
            seen.iter().zip(non_dominated(&aims)).filter(|(_, best)| *best).map(|((point, _), _)| point).collect();
        let near = good[random.next_u64() as usize % good.len()];
        near.iter().map(|at| (at + (unit(random) - 0.5) * 0.3).clamp(0.0, 1.0)).collect()
    }
}

impl Free {
    fn of(key: &str, value: &str) -> Result<Option<Self>, String> {
        if value == "?" {
            let span = SPANS_MS.iter().find(|(name, ..)| *name == key).map(|(_, low, high)| Free::Span(*low, *high));
            let number =
                || NUMBERS.iter().find(|(name, ..)| *name == key).map(|(_, low, high)| Free::Number(*low, *high));
            let word = || WORDS.iter().find(|(name, _)| *name == key).map(|(_, words)| Free::Word(words));
            let found = span.or_else(number).or_else(word);
            return found.map(Some).ok_or_else(|| format!("{key} cannot be free; write a range such as {key}=1s..60s"));
        }
        let Some((low, high)) = value.split_once("..") else { return Ok(None) };
        if let (Ok(Span(low)), Ok(Span(high))) = (low.parse(), high.parse::<Span>()) {
            let (low, high) = (low.as_millis() as u64, high.as_millis() as u64);
            return ordered(key, low, high).map(|()| Some(Free::Span(low, high)));
        }
        match (low.parse::<f64>(), high.parse::<f64>()) {
            (Ok(low), Ok(high)) if low >= 0.0 && high <= 1e6 => {
                let (low, high) = ((low * 1_000.0) as u64, (high * 1_000.0) as u64);
                ordered(key, low, high).map(|()| Some(Free::Number(low, high)))
            }
            _ => Err(format!("{key}={value} is no range; write two spans or two numbers, such as 1s..60s")),
        }
    }

    /// Spans and numbers are spread by their order of magnitude.
    fn at(&self, at: f64) -> String {
        let between = |low: u64, high: u64| {
            // Sixteen halvings of the interval, each at its geometric mean, need no power that differs between machines.
            let (mut low, mut high, mut at) = (low.max(1) as f64, high.max(1) as f64, at);
            for _ in 0..16 {
                let middle = (low * high).sqrt();
                if at < 0.5 { (high, at) = (middle, at * 2.0) } else { (low, at) = (middle, at * 2.0 - 1.0) }
            }
            low.round() as u64
        };
        match *self {
            Free::Span(low, high) => Span::millis(round_to_two_digits(between(low, high))).to_string(),
            Free::Number(low, high) if low >= 1_000 && low % 1_000 == 0 && high % 1_000 == 0 => {
                (between(low, high) / 1_000).to_string()
            }
            Free::Number(low, high) => (between(low, high) as f64 / 1_000.0).to_string(),
            Free::Word(words) => words[((at * words.len() as f64) as usize).min(words.len() - 1)].to_owned(),
        }
    }
}

fn ordered(key: &str, low: u64, high: u64) -> Result<(), String> {
    if low < high { Ok(()) } else { Err(format!("the range of {key} ends before it begins")) }
}

fn round_to_two_digits(millis: u64) -> u64 {
    let mut unit = 1;
    while millis / unit >= 100 {
        unit *= 10;
    }
    (millis + unit / 2) / unit * unit
}

const PRIMES: [u64; 8] = [2, 3, 5, 7, 11, 13, 17, 19];

/// The digits of a number mirrored at the point: spreads points evenly (Halton).
fn radical_inverse(mut n: u64, base: u64) -> f64 {
    let (mut inverse, mut digit) = (0.0, 1.0 / base as f64);
    while n > 0 {
        inverse += (n % base) as f64 * digit;
        n /= base;
        digit /= base as f64;
    }
    inverse
}

fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The fleet that families are tried with.
const AGENTS: u32 = 50;

fn tried(text: &str, policy: &Policy) -> Row {
    let comparison = Comparison {
        policies: vec![(text.to_owned(), policy.clone())],
        trials: vec![Trial::Outage],
        agents: AGENTS,
        seeds: 1,
        transport: Some(super::Transport::Exchange),
    };
    let mut rows = Vec::new();
    comparison.run(
        NonZeroUsize::MIN,
        &AtomicBool::new(false),
        || {},
        |row| {
            rows.push(row);
            ControlFlow::Continue(())
        },
    );
    rows.pop().expect("one policy, one trial, one seed")
}

/// What is aimed at: a short recovery and a low load.
fn aims(row: &Row) -> (f64, f64) {
    // What sends too much to be measured is worse than all that is.
    let aim = |name| Some(row.value(name).median).filter(|value| !value.is_nan()).unwrap_or(f64::INFINITY);
    (aim("recovery_ms_p99"), aim("load_over_capacity"))
}

fn presets_beside(jobs: NonZeroUsize, stop: &AtomicBool) -> Vec<Member> {
    let beside: Vec<_> = presets::all().into_iter().filter(|preset| preset.name != "none").collect();
    let mut members = Vec::new();
    parallel::each(
        jobs,
        &beside,
        stop,
        |preset| tried(preset.name, &preset.policy),
        |_, row| {
            members.push(Member { text: row.policy.clone(), row, best: false, preset: true });
            ControlFlow::Continue(())
        },
    );
    members
}

/// Marks what nothing beats, and leaves the rest of the family out; by recovery time.
fn best(mut members: Vec<Member>) -> Vec<Member> {
    let of_family = |member: &&Member| !member.preset;
    let aims_of: Vec<(f64, f64)> = members.iter().filter(of_family).map(|member| aims(&member.row)).collect();
    let mut marks = non_dominated(&aims_of).into_iter();
    for member in members.iter_mut().filter(|member| !member.preset) {
        member.best = marks.next().unwrap_or(false);
    }
    members.retain(|member| member.preset || member.best);
    members.sort_by(|a, b| aims(&a.row).0.total_cmp(&aims(&b.row).0));
    members.dedup_by(|a, b| a.text == b.text);
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_arguments_are_found() {
        let family = Family::parse("exp(base=?,cap=5s..10m,jitter=full)").expect("a family").expect("free");
        assert_eq!(family.free, [Free::Span(100, 10_000), Free::Span(5_000, 600_000)]);
        assert_eq!(family.at(&[0.0, 1.0]), "exp(base=100ms,cap=10m,jitter=full)");
        assert_eq!(Family::parse("exp(base=1s,cap=60s)"), Ok(None));
        assert!(Family::parse("exp(base=1s,caps=?)").is_err());
        assert!(Family::parse("exp(base=9s..1s)").expect_err("no range").contains("ends before"));
    }

    #[test]
    fn every_point_in_the_middle_makes_a_policy() {
        let family =
            Family::parse("exp(base=?,cap=?,jitter=?,factor=?)+limit(retries=?)").expect("a family").expect("free");
        for n in 1..50 {
            let point: Vec<f64> = (0..5).map(|dimension| radical_inverse(n, PRIMES[dimension])).collect();
            let text = family.at(&point);
            let cap_below = text.contains("cap=") && squall_protocol::retry::named(&text).is_err();
            assert!(!cap_below || text.contains("base="), "{text}");
        }
    }
}
