//! `squall explore`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueEnum;
use squall_sim::case::Case;
use squall_sim::explore::{Campaign, Run, Shard, Summary, explore};
use squall_sim::regressions::{self, Past};
use squall_sim::report::json::{RunLine, SummaryLine};
use squall_sim::scenario::Scenario;
use squall_sim::shrink::{Budget, shrink};
use squall_sim::stopwatch::Stopwatch;
use squall_sim::verdict::{Finding, Severity};
use squall_sim::{determinism, trial};

use super::judgement::Asked;
use super::progress::{Progress, Spinner};
use super::refusal::Refusal;
use super::runs::Runs;
use super::{
    HARDENED, Surroundings, UPSTREAM, cores, elsewhere, github, junit, named, replay_command, tables, values, variant,
};

/// Enough to see what a scenario is about, within seconds.
const SEEDS_DEFAULT: NonZeroU64 = NonZeroU64::new(100).expect("not zero");
/// Every so many seeds one is run twice and compared.
const CHECK_EVERY: Option<NonZeroU64> = NonZeroU64::new(50);
/// The tour of all scenarios: so much time for each, of which upstream takes so much at most, and so many seeds of the
/// repaired design at most.
const TOUR_SLOT: Duration = Duration::from_secs(18);
const TOUR_UPSTREAM: Duration = Duration::from_secs(8);
const TOUR_HARDENED_SEEDS: NonZeroU64 = NonZeroU64::new(1_000).expect("not zero");
/// Whatever upstream and shrinking took, the repaired design is run for so long.
const TOUR_HARDENED_LEAST: Duration = Duration::from_secs(6);
/// How much is tried to make the failure smaller that a scenario is shown with.
const FEATURED_BUDGET: Budget = Budget { attempts: 300, time: Duration::from_secs(5) };

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The scenarios; all of them if none is named.
    scenario: Vec<String>,
    /// Run this variant alone, upstream, hardened or a bug; the exit code then tells its worst verdict. Without, upstream
    /// and hardened are run, and the exit code is 0 when every upstream variant was caught and every hardened one is
    /// clean.
    #[arg(long)]
    variant: Option<String>,
    /// How many seeds of each variant, over all shards [default: 100, or any number with --time; with no scenario as
    /// many of both as go into a minute or two].
    #[arg(long, value_name = "N", value_parser = values::seeds, allow_negative_numbers = true)]
    seeds: Option<NonZeroU64>,
    /// The first seed.
    #[arg(long, value_name = "S", value_parser = values::seed, default_value = "0", allow_negative_numbers = true)]
    start: u64,
    /// How long in all, such as 30s, 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = values::time, allow_negative_numbers = true)]
    time: Option<Duration>,
    /// How many threads [default: one for each core].
    #[arg(long, value_name = "J", value_parser = values::jobs, allow_negative_numbers = true)]
    jobs: Option<NonZeroUsize>,
    /// Run part I of N of the seeds, for campaigns on several machines.
    #[arg(long, value_name = "I/N", value_parser = values::shard, default_value = "1/1", allow_negative_numbers = true)]
    shard: Shard,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A folder for runs.jsonl and, for each failure, the case and the story of the first seed that shows it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables.
    Text,
    /// One object a line: each run, then a summary.
    Json,
    /// Tables, and annotations of GitHub's workflows.
    Github,
    /// A JUnit report, a suite for each campaign.
    Junit,
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let plan = Plan::of(arguments, scenarios)?;
    for Past { file, case } in plan.past.iter().filter(|past| named(&past.case.scenario, scenarios).is_err()) {
        writeln!(
            around.err,
            "squall: {file} is left to the test {:?}: no scenario here is called that",
            case.scenario
        )?;
    }
    let runs = arguments.out.as_deref().map(Runs::create).transpose()?;
    let mut told = Told { format: arguments.format, asked: plan.asked, runs, stop: (around.interrupted)() };
    let watch = Stopwatch::start();
    let (mut summaries, mut featured): (Vec<Summary>, _) = (Vec::new(), BTreeMap::new());
    let mut slot = Stopwatch::start();
    for (n, (scenario, variant)) in plan.campaigns.iter().enumerate() {
        if variant != HARDENED {
            slot = Stopwatch::start();
        }
        let campaign = plan.campaign(n, plan.time(n, watch, slot));
        let summary = told.campaign(*scenario, &campaign, around)?;
        if plan.asked == Asked::Both && variant == UPSTREAM {
            featured.extend(told.shrunk(*scenario, &summary).map(|it| (summary.scenario.clone(), it)));
        }
        summaries.push(summary);
        if summaries.iter().any(|summary| summary.interrupted) {
            break;
        }
    }
    told.end(&plan, &summaries, &featured, around)?;
    Ok(plan.asked.exit_code(plan.campaigns.len(), &summaries))
}

