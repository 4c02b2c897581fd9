//! `squall bugs`.

use std::collections::BTreeMap;
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use squall_sim::case_file;
use squall_sim::hunt::{Hunt, Hunted, Progress, hunt};
use squall_sim::scenario::{Bug, Scenario};
use squall_sim::shrink::Budget;
use squall_sim::side_by_side::side_by_side;
use squall_sim::stopwatch::Stopwatch;

use super::output::{self, Output};
use super::progress::Bars;
use super::refusal::Refusal;
use super::{Surroundings, cores, values};

/// Enough for nine bugs in ten to be found four times over.
const SEEDS_DEFAULT: NonZeroU64 = NonZeroU64::new(2_000).expect("not zero");
/// A bug's case is worth half a minute.
const BUDGET: Budget = Budget { attempts: 1_500, time: Duration::from_secs(25) };
/// The file in the output folder that says what each case shows.
const INDEX_FILE: &str = "index.json";
/// The exit code when some bug was not found.
const NOT_ALL_FOUND: u8 = 1;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The bugs; all of them if none is named.
    bug: Vec<String>,
    /// How many seeds are run for each at most.
    #[arg(long, value_name = "N", value_parser = values::seeds, default_value_t = SEEDS_DEFAULT, allow_negative_numbers = true)]
    seeds: NonZeroU64,
    /// The first seed.
    #[arg(long, value_name = "S", value_parser = values::seed, default_value = "0", allow_negative_numbers = true)]
    start: u64,
    /// How many threads [default: one for each core].
    #[arg(long, value_name = "J", value_parser = values::jobs, allow_negative_numbers = true)]
    jobs: Option<NonZeroUsize>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A folder for the shrunk case of each bug that is found, BUG.json, which `squall replay` takes, and index.json, which
    /// says what each of them shows, and for how many seeds each other bug was looked for.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let bugs = chosen(&arguments.bug, scenarios)?;
    if arguments.start.checked_add(arguments.seeds.get() - 1).is_none() {
        return Err(Refusal::BeyondLastSeed { start: arguments.start, seeds: arguments.seeds.get() });
    }
    arguments.out.as_deref().map(output::folder).transpose()?;
    let stop = (around.interrupted)();
    let watch = Stopwatch::start();
    let mut told =
        Told { arguments, width: bugs.iter().map(|(_, bug)| bug.name.len()).max().unwrap_or(0), done: Vec::new() };
    let mut trouble = Ok(());
    let bars = Bars::new("bugs", bugs.len());
    let count = bugs.len();
    let all = Hunts::share(arguments, count);
    side_by_side(
        all.at_once,
        bugs.into_iter().take_while(|_| !stop.load(Ordering::Relaxed)),
        |(scenario, bug)| all.one(scenario, bug, stop, &bars),
        |line| {
            if !line.interrupted {
                bars.advance(line.found);
                trouble = bars.aside(|| told.bug(line, around));
            }
            if trouble.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        },
    );
    drop(bars);
    trouble?;
    told.end(count, watch.elapsed(), around)
}

/// The bugs of these names with their scenarios, in the order of the list.
fn chosen(names: &[String], scenarios: &[&'static dyn Scenario]) -> Result<Vec<(&'static dyn Scenario, Bug)>, Refusal> {
    let all = scenarios.iter().flat_map(|scenario| scenario.bugs().into_iter().map(|bug| (*scenario, bug)));
    let all: Vec<_> = all.collect();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|(_, bug)| bug.name == **name)) {
        return Err(Refusal::NoSuchBug(unknown.clone()));
    }
    Ok(all.into_iter().filter(|(_, bug)| names.is_empty() || names.contains(&bug.name)).collect())
}

/// How the threads are shared out: over the bugs, and over the seeds of one where there are fewer bugs than threads.
struct Hunts {
    at_once: NonZeroUsize,
    each: Hunt,
}

