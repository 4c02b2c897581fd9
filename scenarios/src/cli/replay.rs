//! `squall replay`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use squall_sim::case::Case;
use squall_sim::report::json::RunLine;
use squall_sim::report::{self, Report};
use squall_sim::scenario::Scenario;
use squall_sim::shrink::{Budget, End, Shrunk, shrink};
use squall_sim::stopwatch::Stopwatch;
use squall_sim::trace::Keep;
use squall_sim::trial::Outcome;
use squall_sim::verdict::Severity;
use squall_sim::{case_file, case_token, determinism, trial};

use super::output::Output;
use super::progress::Spinner;
use super::refusal::Refusal;
use super::{Surroundings, UPSTREAM, exit_code, named, replay_command, variant};
use crate::lab::RetryLab;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A scenario's name, with a seed after it; or a case file; or the token of a case.
    #[arg(value_name = "SCENARIO|CASE.json|TOKEN")]
    target: String,
    /// The seed.
    #[arg(allow_negative_numbers = true)]
    seed: Option<String>,
    /// The variant: upstream, hardened or a bug [default: upstream].
    #[arg(long)]
    variant: Option<String>,
    /// Make a case that fails smaller first, and tell of the smallest that fails in the same way. Ctrl-C ends the search
    /// with the smallest so far.
    #[arg(long)]
    shrink: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A file to write to instead.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A story.
    Text,
    /// The run, then each event, one object a line.
    Json,
    /// The case alone, as a file that replay takes.
    Case,
    /// The case alone, as one word that replay takes.
    Token,
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let target = Target::of(arguments, scenarios)?;
    let output = arguments.out.as_deref().map(Output::create).transpose()?;
    let (severity, text) = match target.case() {
        Ok(target) if arguments.shrink => told(&target.shrunk(around)?, arguments.format)?,
        Ok(target) => told(&target, arguments.format)?,
        Err((replay, broken)) => told_broken(&broken, &replay, arguments.format),
    };
    match output {
        Some(mut output) => {
            output.write_all(&text)?;
            output.finish()?;
        }
        None => around.out.write_all(text.as_bytes())?,
    }
    Ok(exit_code(severity))
}

/// What is to be run again.
enum Target {
    Seed { scenario: &'static dyn Scenario, seed: u64, variant: String },
    Case(Again),
}

/// A case that is to be run again, and the command that does so.
struct Again {
    scenario: &'static dyn Scenario,
    case: Case,
    replay: String,
}

impl Target {
    fn of(arguments: &Arguments, scenarios: &[&'static dyn Scenario]) -> Result<Self, Refusal> {
        let scenario = named(&arguments.target, scenarios);
        match (&arguments.seed, scenario) {
            (Some(seed), scenario) => {
                let scenario = scenario?;
                let seed = seed.parse().map_err(|_| Refusal::NoSeed { text: seed.clone() })?;
                let variant = variant(arguments.variant.as_deref().unwrap_or(UPSTREAM), &[scenario])?.to_owned();
                Ok(Target::Seed { scenario, seed, variant })
            }
            (None, Ok(scenario)) => Err(Refusal::SeedMissing { scenario: scenario.name().to_owned() }),
            (None, Err(_)) => match &arguments.variant {
                Some(variant) => Err(Refusal::VariantOfCase { variant: variant.clone() }),
                None => {
                    let case = if arguments.target.starts_with(case_token::PREFIX) {
                        case_token::parse(&arguments.target).map_err(Refusal::CaseToken)?
                    } else {
                        file(Path::new(&arguments.target))?
                    };
                    let replay = format!("squall replay {}", arguments.target);
                    Ok(Target::Case(Again { scenario: of_case(&case, scenarios)?, case, replay }))
                }
            },
        }
    }

    /// The case, or what came of a seed over which the scenario panics, with the command that does so again.
    fn case(self) -> Result<Again, (String, Box<Outcome>)> {
        match self {
            Target::Case(again) => Ok(again),
            Target::Seed { scenario, seed, variant } => {
                let replay = replay_command(scenario.name(), seed, &variant);
                match trial::generate(scenario, &variant, seed) {
                    Ok(case) => Ok(Again { scenario, case, replay }),
                    Err(broken) => Err((replay, broken)),
                }
            }
        }
    }
}

/// Reads a case file.
pub(super) fn file(path: &Path) -> Result<Case, Refusal> {
    let path = path.to_owned();
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(why) => return Err(Refusal::Unreadable { path, why }),
    };
    case_file::parse(&text).map_err(|why| Refusal::CaseFile { path, why })
}

impl Again {
    /// The smallest case that fails in the same way; itself when it passes.
    fn shrunk(self, around: &mut Surroundings<'_>) -> Result<Self, Refusal> {
        let before = self.case.plan.faults.len();
        let progress = Spinner::new("shrinking");
        let stop = (around.interrupted)();
        let shrunk = shrink(self.scenario, &self.case, Budget::default(), stop, &mut |shrinking| {
            progress.tell(|| format!("{} faults after {} attempts", shrinking.faults, shrinking.attempts));
            ControlFlow::Continue(())
        })?;
        drop(progress);
        let Some(Shrunk { case, progress, end, .. }) = shrunk else {
            writeln!(around.err, "squall: it passes, so there is nothing to shrink")?;
            return Ok(self);
        };
        let (after, attempts) = (progress.faults, progress.attempts);
        let why = match end {
            End::Smallest => "nothing smaller fails in the same way",
            End::Budget => "then the time for it was over",
            End::Stopped => "then it was interrupted",
        };
        writeln!(around.err, "squall: shrunk from {before} faults to {after} in {attempts} attempts; {why}")?;
        Ok(Self { replay: format!("squall replay {}", case_token::to_token(&case)), case, ..self })
    }
}

fn told(again: &Again, format: Format) -> Result<(Severity, String), Refusal> {
    let Again { scenario, case, replay } = again;
    let watch = Stopwatch::start();
    let mut trial = trial::run(*scenario, case, Keep::Events)?;
    let wall = watch.elapsed();
    if trial.outcome.verdict.severity() != Severity::Panic
        && let Some(difference) = determinism::check_again(*scenario, case, &trial.outcome.digest)?
    {
        trial.outcome.verdict.add(difference.finding());
    }
    let report = Report { replay, scenario: *scenario, case, trial: &trial };
    let text = match format {
        Format::Text => report::text(&report),
        Format::Json => report::json::run(&report, wall),
        Format::Case => case_file::to_text(case),
        Format::Token => case_token::to_token(case) + "\n",
    };
    Ok((trial.outcome.verdict.severity(), text))
}

/// A seed over which the scenario itself panics has no story.
fn told_broken(outcome: &Outcome, replay: &str, format: Format) -> (Severity, String) {
    let text = match format {
        Format::Text => {
            let worst = outcome.verdict.worst().map_or("", |worst| &worst.message);
            format!("{replay}\n\nverdict: {}\n  what       {worst}\n", outcome.verdict.severity())
        }
        Format::Json => {
            let line = serde_json::to_string(&RunLine::of(outcome, Duration::ZERO));
            line.expect("a run is plain data") + "\n"
        }
        // There is none.
        Format::Case | Format::Token => String::new(),
    };
    (outcome.verdict.severity(), text)
}

/// The scenario of a case: one of those that are listed, or the laboratory.
fn of_case(case: &Case, scenarios: &[&'static dyn Scenario]) -> Result<&'static dyn Scenario, Refusal> {
    if case.scenario == RetryLab.name() { Ok(&RetryLab) } else { named(&case.scenario, scenarios) }
}
