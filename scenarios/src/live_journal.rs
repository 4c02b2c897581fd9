//! The journal of a server on a real port: facts in real time, in memory and in a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use squall_protocol::live::LiveClock;
use squall_protocol::{Clock, Fact, Ledger};
use squall_sim::SimTime;
use squall_sim::invariant::{History, Invariant, Judged, judge};
use squall_sim::journal::Entry;
use squall_sim::trace::NodeId;

/// A fact in the journal's file: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its place, counted from 1.
    pub seq: u64,
    /// The machine's wall time; it may jump.
    pub at: Timestamp,
    /// Nanoseconds since the server started; they never go back.
    pub since_start_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// The journal. Handles share it.
#[derive(Clone)]
pub struct LiveJournal {
    clock: LiveClock,
    written: Arc<Mutex<Written>>,
}

struct Written {
    entries: Vec<Entry>,
    file: Option<File>,
    /// Why the file lacks its end.
    failed: Option<io::Error>,
}

impl LiveJournal {
    /// An empty journal whose time starts with `clock`. What was in the file is replaced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn start(clock: LiveClock, file: Option<&Path>) -> io::Result<Self> {
        let file = file.map(File::create).transpose()?;
        Ok(Self { clock, written: Arc::new(Mutex::new(Written { entries: Vec::new(), file, failed: None })) })
    }

    /// Judges everything up to now.
    pub fn judge(&self, invariants: &[Box<dyn Invariant>]) -> Judged {
        let written = self.lock();
        // No fault is injected here, so time counts from the start.
        judge(invariants, &History { journal: &written.entries, heal_at: SimTime::ZERO, end: self.now() })
    }

    /// How many facts there are, and for how long they have been written.
    pub fn extent(&self) -> (usize, SimTime) {
        (self.lock().entries.len(), self.now())
    }

    /// Why the file lacks its end, if it does.
    pub fn failure(&self) -> Option<io::Error> {
        self.lock().failed.take()
    }

    fn now(&self) -> SimTime {
        let since_start = self.clock.mono().since_start();
        SimTime::from_nanos(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for LiveJournal {
    fn record(&self, fact: Fact) {
        let mut written = self.lock();
        let at = self.now();
        if let Some(mut file) = written.file.take() {
            let seq = written.entries.len() as u64 + 1;
            let line = Line { seq, at: self.clock.wall(), since_start_ns: at.as_nanos(), fact: fact.clone() };
            match append(&mut file, &line) {
                Ok(()) => written.file = Some(file),
                // What follows would be a journal with a hole.
                Err(error) => written.failed = Some(error),
            }
        }
        written.entries.push(Entry { at, node: NodeId::WORLD, fact });
    }
}

/// Writes a line at once and as a whole.
fn append(file: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line).expect("facts are plain data");
    text.push(b'\n');
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use squall_sim::invariant::Property;
    use squall_sim::verdict::Severity;

    use super::*;

    fn queued(job: &str) -> Fact {
        Fact::JobQueued { job: job.into() }
    }

    #[test]
    fn the_file_has_each_fact_on_a_line_as_soon_as_it_happened() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.jsonl");
        let journal = LiveJournal::start(LiveClock::start(), Some(&path)).expect("it can be written");
        for (n, name) in (1..).zip(["job-1", "job-2"]) {
            journal.record(queued(name));
            let text = std::fs::read_to_string(&path).expect("it is there");
            let last: Line = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
            assert_eq!((last.seq, last.fact, text.lines().count()), (n, queued(name), n as usize));
        }
    }

    #[test]
    fn it_is_judged_in_time_since_the_start() {
        let journal = LiveJournal::start(LiveClock::start(), None).expect("no file");
        let none: Box<dyn Invariant> = Box::new(Property::always("no-job", "No job.", "job", |history, found| {
            for entry in history.journal {
                assert!(entry.at <= history.end);
                found.breach("job-1", entry.at, "queued");
            }
        }));
        let invariants = [none];
        assert_eq!(journal.judge(&invariants).verdict.severity(), Severity::Pass);
        journal.record(queued("job-1"));
        assert_eq!(journal.judge(&invariants).verdict.severity(), Severity::Violation);
        assert_eq!(journal.extent().0, 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_told() {
        let journal = LiveJournal::start(LiveClock::start(), Some(Path::new("/dev/full"))).expect("it can be opened");
        assert!(journal.failure().is_none());
        journal.record(queued("job-1"));
        assert_eq!(journal.failure().map(|why| why.kind()), Some(io::ErrorKind::StorageFull));
        assert_eq!(journal.extent().0, 1);
    }
}
