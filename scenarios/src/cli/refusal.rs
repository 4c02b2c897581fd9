//! Why a command is not carried out: one sentence on what was wrong and what is accepted.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::CommandFactory;
use clap::error::{ContextKind, ErrorKind};
use squall_sim::case_file::CaseFileError;
use squall_sim::case_token::CaseTokenError;
use squall_sim::regressions::RegressionError;
use squall_sim::scenario::CaseError;
use thiserror::Error;

use super::init::InitError;
use crate::serve::NoSetting;

/// Why a command is not carried out.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Usage(String),
    #[error("no scenario is called {name:?}; there are: {known}")]
    NoSuchScenario { name: String, known: String },
    #[error("{scenario} has no variant {name:?}; it has upstream, hardened and its bugs, which `squall list` names")]
    NoSuchVariant { scenario: String, name: String },
    #[error("no bug is called {0:?}; `squall list` names them all")]
    NoSuchBug(String),
    #[error("{text:?} is no seed; a seed is a whole number from 0 to {}", u64::MAX)]
    NoSeed { text: String },
    #[error("a case is run as it is: leave the seed {seed} out after {target}")]
    SeedOfCase { target: String, seed: String },
    #[error("{name:?} is neither a case file nor a scenario; the scenarios are: {known}")]
    NothingToReplay { name: String, known: String },
    #[error("replay needs a seed after the scenario's name, as in `squall replay {scenario} 7`, or a case file alone")]
    SeedMissing { scenario: String },
    #[error("cannot read the case file {}: {why}", path.display())]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{} is no case file: {why}", path.display())]
    CaseFile { path: PathBuf, why: CaseFileError },
    #[error("it is no token of a case: {0}")]
    CaseToken(CaseTokenError),
    #[error(transparent)]
    Past(#[from] RegressionError),
    #[error("cannot read {}: {why}; merge takes the runs.jsonl of each shard", path.display())]
    RunsUnreadable { path: PathBuf, why: io::Error },
    #[error("{} does not end with the summary of a campaign: {why}; merge takes the runs.jsonl of each shard", path.display())]
    NoRuns { path: PathBuf, why: String },
    #[error("{} is of shard {shard}, and others are of {of} shards; merge takes the shards of one campaign", path.display())]
    OtherShards { path: PathBuf, shard: String, of: u64 },
    #[error("{} and {} are both of shard {shard}; merge takes each shard once", paths[0].display(), paths[1].display())]
    ShardTwice { shard: String, paths: [PathBuf; 2] },
    #[error("shard {shard} is missing; merge takes all shards of a campaign")]
    ShardMissing { shard: String },
    #[error(transparent)]
    Misfit(#[from] CaseError),
    #[error("cannot write to {}: {why}; --out takes a place in a folder that can be written", path.display())]
    Unwritable { path: PathBuf, why: io::Error },
    #[error("no seed is left: --start {start} with --seeds {seeds} goes beyond {}, the last seed", u64::MAX)]
    BeyondLastSeed { start: u64, seeds: u64 },
    #[error("{name} has no server to serve; those that have one are: {served}")]
    NotServed { name: String, served: String },
    #[error("{name}: {why}")]
    Setting { name: &'static str, why: NoSetting },
    #[error("cannot listen on {address}: {why}; --listen takes a free address of this machine, with port 0 for any")]
    CannotListen { address: SocketAddr, why: io::Error },
    #[error("cannot write the journal to {}: {why}; --journal takes a file in a folder that can be written", path.display())]
    JournalUnwritable { path: PathBuf, why: io::Error },
    #[error("the journal in {} lacks its end: {why}", path.display())]
    JournalCutShort { path: PathBuf, why: io::Error },
    #[error("cannot write the calls to {}: {why}; --calls takes a file in a folder that can be written", path.display())]
    CallsUnwritable { path: PathBuf, why: io::Error },
    #[error("the list of calls in {} lacks its end: {why}", path.display())]
    CallsCutShort { path: PathBuf, why: io::Error },
    #[error("cannot start to serve: {0}")]
    NoRuntime(io::Error),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("cannot print the result: {0}")]
    Output(io::Error),
    /// Nobody reads our output any more.
    #[error("the output is closed")]
    OutputClosed,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Refusal::OutputClosed,
            _ => Refusal::Output(error),
        }
    }
}

impl Refusal {
    /// What the parser of arguments has to say, in one line.
    pub(crate) fn of_clap(error: &clap::Error) -> Self {
        let of = |command: &str| {
            let known = subcommands(command);
            let known = known
                .split_last()
                .map_or_else(String::new, |(last, others)| format!("{} and {last}", others.join(", ")));
            format!("the commands of {command} are {known}")
        };
        // `lab` is the only command that has some of its own.
        let told = error.to_string();
        let is_of_lab = told.lines().any(|line| line.starts_with("Usage:") && line.contains(" lab "));
        let command = if is_of_lab { "squall lab" } else { "squall" };
        Refusal::Usage(match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
            (ErrorKind::InvalidSubcommand, Some(name)) => format!("no command is called {name}; {}", of(command)),
            (ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => {
                format!("no command is given; {}, and `{command} --help` explains them", of(command))
            }
            _ => in_one_line(&told),
        })
    }
}

/// The commands of `squall`, or of a command of it.
fn subcommands(command: &str) -> Vec<String> {
    let mut known = super::Arguments::command();
    for name in command.split(' ').skip(1) {
        known = known.find_subcommand(name).cloned().unwrap_or_default();
    }
    known.get_subcommands().filter(|it| !it.is_hide_set()).map(|it| it.get_name().to_owned()).collect()
}

fn in_one_line(told: &str) -> String {
    let told = told.split("\n\nUsage:").next().unwrap_or(told);
    let told = told.split("\n\nFor more information").next().unwrap_or(told);
    let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}
