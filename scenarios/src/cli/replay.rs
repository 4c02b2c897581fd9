//! `squall replay`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use squall_sim::case::Case;
use squall_sim::determinism::Difference;
use squall_sim::report::json::RunLine;
use squall_sim::report::{self, Report};
use squall_sim::scenario::{CaseError, Scenario};
use squall_sim::shrink::{Budget, End, Shrunk, shrink};
use squall_sim::stopwatch::Stopwatch;
use squall_sim::trace::Keep;
use squall_sim::trial::Outcome;
use squall_sim::verdict::Severity;
use squall_sim::{case_file, case_token, determinism, trial};

use super::output::Output;
use super::progress::Spinner;
use super::refusal::Refusal;
use super::{Surroundings, UPSTREAM, elsewhere, exit_code, named, replay_command, variant};
use crate::lab::RetryLab;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A scenario's name, with a seed after it; or a case file; or the token of a case.
    #[arg(value_name = "SCENARIO|CASE.json|TOKEN")]
    target: String,
    /// The seed.
    #[arg(allow_negative_numbers = true)]
    seed: Option<String>,
    /// The variant: upstream, hardened or a bug [default: upstream, or the case's own].
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
    /// A page to look into, in one file that needs no network.
    Html,
    /// A sequence diagram, to paste into an issue.
    Mermaid,
    /// A Chrome trace, which the Perfetto UI opens.
    Perfetto,
}

pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let target = Target::of(arguments, scenarios)?;
    let output = arguments.out.as_deref().map(Output::create).transpose()?;
    let (severity, text) = match target.case() {
        Ok(target) if arguments.shrink => {
            let program = around.program.clone();
            told(&target.shrunk(around)?, arguments.format, program.as_deref())?
        }
        Ok(target) => told(&target, arguments.format, around.program.as_deref())?,
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
            (Some(seed), Err(_)) if is_case(&arguments.target) => {
                Err(Refusal::SeedOfCase { target: arguments.target.clone(), seed: seed.clone() })
            }
            (Some(seed), scenario) => {
                let scenario = scenario?;
                let seed = seed.parse().map_err(|_| Refusal::NoSeed { text: seed.clone() })?;
                let variant = variant(arguments.variant.as_deref().unwrap_or(UPSTREAM), &[scenario])?.to_owned();
                Ok(Target::Seed { scenario, seed, variant })
            }
            (None, Ok(scenario)) => Err(Refusal::SeedMissing { scenario: scenario.name().to_owned() }),
            (None, Err(Refusal::NoSuchScenario { name, known })) if !is_case(&name) => {
                Err(Refusal::NothingToReplay { name, known })
            }
            (None, Err(_)) => Self::given(arguments, scenarios),
        }
    }

    /// A case from a file or a token.
    fn given(arguments: &Arguments, scenarios: &[&'static dyn Scenario]) -> Result<Self, Refusal> {
        let target = &arguments.target;
        let case = if target.starts_with(case_token::PREFIX) {
            case_token::parse(target).map_err(Refusal::CaseToken)?
        } else {
            file(Path::new(target))?
        };
        let scenario = of_case(&case, scenarios)?;
        let Some(name) = &arguments.variant else {
            return Ok(Target::Case(Again { scenario, case, replay: format!("squall replay {target}") }));
        };
        let name = variant(name, &[scenario])?;
        let replay = format!("squall replay {target} --variant {name}");
        Ok(match trial::as_variant(scenario, &case, name) {
            Ok(case) => Target::Case(Again { scenario, case, replay }),
            Err(_) => Target::Seed { scenario, seed: case.seed, variant: name.to_owned() },
        })
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

/// Is this a case, from its looks: a token, or the path of a file?
fn is_case(target: &str) -> bool {
    let path = Path::new(target);
    target.starts_with(case_token::PREFIX)
        || path.extension().is_some()
        || path.components().count() > 1
        || path.exists()
}

/// Reads a case file.
fn file(path: &Path) -> Result<Case, Refusal> {
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

fn told(again: &Again, format: Format, program: Option<&Path>) -> Result<(Severity, String), Refusal> {
    let Again { scenario, case, replay } = again;
    let watch = Stopwatch::start();
    let mut trial = trial::run(*scenario, case, Keep::Events)?;
    let wall = watch.elapsed();
    if trial.outcome.verdict.severity() != Severity::Panic
        && let Some(difference) = difference(again, &trial.outcome.digest, program)?
    {
        trial.outcome.verdict.add(difference.finding());
    }
    let report = Report { replay, scenario: *scenario, case, trial: &trial };
    let text = match format {
        Format::Text => report::text(&report),
        Format::Json => report::json::run(&report, wall),
        Format::Html => report::html(&report),
        Format::Mermaid => report::mermaid(&report),
        Format::Perfetto => report::perfetto(&report),
        Format::Case => case_file::to_text(case),
        Format::Token => case_token::to_token(case) + "\n",
    };
    Ok((trial.outcome.verdict.severity(), text))
}

/// Does it run the same way again, here and in a process of its own?
fn difference(again: &Again, digest: &str, program: Option<&Path>) -> Result<Option<Difference>, CaseError> {
    let Again { scenario, case, .. } = again;
    let Some(program) = program else { return determinism::check_again(*scenario, case, digest, None) };
    let fresh = |case: &Case, keep| elsewhere::fresh(program, case, keep);
    match determinism::check_again(*scenario, case, digest, Some(&fresh))? {
        Some(difference) => Ok(Some(difference)),
        None => determinism::check_elsewhere(*scenario, case, digest, &fresh),
    }
}

/// A seed over which the scenario itself panics has no story.
fn told_broken(outcome: &Outcome, replay: &str, format: Format) -> (Severity, String) {
    let text = match format {
        Format::Text | Format::Html | Format::Mermaid | Format::Perfetto => {
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
