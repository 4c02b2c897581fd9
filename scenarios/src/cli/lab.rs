//! `squall lab`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use squall_protocol::retry::{self, Policy, Warning, file};

use super::output::{self, Output};
use super::progress::Progress;
use super::refusal::Refusal;
use super::{Surroundings, lab_tables, values};
use crate::lab::compare::{Comparison, Row};
use crate::lab::families::Family;
use crate::lab::fleet::{AGENTS_MAX, Transport};
use crate::lab::fuzz::{self, Search, Wound};
use crate::lab::measure::{self, MEASURES, Measure};
use crate::lab::overload;
use crate::lab::page;
use crate::lab::trial::{TRIALS, Trial};

/// What is compared when no policy is named: one of each kind.
const POLICIES_DEFAULT: [&str; 8] = [
    "fixed",
    "exponential",
    "full-jitter",
    "decorrelated",
    "aws-standard",
    "token-bucket",
    "go-retryablehttp",
    "runner-poll",
];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put the same fleet through the same trials with one policy after another.
    Compare(Compare),
    /// Search fleets and fault plans for what hurts a policy most, or the free arguments of a family for what is best.
    Fuzz(Fuzz),
    /// Show from which overloads a service does not return to normal once their cause is gone.
    Region(Region),
    /// Print the JSON schema of policy files.
    Schema,
}

#[derive(Debug, clap::Args)]
struct Compare {
    /// A policy: a name of `squall list`, a file such as policy.toml, or one written out, such as
    /// `exp(base=1s,cap=60s,jitter=full)` [default: one of each kind].
    #[arg(long, value_name = "P")]
    policy: Vec<String>,
    /// A trial: outage, brownout, slow, resets, tokens, rolling or permanent [default: all].
    #[arg(long, value_name = "T", value_parser = trial)]
    trial: Vec<Trial>,
    /// How many agents, up to 10000.
    #[arg(long, value_name = "N", default_value = "100", value_parser = agents, allow_negative_numbers = true)]
    agents: u32,
    /// How many seeds for each policy and trial.
    #[arg(long, value_name = "N", default_value = "3", value_parser = values::seeds, allow_negative_numbers = true)]
    seeds: NonZeroU64,
    /// How requests get to the server [default: http for up to 300 agents].
    #[arg(long, value_enum)]
    transport: Option<Way>,
    /// How many threads [default: one for each core].
    #[arg(long, value_name = "J", value_parser = values::jobs, allow_negative_numbers = true)]
    jobs: Option<NonZeroUsize>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// A file to write to instead.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Fuzz {
    /// A policy, or a family: an expression in which arguments are free, such as `exp(base=?,cap=5s..10m,jitter=full)`.
    #[arg(value_name = "POLICY")]
    policy: String,
    /// The measure by which it is to be hurt [default: each].
    #[arg(long, value_name = "M", value_parser = measure)]
    measure: Vec<Measure>,
    /// How long to search.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::time, allow_negative_numbers = true)]
    time: Duration,
    /// How many triggers at most; a search that this ends finds the same every time.
    #[arg(long, value_name = "N", value_parser = values::triggers, allow_negative_numbers = true)]
    triggers: Option<NonZeroU64>,
    /// How many threads [default: one for each core].
    #[arg(long, value_name = "J", value_parser = values::jobs, allow_negative_numbers = true)]
    jobs: Option<NonZeroUsize>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = FoundFormat::Text)]
    format: FoundFormat,
    /// A folder for the case of each wound, which `squall replay` takes.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Region {
    /// The policies [default: three retries 50 ms apart, with and without a budget].
    #[arg(value_name = "POLICY")]
    policy: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = RegionFormat::Text)]
    format: RegionFormat,
    /// A file to write to instead.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RegionFormat {
    /// A grid of letters.
    Text,
    /// One object a line, one for each policy.
    Json,
    /// A page with plots.
    Html,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FoundFormat {
    /// A table.
    Text,
    /// One object a line.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// As HTTP/1.1 over the simulated network.
    Http,
    /// As calls of the server's handler, after the latency of a link.
    Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for each trial.
    Text,
    /// One object a line.
    Json,
    /// A line for each policy and trial, with a header.
    Csv,
    /// A page with plots, complete in itself.
    Html,
}

fn trial(name: &str) -> Result<Trial, String> {
    let known = || TRIALS.map(Trial::name).join(", ");
    Trial::named(name).ok_or_else(|| format!("no trial is called {name}; there are {}", known()))
}