/// What is to be run.
struct Plan<'a> {
    arguments: &'a Arguments,
    campaigns: Vec<(&'static dyn Scenario, String)>,
    seeds: Option<NonZeroU64>,
    jobs: NonZeroUsize,
    asked: Asked,
    /// Nothing in particular was asked for: all scenarios, within the time that a new user has.
    is_tour: bool,
    past: Vec<Past>,
}

impl<'a> Plan<'a> {
    fn of(arguments: &'a Arguments, scenarios: &[&'static dyn Scenario]) -> Result<Self, Refusal> {
        let chosen = match arguments.scenario.as_slice() {
            [] => scenarios.to_vec(),
            names => names.iter().map(|name| named(name, scenarios)).collect::<Result<_, _>>()?,
        };
        let variants = match &arguments.variant {
            Some(name) => vec![variant(name, &chosen)?],
            None => vec![UPSTREAM, HARDENED],
        };
        let campaigns = chosen.iter().flat_map(|scenario| variants.iter().map(|name| (*scenario, (*name).to_owned())));
        let seeds = arguments.seeds.or(arguments.time.is_none().then_some(SEEDS_DEFAULT));
        if let Some(seeds) = seeds
            && arguments.start.checked_add(seeds.get() - 1).is_none()
        {
            return Err(Refusal::BeyondLastSeed { start: arguments.start, seeds: seeds.get() });
        }
        let past = regressions::load(Path::new(regressions::FOLDER))?;
        let asked = if arguments.variant.is_some() { Asked::OneVariant } else { Asked::Both };
        Ok(Self {
            arguments,
            campaigns: campaigns.collect(),
            seeds,
            jobs: arguments.jobs.unwrap_or_else(cores),
            asked,
            is_tour: asked == Asked::Both
                && arguments.scenario.is_empty()
                && arguments.seeds.is_none()
                && arguments.time.is_none(),
            past,
        })
    }

    /// How long a campaign may take: an equal part of what is left.
    fn time(&self, campaign: usize, all: Stopwatch, slot: Stopwatch) -> Option<Duration> {
        if self.is_tour {
            return Some(match self.campaigns[campaign].1 == HARDENED {
                true => TOUR_SLOT.saturating_sub(slot.elapsed()).max(TOUR_HARDENED_LEAST),
                false => TOUR_UPSTREAM,
            });
        }
        let campaigns_left = (self.campaigns.len() - campaign) as u32;
        self.arguments.time.map(|time| time.saturating_sub(all.elapsed()) / campaigns_left)
    }

    fn campaign(&self, campaign: usize, time: Option<Duration>) -> Campaign {
        let (scenario, variant) = &self.campaigns[campaign];
        let Shard { index, .. } = self.arguments.shard;
        let is_past = |past: &&Past| index == 1 && past.case.scenario == scenario.name();
        Campaign {
            variant: variant.clone(),
            start: self.arguments.start,
            seeds: if self.is_tour && variant == HARDENED { Some(TOUR_HARDENED_SEEDS) } else { self.seeds },
            time,
            jobs: self.jobs,
            shard: self.arguments.shard,
            check_every: CHECK_EVERY,
            past: self.past.iter().filter(is_past).cloned().collect(),
        }
    }
}

/// The failure that an upstream variant is shown with, and how small its case became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Featured {
    pub(super) invariant: String,
    pub(super) seed: u64,
    pub(super) faults_before: usize,
    pub(super) faults_after: usize,
}

/// What is printed and written while campaigns run.
struct Told {
    format: Format,
    asked: Asked,
    runs: Option<Runs>,
    stop: &'static AtomicBool,
}

