//! Campaigns: many seeds of one scenario, on several threads, delivered in the order of the seeds.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::coverage::{Coverage, Found};
use crate::determinism;
use crate::regressions::Past;
use crate::scenario::Scenario;
use crate::side_by_side::{Ended, side_by_side};
use crate::stopwatch::Stopwatch;
use crate::trace::Keep;
use crate::trial::{self, Outcome};
use crate::verdict::{Finding, Severity};

/// A campaign: which seeds, how long, on how many threads.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The variant's name.
    pub variant: String,
    /// The first seed.
    pub start: u64,
    /// How many seeds, counted over all shards; without, until the time is over.
    pub seeds: Option<NonZeroU64>,
    /// How long, in real time; without, until all seeds are done.
    pub time: Option<Duration>,
    /// How many threads run seeds.
    pub jobs: NonZeroUsize,
    /// Which part of the seeds.
    pub shard: Shard,
    /// Every how many seeds one is run twice and compared; without, none is.
    pub check_every: Option<NonZeroU64>,
    /// Cases of the past, which are run before the seeds.
    pub past: Vec<Past>,
}

impl Campaign {
    /// So many seeds from 0 on, on one thread, of which every fiftieth is run twice.
    pub fn of(variant: &str, seeds: NonZeroU64) -> Self {
        Self {
            variant: variant.to_owned(),
            start: 0,
            seeds: Some(seeds),
            time: None,
            jobs: NonZeroUsize::MIN,
            shard: Shard::default(),
            check_every: NonZeroU64::new(50),
            past: Vec::new(),
        }
    }

    /// How many seeds there are in this shard, if that is limited.
    pub fn seeds_in_shard(&self) -> Option<u64> {
        let (seeds, of) = (self.seeds?.get(), self.shard.of.get());
        Some(seeds / of + u64::from(self.to_first() < seeds % of))
    }

    /// The seeds of this shard, in order.
    fn seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let last = self.seeds.map_or(u64::MAX, |seeds| self.start.saturating_add(seeds.get() - 1));
        let (of, first) = (self.shard.of.get(), self.start.checked_add(self.to_first()));
        std::iter::successors(first, move |seed| seed.checked_add(of)).take_while(move |seed| *seed <= last)
    }

    /// How far the shard's first seed is from the campaign's.
    fn to_first(&self) -> u64 {
        let Shard { index, of } = self.shard;
        let (wanted, here) = (index - 1, self.start % of);
        if wanted >= here { wanted - here } else { of.get() - (here - wanted) }
    }
}

/// One of several parts of a campaign: part `index` of `of`, from 1, has the seeds whose remainder by `of` is `index - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub index: u64,
    /// How many there are.
    pub of: NonZeroU64,
}

impl Default for Shard {
    /// The whole.
    fn default() -> Self {
        Self { index: 1, of: NonZeroU64::MIN }
    }
}

/// A text that names no part of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a shard is I/N with I from 1 to N, such as 1/4 for the first of four")]
pub struct ShardError;

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (index, of) = text.split_once('/').ok_or(ShardError)?;
        let index: u64 = index.parse().map_err(|_| ShardError)?;
        let of: NonZeroU64 = of.parse().map_err(|_| ShardError)?;
        if index == 0 || index > of.get() {
            return Err(ShardError);
        }
        Ok(Self { index, of })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}", self.index, self.of)
    }
}

/// One seed of a campaign, or one case of the past.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it came to.
    pub outcome: Outcome,
    /// The file of a case of the past.
    pub file: Option<String>,
    /// The real time it cost.
    pub wall: Duration,
}

/// What a campaign came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name.
    pub variant: String,
    /// How many seeds were run.
    pub seeds: u64,
    /// How many cases of the past were run before.
    pub cases: u64,
    /// How many did not pass.
    pub failed: u64,
    /// The worst verdict.
    pub worst: Severity,
    /// The real time it took.
    pub wall: Duration,
    /// What it tried.
    pub coverage: Coverage,
    /// Was it ended before its seeds or its time were over?
    pub interrupted: bool,
}

impl Summary {
    /// Adds another part of the same campaign, which ran at the same time.
    pub fn merge(&mut self, other: &Summary) {
        self.seeds += other.seeds;
        self.cases += other.cases;
        self.failed += other.failed;
        self.worst = self.worst.max(other.worst);
        self.wall = self.wall.max(other.wall);
        self.coverage.merge(&other.coverage);
        self.interrupted |= other.interrupted;
    }

    /// Adds what was found out about a seed after it was run.
    pub fn add_finding(&mut self, seed: u64, finding: &Finding) {
        self.worst = self.worst.max(finding.severity);
        self.failed += 1;
        let (verdict, message) = (finding.severity, finding.message.clone());
        let found = Found { verdict, trials: 1, first_seed: seed, file: None, message };
        self.coverage.found(finding.fingerprint(), found);
    }

    /// Seeds a second of real time.
    pub fn seeds_per_s(&self) -> f64 {
        self.seeds as f64 / self.wall.as_secs_f64().max(1e-9)
    }
}