fn measure(name: &str) -> Result<Measure, String> {
    let known = || MEASURES.map(|measure| measure.name).join(", ");
    measure::named(name).ok_or_else(|| format!("no measure is called {name}; there are {}", known()))
}

fn agents(text: &str) -> Result<u32, String> {
    let agents = text.parse().ok().filter(|agents| (1..=AGENTS_MAX).contains(agents));
    agents.ok_or_else(|| format!("it takes a number of agents from 1 to {AGENTS_MAX}"))
}

pub(super) fn run(arguments: &Arguments, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    match &arguments.command {
        Command::Compare(arguments) => compare(arguments, around),
        Command::Fuzz(arguments) => fuzz(arguments, around),
        Command::Region(arguments) => region(arguments, around),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&file::schema()).expect("a schema is plain data");
            writeln!(around.out, "{schema}")?;
            Ok(0)
        }
    }
}

/// A policy that somebody named, and what is dangerous about it.
pub(super) fn policy(text: &str) -> Result<(Policy, Vec<Warning>), Refusal> {
    let refused = |why: String| Refusal::Usage(format!("{text:?} is no policy: {why}"));
    if text.ends_with(".toml") {
        let read = std::fs::read_to_string(text).map_err(|why| refused(format!("it cannot be read: {why}")))?;
        return file::read(&read).map_err(|why| refused(why.to_string()));
    }
    if matches!(Family::parse(text), Ok(Some(_))) {
        return Err(refused("arguments that are left free are for `squall lab fuzz`".to_owned()));
    }
    let policy = retry::named(text).map_err(|why| refused(why.to_string()))?;
    let warnings = policy.check().map_err(|why| refused(why.to_string()))?;
    Ok((policy, warnings))
}