impl Hunts {
    fn share(arguments: &Arguments, bugs: usize) -> Self {
        let jobs = arguments.jobs.unwrap_or_else(cores);
        let at_once = jobs.min(NonZeroUsize::new(bugs).unwrap_or(NonZeroUsize::MIN));
        let jobs_each = NonZeroUsize::new(jobs.get() / at_once.get()).unwrap_or(NonZeroUsize::MIN);
        let each = Hunt { start: arguments.start, seeds: arguments.seeds, jobs: jobs_each, budget: BUDGET };
        Self { at_once, each }
    }

    fn one(&self, scenario: &dyn Scenario, bug: Bug, stop: &AtomicBool, bars: &Bars) -> Line {
        let line = bars.line(&bug.name);
        let mut seeds = 0_u64;
        let hunted = hunt(scenario, &bug.name, &self.each, stop, &mut |progress| {
            seeds += u64::from(progress == Progress::Seed);
            line.tell(|| match progress {
                Progress::Seed => format!("{seeds} of {} seeds", self.each.seeds),
                Progress::Shrinking(shrinking) => {
                    format!("found, shrinks: {} faults after {} attempts", shrinking.faults, shrinking.attempts)
                }
            });
            ControlFlow::Continue(())
        });
        Line::of(scenario, bug, hunted)
    }
}

/// What became of one bug.
#[derive(Debug, Serialize)]
struct Line {
    bug: String,
    scenario: &'static str,
    upstream: String,
    found: bool,
    /// How many seeds were run up to the one that shows it.
    seeds_to_find: Option<u64>,
    seed: Option<u64>,
    invariant: Option<String>,
    fingerprint: Option<String>,
    faults_before: Option<usize>,
    faults_after: Option<usize>,
    shrink_attempts: Option<u64>,
    /// How many seeds were run in all.
    seeds: u64,
    wall_ms: u64,
    #[serde(skip)]
    case: Option<String>,
    #[serde(skip)]
    interrupted: bool,
}

impl Line {
    fn of(scenario: &dyn Scenario, bug: Bug, hunted: Hunted) -> Self {
        let caught = hunted.caught.as_ref();
        let finding = caught.map(|caught| &caught.shrunk.finding);
        Self {
            bug: bug.name,
            scenario: scenario.name(),
            upstream: bug.upstream,
            found: caught.is_some(),
            seeds_to_find: caught.map(|_| hunted.seeds),
            seed: caught.map(|caught| caught.seed),
            invariant: finding.map(|finding| finding.invariant.clone()),
            fingerprint: finding.map(|finding| finding.fingerprint()),
            faults_before: caught.map(|caught| caught.faults),
            faults_after: caught.map(|caught| caught.shrunk.progress.faults),
            shrink_attempts: caught.map(|caught| caught.shrunk.progress.attempts),
            seeds: hunted.seeds,
            wall_ms: hunted.wall.as_millis() as u64,
            case: caught.map(|caught| case_file::to_text(&caught.shrunk.case)),
            interrupted: hunted.interrupted,
        }
    }

    fn indexed(&self) -> Indexed {
        let found = || {
            Some(Indexed::Found {
                fingerprint: self.fingerprint.clone()?,
                seed: self.seed?,
                faults_before: self.faults_before?,
                faults_after: self.faults_after?,
            })
        };
        found().unwrap_or(Indexed::NotFound { not_found_in_seeds: self.seeds })
    }

    fn text(&self, width: usize) -> String {
        let bug = &self.bug;
        match (&self.seed, &self.invariant, &self.faults_before, &self.faults_after) {
            (Some(seed), Some(invariant), Some(before), Some(after)) => {
                format!("{bug:<width$}  found by seed {seed:<5}  {before:>2} → {after} faults  {invariant}")
            }
            _ => format!("{bug:<width$}  NOT FOUND in {} seeds", self.seeds),
        }
    }
}

/// What is known of a bug, in the index of the output folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Indexed {
    /// What its case shows.
    Found { fingerprint: String, seed: u64, faults_before: usize, faults_after: usize },
    /// It has no case: so many seeds did not show it.
    NotFound { not_found_in_seeds: u64 },
}

