//! `squall explore`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueEnum;
use squall_sim::coverage::Found;
use squall_sim::explore::{Campaign, Run, Shard, Summary, explore};
use squall_sim::report::json::{RunLine, SummaryLine};
use squall_sim::report::{self, Report};
use squall_sim::scenario::Scenario;
use squall_sim::stopwatch::Stopwatch;
use squall_sim::trace::Keep;
use squall_sim::verdict::Severity;
use squall_sim::{case_file, trial};

use super::output::{self, Output};
use super::progress::Progress;
use super::refusal::Refusal;
use super::{HARDENED, Surroundings, UPSTREAM, cores, exit_code, named, replay_command, tables, values, variant};

/// Enough to see what a scenario is about, within seconds.
const SEEDS_DEFAULT: NonZeroU64 = NonZeroU64::new(100).expect("not zero");
/// Every so many seeds one is run twice and compared.
const CHECK_EVERY: Option<NonZeroU64> = NonZeroU64::new(50);
/// The file in the output folder with a line for every run.
const RUNS_FILE: &str = "runs.jsonl";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The scenarios; all of them if none is named.
    scenario: Vec<String>,
    /// Run this variant alone, upstream, hardened or a bug; the exit code then tells its worst verdict. Without, upstream
    /// and hardened are run, and the exit code is 0 when every upstream variant was caught and every hardened one is
    /// clean.
    #[arg(long)]
    variant: Option<String>,
    /// How many seeds of each variant, over all shards [default: 100, or any number with --time].
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
enum Format {
    Text,
    Json,
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let plan = Plan::of(arguments, scenarios)?;
    let mut told = Told { format: arguments.format, runs: arguments.out.as_deref().map(Runs::create).transpose()? };
    let stop = (around.interrupted)();
    let watch = Stopwatch::start();
    let mut summaries: Vec<Summary> = Vec::new();
    let count = plan.campaigns.len();
    for (n, (scenario, variant)) in plan.campaigns.iter().enumerate() {
        let left = arguments.time.map(|time| time.saturating_sub(watch.elapsed()) / (count - n) as u32);
        let campaign = plan.campaign(variant, left, arguments);
        summaries.push(told.campaign(*scenario, &campaign, stop, around)?);
        if summaries.iter().any(|summary| summary.interrupted) {
            break;
        }
    }
    told.end(&plan, &summaries, around)?;
    Ok(plan.exit_code(&summaries))
}