/// Runs a campaign. Each run is handed to `sink` in the order of the seeds, whatever the threads do; what comes out of a
/// seed depends on neither thread nor order. It ends early, with what it has, when `stop` becomes true or `sink` breaks.
///
/// # Panics
/// When the operating system gives no thread.
pub fn explore(
    scenario: &dyn Scenario,
    campaign: &Campaign,
    stop: &AtomicBool,
    sink: &mut dyn FnMut(&Run) -> ControlFlow<()>,
) -> Summary {
    let mut summary = Summary {
        scenario: scenario.name().to_owned(),
        variant: campaign.variant.clone(),
        seeds: 0,
        cases: 0,
        failed: 0,
        worst: Severity::Pass,
        wall: Duration::ZERO,
        coverage: Coverage::default(),
        interrupted: false,
    };
    let watch = Stopwatch::start();
    let is_over = || stop.load(Ordering::Relaxed) || campaign.time.is_some_and(|time| watch.elapsed() >= time);
    let past = campaign.past.iter().map(Piece::Past);
    let ended = side_by_side(
        campaign.jobs,
        past.chain(campaign.seeds().map(Piece::Seed)).take_while(|_| !is_over()),
        |piece| run(scenario, campaign, piece),
        |run| {
            let run = match run {
                Ok(run) => run,
                Err((file, why)) => {
                    summary.coverage.lost_cases.insert(file, why);
                    return ControlFlow::Continue(());
                }
            };
            *(if run.file.is_some() { &mut summary.cases } else { &mut summary.seeds }) += 1;
            summary.failed += u64::from(run.outcome.verdict.severity() != Severity::Pass);
            summary.worst = summary.worst.max(run.outcome.verdict.severity());
            summary.coverage.add(&run);
            sink(&run)
        },
    );
    summary.wall = watch.elapsed();
    summary.interrupted = stop.load(Ordering::Relaxed) || ended == Ended::Broken;
    summary
}

/// What is run.
enum Piece<'a> {
    Past(&'a Past),
    Seed(u64),
}

/// One piece. A case of the past that cannot be run is told by its file, and why.
fn run(scenario: &dyn Scenario, campaign: &Campaign, piece: Piece<'_>) -> Result<Run, (String, String)> {
    let watch = Stopwatch::start();
    match piece {
        Piece::Past(Past { file, case }) => {
            let outcome = match trial::as_variant(scenario, case, &campaign.variant) {
                Ok(case) => match trial::run(scenario, &case, Keep::Digest) {
                    Ok(trial) => trial.outcome,
                    Err(misfit) => return Err((file.clone(), misfit.to_string())),
                },
                Err(broken) => *broken,
            };
            Ok(Run { outcome, file: Some(file.clone()), wall: watch.elapsed() })
        }
        Piece::Seed(seed) => {
            let mut outcome = trial::run_seed(scenario, &campaign.variant, seed);
            let wall = watch.elapsed();
            if campaign.check_every.is_some_and(|every| seed.is_multiple_of(every.get())) {
                check(scenario, &mut outcome);
            }
            Ok(Run { outcome, file: None, wall })
        }
    }
}

/// Runs a seed again; if it came out differently, that is its verdict.
fn check(scenario: &dyn Scenario, outcome: &mut Outcome) {
    if outcome.verdict.severity() == Severity::Panic {
        return;
    }
    let case = scenario.generate(outcome.seed, &outcome.variant);
    if let Ok(Some(difference)) = determinism::check_again(scenario, &case, &outcome.digest, None) {
        outcome.verdict.add(difference.finding());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds_of(start: u64, seeds: u64, shard: &str) -> Vec<u64> {
        let shard = shard.parse().expect("a shard");
        let campaign = Campaign { start, shard, ..Campaign::of("upstream", NonZeroU64::new(seeds).expect("some")) };
        let all: Vec<u64> = campaign.seeds().collect();
        if start.checked_add(seeds).is_some() {
            assert_eq!(campaign.seeds_in_shard(), Some(all.len() as u64));
        }
        all
    }

    #[test]
    fn shards_share_the_seeds_out() {
        assert_eq!(seeds_of(0, 5, "1/1"), [0, 1, 2, 3, 4]);
        assert_eq!(seeds_of(5, 7, "1/3"), [6, 9]);
        assert_eq!(seeds_of(5, 7, "2/3"), [7, 10]);
        assert_eq!(seeds_of(5, 7, "3/3"), [5, 8, 11]);
        assert!(seeds_of(1, 1, "1/2").is_empty());
        assert_eq!(seeds_of(u64::MAX - 1, 9, "1/1"), [u64::MAX - 1, u64::MAX]);
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["3/2", "0/2", "0", "1", "1/0", "/", "a/b", "-1/2", "1/2/3", ""] {
            assert_eq!(text.parse::<Shard>(), Err(ShardError), "{text:?}");
        }
        assert_eq!("2/3".parse::<Shard>().expect("a shard").to_string(), "2/3");
    }
}