/// The last line.
#[derive(Debug, Serialize)]
struct SummaryLine {
    summary: bool,
    bugs: usize,
    found: usize,
    not_found: Vec<String>,
    seeds_to_find_median: Option<u64>,
    faults_after_median: Option<u64>,
    invariants: BTreeMap<String, usize>,
    wall_ms: u64,
    interrupted: bool,
}

/// What is printed and written, bug by bug.
struct Told<'a> {
    arguments: &'a Arguments,
    width: usize,
    done: Vec<Line>,
}

impl Told<'_> {
    fn bug(&mut self, line: Line, around: &mut Surroundings<'_>) -> Result<(), Refusal> {
        if let (Some(folder), Some(case)) = (&self.arguments.out, &line.case) {
            let mut file = Output::create(&folder.join(format!("{}.json", line.bug)))?;
            file.write_all(case)?;
            file.finish()?;
        }
        match self.arguments.format {
            Format::Text => writeln!(around.out, "{}", line.text(self.width))?,
            Format::Json => {
                writeln!(around.out, "{}", serde_json::to_string(&line).expect("a line is plain data"))?;
            }
        }
        self.done.push(line);
        Ok(())
    }

    fn end(self, count: usize, wall: Duration, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
        let summary = self.summary(count, wall);
        if let Some(folder) = &self.arguments.out {
            self.index(folder, count)?;
        }
        match self.arguments.format {
            Format::Text => writeln!(around.out, "{}", summary.text(wall))?,
            Format::Json => {
                writeln!(around.out, "{}", serde_json::to_string(&summary).expect("a summary is plain data"))?;
            }
        }
        if summary.interrupted {
            writeln!(around.err, "squall: interrupted; these are the bugs that were done")?;
        }
        Ok(if summary.found == count { 0 } else { NOT_ALL_FOUND })
    }

    /// Writes what each case of the folder shows, and which bugs have none. What is known of others stays.
    fn index(&self, folder: &Path, count: usize) -> Result<(), Refusal> {
        let path = folder.join(INDEX_FILE);
        let is_whole = self.arguments.bug.is_empty() && self.done.len() == count;
        let before = fs::read_to_string(&path).ok().filter(|_| !is_whole);
        let before = before.and_then(|text| serde_json::from_str::<BTreeMap<String, Indexed>>(&text).ok());
        let mut index = before.unwrap_or_default();
        for line in &self.done {
            index.insert(line.bug.clone(), line.indexed());
        }
        let mut file = Output::create(&path)?;
        file.write_all(&(serde_json::to_string_pretty(&index).expect("an index is plain data") + "\n"))?;
        file.finish()
    }

    fn summary(&self, count: usize, wall: Duration) -> SummaryLine {
        let mut invariants = BTreeMap::new();
        for invariant in self.done.iter().filter_map(|line| line.invariant.clone()) {
            *invariants.entry(invariant).or_default() += 1;
        }
        SummaryLine {
            summary: true,
            bugs: count,
            found: self.done.iter().filter(|line| line.found).count(),
            not_found: self.done.iter().filter(|line| !line.found).map(|line| line.bug.clone()).collect(),
            seeds_to_find_median: median(self.done.iter().filter_map(|line| line.seeds_to_find).collect()),
            faults_after_median: median(
                self.done.iter().filter_map(|line| line.faults_after).map(|faults| faults as u64).collect(),
            ),
            invariants,
            wall_ms: wall.as_millis() as u64,
            interrupted: self.done.len() < count,
        }
    }
}

impl SummaryLine {
    fn text(&self, wall: Duration) -> String {
        let mut text = format!("{} of {} bugs found in {} s", self.found, self.bugs, wall.as_secs());
        if let (Some(seeds), Some(faults)) = (self.seeds_to_find_median, self.faults_after_median) {
            text += &format!("; median {seeds} seeds to find, {faults} faults after shrinking");
        }
        text
    }
}

/// The middle one; the lower of two.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}
