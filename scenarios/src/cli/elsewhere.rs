//! Cases in processes of their own, to see whether they run there as they do here.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use squall_sim::case::Case;
use squall_sim::determinism::Elsewhere;
use squall_sim::scenario::Scenario;
use squall_sim::trace::{Event, Keep};
use squall_sim::{case_file, trial};

use super::refusal::Refusal;
use super::{Surroundings, named};

/// The command and its option, which are for the program itself.
const COMMAND: &str = "elsewhere";
const EVENTS: &str = "--events";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the events, too.
    #[arg(long)]
    events: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Digest {
    digest: String,
}

/// Runs the case on the standard input; prints its digest and, when asked for, each event on a line.
pub(super) fn run(
    arguments: &Arguments,
    scenarios: &[&'static dyn Scenario],
    around: &mut Surroundings<'_>,
) -> Result<u8, Refusal> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let case = case_file::parse(&text).map_err(|why| Refusal::CaseFile { path: "the standard input".into(), why })?;
    let keep = if arguments.events { Keep::Events } else { Keep::Digest };
    let trial = trial::run(named(&case.scenario, scenarios)?, &case, keep)?;
    writeln!(around.out, "{}", line(&Digest { digest: trial.outcome.digest }))?;
    trial.ended.events.iter().try_for_each(|event| writeln!(around.out, "{}", line(event)))?;
    Ok(0)
}

fn line(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("it is plain data")
}

/// Runs a case in a fresh process of a program; `None` when that cannot be had.
pub(super) fn fresh(program: &Path, case: &Case, keep: Keep) -> Option<Elsewhere> {
    let mut command = Command::new(program);
    command.arg(COMMAND).args((keep == Keep::Events).then_some(EVENTS));
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // A process that ends early closes its input.
    let _ = child.stdin.take()?.write_all(case_file::to_text(case).as_bytes());
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let read = lines.next().and_then(Result::ok).and_then(|line| serde_json::from_str::<Digest>(&line).ok());
    let events: Option<Vec<Event>> = lines.map(|line| serde_json::from_str(&line.ok()?).ok()).collect();
    child.wait().ok()?;
    Some(Elsewhere { digest: read?.digest, events: events? })
}