fn compare(arguments: &Compare, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    let named: Vec<&str> = match arguments.policy.as_slice() {
        [] => POLICIES_DEFAULT.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let mut policies: Vec<(String, Policy)> = Vec::new();
    for name in named {
        let (policy, warnings) = policy(name)?;
        for warning in warnings {
            writeln!(around.err, "squall: {name}: {warning}")?;
        }
        if policies.iter().all(|(known, _)| known != name) {
            policies.push((name.to_owned(), policy));
        }
    }
    let comparison = Comparison {
        policies,
        trials: if arguments.trial.is_empty() { TRIALS.to_vec() } else { arguments.trial.clone() },
        agents: arguments.agents,
        seeds: arguments.seeds.get(),
        transport: arguments.transport.map(|way| match way {
            Way::Http => Transport::Http,
            Way::Exchange => Transport::Exchange,
        }),
    };
    let output = arguments.out.as_deref().map(Output::create).transpose()?;
    let rows = rows(&comparison, arguments, around)?;
    if (around.interrupted)().load(Ordering::Relaxed) {
        let made: u64 = rows.iter().map(|row| row.seeds).sum();
        writeln!(around.err, "squall: interrupted after {made} of {} runs", comparison.runs())?;
    }
    let text = told(&rows, arguments.format);
    match output {
        None if arguments.format == Format::Json => {}
        output => printed(&text, output, around)?,
    }
    for warning in rows.iter().flat_map(Row::warnings) {
        writeln!(around.err, "squall: {warning}")?;
    }
    Ok(0)
}

/// Runs a comparison. JSON for nobody's file is printed line by line, as it comes.
fn rows(comparison: &Comparison, arguments: &Compare, around: &mut Surroundings<'_>) -> Result<Vec<Row>, Refusal> {
    let jobs = threads(arguments.jobs);
    let stop = (around.interrupted)();
    let progress = Progress::new("compare", Some(comparison.runs()));
    let (mut rows, mut printed) = (Vec::new(), Ok(()));
    let at_once = arguments.format == Format::Json && arguments.out.is_none();
    comparison.run(
        jobs,
        stop,
        || progress.advance(0),
        |row| {
            if at_once {
                printed = progress.aside(|| writeln!(around.out, "{}", row.to_json()));
            }
            rows.push(row);
            if printed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    drop(progress);
    printed?;
    Ok(rows)
}

fn told(rows: &[Row], format: Format) -> String {
    match format {
        Format::Text => lab_tables::text(rows),
        Format::Json => rows.iter().map(|row| format!("{}\n", row.to_json())).collect(),
        Format::Csv => lab_tables::csv(rows),
        Format::Html => page::html(rows),
    }
}

fn threads(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked.or(thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn printed(text: &str, output: Option<Output>, around: &mut Surroundings<'_>) -> Result<(), Refusal> {
    match output {
        Some(mut output) => {
            output.write_all(text)?;
            output.finish()
        }
        None => Ok(around.out.write_all(text.as_bytes())?),
    }
}

fn fuzz(arguments: &Fuzz, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    let refused = |why: String| Refusal::Usage(format!("{:?} is no family of policies: {why}", arguments.policy));
    if let Some(family) = Family::parse(&arguments.policy).map_err(refused)? {
        return family_searched(&family, arguments, around);
    }
    let (policy, warnings) = policy(&arguments.policy)?;
    for warning in warnings {
        writeln!(around.err, "squall: {}: {warning}", arguments.policy)?;
    }
    if let Some(out) = &arguments.out {
        output::folder(out)?;
    }
    let search = Search {
        policy,
        measures: if arguments.measure.is_empty() { fuzz::measures() } else { arguments.measure.clone() },
        // A number of triggers alone ends a search that is to be the same every time.
        time: if arguments.triggers.is_some() { Duration::MAX } else { arguments.time },
        triggers: arguments.triggers.map(|triggers| triggers.get() as usize),
        jobs: threads(arguments.jobs),
        seed: 0,
    };
    let stop = (around.interrupted)();
    let progress = Progress::new("fuzz", arguments.triggers.map(NonZeroU64::get));
    let wounds = search.run(stop, || progress.advance(0));
    drop(progress);
    if stop.load(Ordering::Relaxed) {
        writeln!(around.err, "squall: interrupted; this is what was found by then")?;
    }
    let cases = cases(&wounds, arguments)?;
    match arguments.format {
        FoundFormat::Text => around.out.write_all(lab_tables::wounds(&arguments.policy, &wounds, &cases).as_bytes())?,
        FoundFormat::Json => {
            for (wound, case) in wounds.iter().zip(&cases) {
                writeln!(around.out, "{}", wound.to_json(&arguments.policy, case.as_deref()))?;
            }
        }
    }
    Ok(0)
}

/// Writes the case of each wound, if a folder for them is given, and returns their files.
fn cases(wounds: &[Wound], arguments: &Fuzz) -> Result<Vec<Option<String>>, Refusal> {
    let Some(folder) = &arguments.out else { return Ok(vec![None; wounds.len()]) };
    let (policy, _) = policy(&arguments.policy)?;
    let written = wounds.iter().map(|wound| {
        let path = folder.join(format!("{}.json", wound.measure.name));
        let mut output = Output::create(&path)?;
        output.write_all(&squall_sim::case_file::to_text(&wound.trigger.case(&policy)))?;
        output.finish()?;
        Ok(Some(path.display().to_string()))
    });
    written.collect()
}

fn family_searched(family: &Family, arguments: &Fuzz, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    let stop = (around.interrupted)();
    let progress = Progress::new("fuzz", None);
    let rounds = arguments.triggers.map(|triggers| triggers.get() as usize);
    let members = family.search(arguments.time, rounds, threads(arguments.jobs), stop, || progress.advance(0));
    drop(progress);
    match arguments.format {
        FoundFormat::Text => around.out.write_all(lab_tables::members(&members).as_bytes())?,
        FoundFormat::Json => {
            for member in &members {
                let mut line = member.row.to_json();
                line["pareto"] = member.best.into();
                line["preset"] = member.preset.into();
                writeln!(around.out, "{line}")?;
            }
        }
    }
    Ok(0)
}

/// What a region is shown of when no policy is named.
const REGION_DEFAULT: [&str; 2] =
    ["fixed(wait=50ms)+limit(retries=3)", "fixed(wait=50ms)+limit(retries=3)+token-bucket"];

fn region(arguments: &Region, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    let names: Vec<String> = match arguments.policy.as_slice() {
        [] => REGION_DEFAULT.map(str::to_owned).to_vec(),
        named => named.to_vec(),
    };
    let output = arguments.out.as_deref().map(Output::create).transpose()?;
    let mut regions = Vec::new();
    for name in names {
        let region = overload::Region::of(&policy(&name)?.0, 0);
        regions.push((name, region));
    }
    let text = match arguments.format {
        RegionFormat::Text => lab_tables::regions(&regions),
        RegionFormat::Json => regions.iter().map(|(name, region)| format!("{}\n", region.to_json(name))).collect(),
        RegionFormat::Html => page::regions(&regions),
    };
    printed(&text, output, around)?;
    Ok(0)
}