impl Told {
    fn campaign(
        &mut self,
        scenario: &dyn Scenario,
        campaign: &Campaign,
        around: &mut Surroundings<'_>,
    ) -> Result<Summary, Refusal> {
        let title = format!("{} {}", scenario.name(), campaign.variant);
        let progress = Progress::new(&title, campaign.seeds_in_shard());
        let (mut failed, mut trouble) = (0, Ok(()));
        let mut seen = BTreeSet::new();
        let mut first = None;
        let mut summary = explore(scenario, campaign, self.stop, &mut |run| {
            failed += u64::from(run.outcome.verdict.severity() != Severity::Pass);
            progress.advance(failed);
            if run.file.is_none() && run.outcome.verdict.severity() < Severity::Panic {
                first.get_or_insert_with(|| (run.outcome.seed, run.outcome.digest.clone()));
            }
            let is_new = run.outcome.verdict.worst().is_some_and(|worst| seen.insert(worst.fingerprint()));
            // Upstream is known to fail: one failure is enough to see how.
            let is_news =
                is_new && (self.asked == Asked::OneVariant || campaign.variant != UPSTREAM || seen.len() == 1);
            trouble = self.run(run, is_news, &progress, around);
            if trouble.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        drop(progress);
        trouble?;
        if let Some((seed, digest)) = first {
            self.elsewhere(scenario, &mut summary, seed, &digest, around)?;
        }
        if let Some(runs) = &self.runs {
            let spinner = Spinner::new(&title);
            spinner.tell(|| format!("shrinking {} failures", summary.coverage.fingerprints.len()));
            runs.failures(scenario, &summary, campaign.jobs, self.stop)?;
        }
        Ok(summary)
    }

    fn run(
        &mut self,
        run: &Run,
        is_news: bool,
        progress: &Progress,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Refusal> {
        let line = serde_json::to_string(&RunLine::of_run(run)).expect("a run is plain data");
        if let Some(runs) = &mut self.runs {
            runs.line(&line)?;
        }
        match self.format {
            Format::Json => progress.aside(|| writeln!(around.out, "{line}"))?,
            Format::Text | Format::Github if is_news => progress.aside(|| write!(around.out, "{}", failure(run)))?,
            Format::Text | Format::Github | Format::Junit => {}
        }
        Ok(())
    }

    /// Runs a seed in a process of its own; if it came out differently there, that is its verdict.
    fn elsewhere(
        &self,
        scenario: &dyn Scenario,
        summary: &mut Summary,
        seed: u64,
        digest: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Refusal> {
        let Some(program) = &around.program else { return Ok(()) };
        let Ok(case) = trial::generate(scenario, &summary.variant, seed) else { return Ok(()) };
        let fresh = |case: &Case, keep| elsewhere::fresh(program, case, keep);
        let Some(difference) = determinism::check_elsewhere(scenario, &case, digest, &fresh)? else { return Ok(()) };
        let finding = difference.finding();
        summary.add_finding(seed, &finding);
        if self.format == Format::Text {
            let command = replay_command(scenario.name(), seed, &summary.variant);
            write!(around.out, "{}", told_finding(&command, &finding))?;
        }
        Ok(())
    }

    /// Makes the first failure of an upstream variant smaller.
    fn shrunk(&self, scenario: &dyn Scenario, summary: &Summary) -> Option<Featured> {
        let (_, found) = tables::first(summary)?;
        let case = trial::generate(scenario, &summary.variant, found.first_seed).ok()?;
        let spinner = Spinner::new(&format!("{} {}", summary.scenario, summary.variant));
        let shrunk = shrink(scenario, &case, FEATURED_BUDGET, self.stop, &mut |shrinking| {
            spinner.tell(|| format!("shrinking, {} faults after {} attempts", shrinking.faults, shrinking.attempts));
            ControlFlow::Continue(())
        });
        let shrunk = shrunk.ok()??;
        Some(Featured {
            invariant: shrunk.finding.invariant,
            seed: found.first_seed,
            faults_before: case.plan.faults.len(),
            faults_after: shrunk.case.plan.faults.len(),
        })
    }

    fn end(
        self,
        plan: &Plan<'_>,
        summaries: &[Summary],
        featured: &BTreeMap<String, Featured>,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Refusal> {
        if let Some(mut runs) = self.runs {
            runs.line(&summary_line(summaries, plan.arguments.shard))?;
            runs.finish()?;
        }
        match self.format {
            Format::Text if plan.is_tour => {
                write!(around.out, "\n{}{}", tables::tour(summaries, featured), tables::gaps(summaries))?;
            }
            format => {
                write!(around.out, "{}", told(format, self.asked, summaries, plan.arguments.shard, featured))?;
            }
        }
        if summaries.iter().any(|summary| summary.interrupted) {
            writeln!(around.err, "squall: interrupted; these are the seeds that were done")?;
        }
        Ok(())
    }
}

/// What some campaigns came to.
pub(super) fn told(
    format: Format,
    asked: Asked,
    summaries: &[Summary],
    shard: Shard,
    featured: &BTreeMap<String, Featured>,
) -> String {
    let tables = || {
        let judged = match asked {
            Asked::OneVariant => String::new(),
            Asked::Both => tables::tour(summaries, featured),
        };
        let campaigns = [tables::failures(summaries), tables::families(summaries), tables::campaigns(summaries)];
        campaigns.concat() + &judged
    };
    match format {
        Format::Text => tables() + &tables::gaps(summaries),
        Format::Json => summary_line(summaries, shard) + "\n",
        Format::Github => tables() + &github::annotations(asked, summaries),
        Format::Junit => junit::report(asked, summaries) + "\n",
    }
}

fn summary_line(summaries: &[Summary], shard: Shard) -> String {
    serde_json::to_string(&SummaryLine::of(summaries, shard)).expect("a summary is plain data")
}

/// A failure, its replay command first.
fn failure(run: &Run) -> String {
    let outcome = &run.outcome;
    let Some(worst) = outcome.verdict.worst() else { return String::new() };
    let command = match &run.file {
        Some(file) => format!("squall replay {file} --variant {}", outcome.variant),
        None => replay_command(&outcome.scenario, outcome.seed, &outcome.variant),
    };
    told_finding(&command, worst)
}

fn told_finding(command: &str, finding: &Finding) -> String {
    let Finding { severity, invariant, at, message, .. } = finding;
    format!("{command}\n  {severity}: {invariant} at {at}: {message}\n")
}
