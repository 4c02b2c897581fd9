//! `squall merge`.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use squall_sim::explore::{Shard, Summary};
use squall_sim::report::json::SummaryLine;

use super::Surroundings;
use super::explore::{Format, told};
use super::judgement::Asked;
use super::refusal::Refusal;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What each shard left behind: runs.jsonl of its output folder, or what `explore --format json` printed.
    #[arg(required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    let parts = arguments.file.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    complete(&parts)?;
    let mut whole: Vec<Summary> = Vec::new();
    for part in parts.into_iter().flat_map(|part| part.campaigns) {
        match whole.iter_mut().find(|it| (&it.scenario, &it.variant) == (&part.scenario, &part.variant)) {
            Some(known) => known.merge(&part),
            None => whole.push(part),
        }
    }
    let asked = Asked::by(&whole);
    write!(around.out, "{}", told(arguments.format, asked, &whole, Shard::default(), &BTreeMap::new()))?;
    if whole.iter().any(|summary| summary.interrupted) {
        writeln!(around.err, "squall: some shard was interrupted; these are the seeds that were done")?;
    }
    Ok(asked.exit_code(whole.len(), &whole))
}

/// What one shard came to.
struct ShardRuns {
    path: PathBuf,
    shard: Shard,
    campaigns: Vec<Summary>,
}

/// The last line of a file.
fn read(path: &Path) -> Result<ShardRuns, Refusal> {
    let path = path.to_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(why) => return Err(Refusal::RunsUnreadable { path, why }),
    };
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let parsed = serde_json::from_str::<SummaryLine>(line).map_err(|error| error.to_string());
    let read = parsed.and_then(|line| Ok((line.shard.parse::<Shard>().map_err(|error| error.to_string())?, line)));
    match read {
        Ok((shard, line)) => Ok(ShardRuns { path, shard, campaigns: line.campaigns() }),
        Err(why) => Err(Refusal::NoRuns { path, why }),
    }
}

/// Every shard has to be there once: a shard that is missing looks like one that passed.
fn complete(parts: &[ShardRuns]) -> Result<(), Refusal> {
    let of = parts.first().map_or(NonZeroU64::MIN, |part| part.shard.of);
    let mut seen: BTreeMap<u64, &Path> = BTreeMap::new();
    for part in parts {
        if part.shard.of != of {
            let path = part.path.clone();
            return Err(Refusal::OtherShards { path, shard: part.shard.to_string(), of: of.get() });
        }
        if let Some(first) = seen.insert(part.shard.index, &part.path) {
            let paths = [first.to_owned(), part.path.clone()];
            return Err(Refusal::ShardTwice { shard: part.shard.to_string(), paths });
        }
    }
    match (1..=of.get()).find(|index| !seen.contains_key(index)) {
        Some(index) => Err(Refusal::ShardMissing { shard: format!("{index}/{of}") }),
        None => Ok(()),
    }
}
