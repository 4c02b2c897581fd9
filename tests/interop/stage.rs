//! A server on a real port whose facts and calls are kept, so that what two clients did there can be compared.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use squall::live_calls;
use tempfile::TempDir;

use crate::program::Program;

pub struct Stage {
    pub program: Program,
    pub folder: TempDir,
}

/// Far longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

impl Stage {
    pub fn serving(scenario: &str, settings: &[&str], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
        let (journal, calls) = (path("journal.jsonl"), path("calls.jsonl"));
        let mut options = vec!["--journal", &journal, "--calls", &calls];
        options.extend(more);
        settings.iter().for_each(|setting| options.extend(["--set", setting]));
        let program = Program::start(scenario, &options);
        Self { program, folder }
    }

    pub fn credential(&self, name: &str) -> &str {
        self.program.ready["credentials"][name].as_str().expect("text")
    }

    /// How many facts of a kind the journal has so far.
    pub fn facts(&self, kind: &str) -> usize {
        self.journal().iter().filter(|fact| fact["fact"] == kind).count()
    }

    pub fn journal(&self) -> Vec<Value> {
        lines(&self.folder.path().join("journal.jsonl"))
    }

    /// The calls that were answered so far.
    pub fn calls(&self) -> Vec<live_calls::Line> {
        lines(&self.folder.path().join("calls.jsonl"))
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}; {:#?}", self.calls());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).expect("the server writes it");
    // The last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
