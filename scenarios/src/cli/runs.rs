//! The folder that a campaign leaves behind.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use squall_sim::case::Case;
use squall_sim::coverage::Found;
use squall_sim::explore::Summary;
use squall_sim::report::{self, Report};
use squall_sim::scenario::Scenario;
use squall_sim::shrink::{Budget, shrink};
use squall_sim::side_by_side::side_by_side;
use squall_sim::trace::Keep;
use squall_sim::{case_file, trial};

use super::output::{self, Output};
use super::refusal::Refusal;
use super::replay_command;

/// The file with a line for every run.
const RUNS_FILE: &str = "runs.jsonl";
/// A campaign may find many failures.
const BUDGET: Budget = Budget { attempts: 300, time: Duration::from_secs(10) };

/// The output folder.
pub(super) struct Runs {
    folder: PathBuf,
    file: Output,
}

impl Runs {
    pub(super) fn create(folder: &Path) -> Result<Self, Refusal> {
        output::folder(folder)?;
        Ok(Self { folder: folder.to_owned(), file: Output::create(&folder.join(RUNS_FILE))? })
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), Refusal> {
        self.file.write_all(&format!("{line}\n"))
    }

    pub(super) fn finish(self) -> Result<(), Refusal> {
        self.file.finish()
    }

    /// Writes, for the first seed of each failure, its case and its story, and the smallest case that fails in the same
    /// way with its story.
    pub(super) fn failures(
        &self,
        scenario: &dyn Scenario,
        summary: &Summary,
        jobs: NonZeroUsize,
        stop: &AtomicBool,
    ) -> Result<(), Refusal> {
        let found = summary.coverage.fingerprints.values().filter(|found| found.file.is_none());
        let mut trouble = Ok(());
        side_by_side(
            jobs,
            found.collect::<Vec<_>>().into_iter(),
            |found| self.failure(scenario, &summary.variant, found, stop),
            |written| {
                trouble = written;
                if trouble.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        trouble
    }

    fn failure(&self, scenario: &dyn Scenario, variant: &str, found: &Found, stop: &AtomicBool) -> Result<(), Refusal> {
        let seed = found.first_seed;
        let Ok(case) = trial::generate(scenario, variant, seed) else { return Ok(()) };
        let name = format!("{}-{variant}-{seed}", scenario.name());
        self.case(&name, scenario, &case, &replay_command(scenario.name(), seed, variant))?;
        let Some(small) = shrink(scenario, &case, BUDGET, stop, &mut |_| ControlFlow::Continue(()))? else {
            return Ok(());
        };
        let name = format!("{name}-shrunk");
        let replay = format!("squall replay {}", self.folder.join(format!("{name}.json")).display());
        self.case(&name, scenario, &small.case, &replay)
    }

    fn case(&self, name: &str, scenario: &dyn Scenario, case: &Case, replay: &str) -> Result<(), Refusal> {
        self.write(&format!("{name}.json"), &case_file::to_text(case))?;
        let trial = trial::run(scenario, case, Keep::Events)?;
        self.write(&format!("{name}.txt"), &report::text(&Report { replay, scenario, case, trial: &trial }))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Refusal> {
        let mut output = Output::create(&self.folder.join(name))?;
        output.write_all(text)?;
        output.finish()
    }
}
