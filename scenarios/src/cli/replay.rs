//! `squall replay`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use squall_sim::case::Case;
use squall_sim::report::json::RunLine;
use squall_sim::report::{self, Report};
use squall_sim::scenario::Scenario;
use squall_sim::stopwatch::Stopwatch;
use squall_sim::trace::Keep;
use squall_sim::trial::Outcome;
use squall_sim::verdict::Severity;
use squall_sim::{case_file, determinism, trial};

use super::output::Output;
use super::refusal::Refusal;
use super::{Surroundings, UPSTREAM, exit_code, named, replay_command, variant};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A scenario's name, with a seed after it; or a case file.
    #[arg(value_name = "SCENARIO|CASE.json")]
    target: String,
    /// The seed.
    #[arg(allow_negative_numbers = true)]
    seed: Option<String>,
    /// The variant: upstream, hardened or a bug [default: upstream].
    #[arg(long)]
    variant: Option<String>,
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
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let target = Target::of(arguments, scenarios)?;
    let output = arguments.out.as_deref().map(Output::create).transpose()?;
    let (severity, text) = target.told(arguments.format)?;
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
    File { scenario: &'static dyn Scenario, case: Box<Case>, path: PathBuf },
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
                Some(variant) => Err(Refusal::VariantOfCaseFile { variant: variant.clone() }),
                None => Self::file(Path::new(&arguments.target), scenarios),
            },
        }
    }

    fn file(path: &Path, scenarios: &[&'static dyn Scenario]) -> Result<Self, Refusal> {
        let path = path.to_owned();
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(why) => return Err(Refusal::Unreadable { path, why }),
        };
        let case = match case_file::parse(&text) {
            Ok(case) => case,
            Err(why) => return Err(Refusal::CaseFile { path, why }),
        };
        Ok(Target::File { scenario: named(&case.scenario, scenarios)?, case: Box::new(case), path })
    }

    /// Runs it and tells of it.
    fn told(self, format: Format) -> Result<(Severity, String), Refusal> {
        match self {
            Target::File { scenario, case, path } => {
                told(scenario, &case, &format!("squall replay {}", path.display()), format)
            }
            Target::Seed { scenario, seed, variant } => {
                let replay = replay_command(scenario.name(), seed, &variant);
                match trial::generate(scenario, &variant, seed) {
                    Ok(case) => told(scenario, &case, &replay, format),
                    Err(broken) => Ok(told_broken(&broken, &replay, format)),
                }
            }
        }
    }
}

fn told(scenario: &dyn Scenario, case: &Case, replay: &str, format: Format) -> Result<(Severity, String), Refusal> {
    let watch = Stopwatch::start();
    let mut trial = trial::run(scenario, case, Keep::Events)?;
    let wall = watch.elapsed();
    if trial.outcome.verdict.severity() != Severity::Panic
        && let Some(difference) = determinism::check_again(scenario, case, &trial.outcome.digest)?
    {
        trial.outcome.verdict.add(difference.finding());
    }
    let report = Report { replay, scenario, case, trial: &trial };
    let text = match format {
        Format::Text => report::text(&report),
        Format::Json => report::json::run(&report, wall),
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
    };
    (outcome.verdict.severity(), text)
}