/// What is to be run.
struct Plan {
    campaigns: Vec<(&'static dyn Scenario, String)>,
    seeds: Option<NonZeroU64>,
    jobs: NonZeroUsize,
    /// One variant was asked for: the exit code tells its worst verdict.
    one_variant: bool,
}

impl Plan {
    fn of(arguments: &Arguments, scenarios: &[&'static dyn Scenario]) -> Result<Self, Refusal> {
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
        Ok(Self {
            campaigns: campaigns.collect(),
            seeds,
            jobs: arguments.jobs.unwrap_or_else(cores),
            one_variant: arguments.variant.is_some(),
        })
    }

    fn campaign(&self, variant: &str, time: Option<Duration>, arguments: &Arguments) -> Campaign {
        Campaign {
            variant: variant.to_owned(),
            start: arguments.start,
            seeds: self.seeds,
            time,
            jobs: self.jobs,
            shard: arguments.shard,
            check_every: CHECK_EVERY,
        }
    }

    /// Upstream variants are there to fail, by what an invariant says and not by a panic.
    fn exit_code(&self, summaries: &[Summary]) -> u8 {
        let worst = summaries.iter().filter(|summary| self.is_judged_by_verdict(summary)).map(|summary| summary.worst);
        match worst.max().unwrap_or(Severity::Pass) {
            Severity::Pass if self.as_expected(summaries) => 0,
            // An upstream variant was not caught, or never run.
            Severity::Pass => 1,
            worst => exit_code(worst),
        }
    }

    fn is_judged_by_verdict(&self, summary: &Summary) -> bool {
        self.one_variant || !is_upstream(summary) || summary.worst > Severity::Stuck
    }

    fn as_expected(&self, summaries: &[Summary]) -> bool {
        self.one_variant || (summaries.len() == self.campaigns.len() && summaries.iter().all(is_as_expected))
    }
}

fn is_upstream(summary: &Summary) -> bool {
    summary.variant == UPSTREAM
}

fn is_as_expected(summary: &Summary) -> bool {
    match summary.worst {
        Severity::Pass => !is_upstream(summary),
        Severity::Violation | Severity::Stuck => is_upstream(summary),
        Severity::Panic | Severity::Nondeterminism => false,
    }
}

fn judged(summary: &Summary) -> String {
    match (is_upstream(summary), is_as_expected(summary)) {
        (true, true) => "caught",
        (true, false) => "NOT CAUGHT",
        (false, true) => "clean",
        (false, false) => "NOT CLEAN",
    }
    .to_owned()
}

/// What is printed and written while campaigns run.
struct Told {
    format: Format,
    runs: Option<Runs>,
}

impl Told {
    fn campaign(
        &mut self,
        scenario: &dyn Scenario,
        campaign: &Campaign,
        stop: &AtomicBool,
        around: &mut Surroundings<'_>,
    ) -> Result<Summary, Refusal> {
        let title = format!("{} {}", scenario.name(), campaign.variant);
        let progress = Progress::new(&title, campaign.seeds_in_shard());
        let (mut failed, mut trouble) = (0, Ok(()));
        let mut seen = std::collections::BTreeSet::new();
        let summary = explore(scenario, campaign, stop, &mut |run| {
            failed += u64::from(run.outcome.verdict.severity() != Severity::Pass);
            progress.advance(failed);
            let is_new = run.outcome.verdict.worst().is_some_and(|worst| seen.insert(worst.fingerprint()));
            trouble = self.run(run, is_new, &progress, around);
            if trouble.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        drop(progress);
        trouble?;
        if let Some(runs) = &self.runs {
            summary.coverage.fingerprints.iter().try_for_each(|(_, found)| runs.tell(scenario, campaign, found))?;
        }
        Ok(summary)
    }

    fn run(
        &mut self,
        run: &Run,
        is_new: bool,
        progress: &Progress,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Refusal> {
        let line = serde_json::to_string(&RunLine::of(&run.outcome, run.wall)).expect("a run is plain data");
        if let Some(runs) = &mut self.runs {
            runs.file.write_all(&format!("{line}\n"))?;
        }
        match self.format {
            Format::Json => progress.aside(|| writeln!(around.out, "{line}"))?,
            Format::Text if is_new => progress.aside(|| write!(around.out, "{}", failure(run)))?,
            Format::Text => {}
        }
        Ok(())
    }

    fn end(self, plan: &Plan, summaries: &[Summary], around: &mut Surroundings<'_>) -> Result<(), Refusal> {
        let line = serde_json::to_string(&SummaryLine::of(summaries)).expect("a summary is plain data");
        if let Some(mut runs) = self.runs {
            runs.file.write_all(&format!("{line}\n"))?;
            runs.file.finish()?;
        }
        match self.format {
            Format::Json => writeln!(around.out, "{line}")?,
            Format::Text => {
                let judged: Vec<String> =
                    summaries.iter().map(|it| if plan.one_variant { String::new() } else { judged(it) }).collect();
                let tables = [
                    tables::failures(summaries),
                    tables::families(summaries),
                    tables::campaigns(summaries, &judged),
                    tables::gaps(summaries),
                ];
                tables.iter().try_for_each(|table| write!(around.out, "{table}"))?;
            }
        }
        if summaries.iter().any(|summary| summary.interrupted) {
            writeln!(around.err, "squall: interrupted; these are the seeds that were done")?;
        }
        Ok(())
    }
}

/// A failure, its replay command first.
fn failure(run: &Run) -> String {
    let outcome = &run.outcome;
    let Some(worst) = outcome.verdict.worst() else { return String::new() };
    let command = replay_command(&outcome.scenario, outcome.seed, &outcome.variant);
    format!("{command}\n  {}: {} at {}: {}\n", worst.severity, worst.invariant, worst.at, worst.message)
}

/// The output folder.
struct Runs {
    folder: PathBuf,
    file: Output,
}

impl Runs {
    fn create(folder: &Path) -> Result<Self, Refusal> {
        output::folder(folder)?;
        Ok(Self { folder: folder.to_owned(), file: Output::create(&folder.join(RUNS_FILE))? })
    }

    /// Writes the case and the story of a failure's first seed.
    fn tell(&self, scenario: &dyn Scenario, campaign: &Campaign, found: &Found) -> Result<(), Refusal> {
        let (variant, seed) = (&campaign.variant, found.first_seed);
        let Ok(case) = trial::generate(scenario, variant, seed) else { return Ok(()) };
        let name = format!("{}-{variant}-{seed}", scenario.name());
        self.write(&format!("{name}.json"), &case_file::to_text(&case))?;
        let trial = trial::run(scenario, &case, Keep::Events)?;
        let replay = replay_command(scenario.name(), seed, variant);
        self.write(
            &format!("{name}.txt"),
            &report::text(&Report { replay: &replay, scenario, case: &case, trial: &trial }),
        )
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Refusal> {
        let mut output = Output::create(&self.folder.join(name))?;
        output.write_all(text)?;
        output.finish()
    }
}
