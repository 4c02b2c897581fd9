//! What `squall replay` prints of a case, line by line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use squall_sim::case::Case;
use squall_sim::case_file;

/// The file with the incident of a scenario.
pub fn file(scenario: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/incidents/{scenario}.json"))
}

/// A story as it is printed.
pub struct Story {
    text: String,
    /// When, and what, without the node.
    lines: Vec<(Duration, String)>,
}

impl Story {
    /// Replays the incident of a scenario.
    pub fn replayed(scenario: &str) -> Self {
        Self::of_file(&file(scenario))
    }

    /// Replays a case that has no file.
    pub fn of(case: &Case) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("case.json");
        fs::write(&path, case_file::to_text(case)).expect("there is room");
        Self::of_file(&path)
    }

    fn of_file(path: &Path) -> Self {
        let told = squall(path, &[]);
        let text = String::from_utf8(told.stdout).expect("text");
        let failed = matches!(told.status.code(), Some(1 | 3));
        assert!(failed, "{:?}: {}{text}", told.status, String::from_utf8_lossy(&told.stderr));
        let timeline = text.lines().skip_while(|line| !line.starts_with("timeline")).skip(1);
        let lines = timeline.take_while(|line| !line.is_empty()).filter_map(line).collect();
        Self { text, lines }
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When each of these lines was told, each after the one before. A `*` stands for anything.
    #[track_caller]
    pub fn in_order<S: AsRef<str>>(&self, expected: &[S]) -> Vec<Duration> {
        let mut lines = self.lines.iter();
        let mut at = Vec::new();
        for (n, wanted) in expected.iter().map(AsRef::as_ref).enumerate() {
            let found = lines.find(|(_, text)| has(text, wanted));
            let (when, _) =
                found.unwrap_or_else(|| panic!("line {n} is not told in its place: {wanted}\n{}", self.text));
            at.push(*when);
        }
        at
    }
}

/// Does the incident of a scenario pass with the repaired design?
pub fn is_repaired(scenario: &str) -> bool {
    squall(&file(scenario), &["--variant", "hardened"]).status.success()
}

fn squall(path: &Path, options: &[&str]) -> Output {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    squall.arg("replay").arg(path).args(options).output().expect("the program starts")
}

/// The time and the text of a line; nothing for the line that stands for others.
fn line(line: &str) -> Option<(Duration, String)> {
    let (at, rest) = line.trim_start().split_once(' ')?;
    let (_, text) = rest.trim_start().split_once(' ')?;
    Some((instant(at)?, text.trim_start().to_owned()))
}

/// An instant such as `0:10:00.172`.
fn instant(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = hours.parse::<u64>().ok()? * 3_600 + minutes.parse::<u64>().ok()? * 60;
    Some(Duration::from_secs(whole) + Duration::from_secs_f64(seconds.parse().ok()?))
}

/// Are the pieces between the asterisks in the text, one behind the other?
fn has(text: &str, wanted: &str) -> bool {
    let mut rest = text;
    wanted.split('*').all(|piece| match rest.split_once(piece) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}
