//! The command line. It works on any list of scenarios, so a program with scenarios of its own has it, too.

mod bugs;
mod elsewhere;
mod explore;
mod github;
mod init;
mod interrupt;
mod judgement;
mod junit;
mod lab;
mod lab_tables;
mod list;
mod merge;
mod output;
mod progress;
mod refusal;
mod replay;
mod runs;
mod serve;
mod tables;
mod values;

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::thread;

use clap::{Parser, Subcommand};
use squall_sim::coverage::Found;
use squall_sim::explore::Summary;
use squall_sim::scenario::Scenario;
use squall_sim::verdict::Severity;

use self::refusal::Refusal;
use crate::serve::Serve;

/// The exit code of bad usage.
const BAD_USAGE: u8 = 2;

/// Deterministic simulation testing of agents that hold a session, take jobs on a lease and retry over a bad network.
///
/// One seed makes a case, a case runs real agent code against a real HTTP server over a simulated network with faults,
/// and a verdict comes out that anyone can replay.
///
/// Exit codes: 0 pass, 1 violation, 3 stuck, 4 nondeterministic, 5 panic, 2 bad usage.
#[derive(Debug, Parser)]
#[command(name = "squall", version, disable_help_subcommand = true, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List scenarios, bugs, faults, invariants and policies.
    List(list::Arguments),
    /// Run many seeds and tell what fails.
    Explore(explore::Arguments),
    /// Put each bug of a real project back into the repaired design and count the seeds until it is found.
    Bugs(bugs::Arguments),
    /// Run one seed, or one case from a file, and tell its story.
    Replay(replay::Arguments),
    /// Add up the shards of a campaign that ran on several machines, and tell what the whole of it found.
    Merge(merge::Arguments),
    /// Run the case on the standard input and print its digest.
    #[command(hide = true)]
    Elsewhere(elsewhere::Arguments),
    /// Run a scenario's server on a real port, and judge what it saw of its clients.
    Serve(serve::Arguments),
    /// Find out what a retry policy does to a fleet and to its server.
    Lab(lab::Arguments),
    /// Set a cargo project up for tests of its own agents.
    Init(init::Arguments),
}

/// The design as the real project has it.
const UPSTREAM: &str = "upstream";
/// The repaired design.
const HARDENED: &str = "hardened";

/// Where the command line prints to, and how it learns that it is to end.
pub struct Surroundings<'a> {
    /// For results.
    pub out: &'a mut dyn Write,
    /// For everything else.
    pub err: &'a mut dyn Write,
    /// Starts to watch for Ctrl-C, and gives the flag that it sets.
    pub interrupted: fn() -> &'static AtomicBool,
    /// The program itself, to run cases in processes of their own; without, none is.
    pub program: Option<PathBuf>,
}

/// Runs the command line of this process over some scenarios, and the servers of those that have one.
pub fn main(scenarios: &[&'static dyn Scenario], servers: &[&'static dyn Serve]) -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut around = Surroundings {
        out: &mut out,
        err: &mut err,
        interrupted: interrupt::watch,
        program: std::env::current_exe().ok(),
    };
    ExitCode::from(run(std::env::args_os(), scenarios, servers, &mut around))
}

/// Runs a command line over some scenarios, and the servers of those that have one. The first argument is the program's name.
///
/// Returns the exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    scenarios: &[&'static dyn Scenario],
    servers: &[&'static dyn Serve],
    around: &mut Surroundings<'_>,
) -> u8 {
    let done = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => match arguments.command {
            Command::List(arguments) => list::run(&arguments, scenarios, servers, around),
            Command::Explore(arguments) => explore::run(&arguments, scenarios, around),
            Command::Bugs(arguments) => bugs::run(&arguments, scenarios, around),
            Command::Replay(arguments) => replay::run(&arguments, scenarios, around),
            Command::Merge(arguments) => merge::run(&arguments, around),
            Command::Elsewhere(arguments) => elsewhere::run(&arguments, scenarios, around),
            Command::Serve(arguments) => serve::run(&arguments, scenarios, servers, around),
            Command::Lab(arguments) => lab::run(&arguments, around),
            Command::Init(arguments) => init::run(&arguments, around),
        },
        Err(error) if error.use_stderr() => Err(Refusal::of_clap(&error)),
        Err(help) => around.out.write_all(help.to_string().as_bytes()).map(|()| 0).map_err(Refusal::from),
    };
    match done {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(Refusal::OutputClosed) => 0,
        Err(refusal) => {
            // There is nobody left to tell when even that fails.
            let _ = writeln!(around.err, "squall: {refusal}");
            BAD_USAGE
        }
    }
}

/// Is this a command line of this program? Nothing is run.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn understand(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    match Arguments::try_parse_from(arguments) {
        Err(error) if error.use_stderr() => Err(Refusal::of_clap(&error).to_string()),
        _ => Ok(()),
    }
}

/// The exit code that tells a verdict.
fn exit_code(severity: Severity) -> u8 {
    match severity {
        Severity::Pass => 0,
        Severity::Violation => 1,
        Severity::Stuck => 3,
        Severity::Nondeterminism => 4,
        Severity::Panic => 5,
    }
}

/// The scenario of this name.
fn named(name: &str, scenarios: &[&'static dyn Scenario]) -> Result<&'static dyn Scenario, Refusal> {
    scenarios.iter().find(|scenario| scenario.name() == name).copied().ok_or_else(|| Refusal::NoSuchScenario {
        name: name.to_owned(),
        known: scenarios.iter().map(|scenario| scenario.name()).collect::<Vec<_>>().join(", "),
    })
}

/// The name of a variant that these scenarios have: upstream, hardened, or a bug of one of them.
fn variant<'a>(name: &'a str, scenarios: &[&'static dyn Scenario]) -> Result<&'a str, Refusal> {
    let is_bug = || scenarios.iter().all(|scenario| scenario.bugs().iter().any(|bug| bug.name == name));
    if name == UPSTREAM || name == HARDENED || is_bug() {
        Ok(name)
    } else {
        let scenario = scenarios.iter().map(|scenario| scenario.name()).collect::<Vec<_>>().join(", ");
        Err(Refusal::NoSuchVariant { scenario, name: name.to_owned() })
    }
}

/// One thread for each core.
fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The command that runs a seed again.
fn replay_command(scenario: &str, seed: u64, variant: &str) -> String {
    format!("squall replay {scenario} {seed} --variant {variant}")
}

/// The command that runs a failure of a campaign again.
fn replay_found(summary: &Summary, found: &Found) -> String {
    match &found.file {
        Some(file) => format!("squall replay {file} --variant {}", summary.variant),
        None => replay_command(&summary.scenario, found.first_seed, &summary.variant),
    }
}
