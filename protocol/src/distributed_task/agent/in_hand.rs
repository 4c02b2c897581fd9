//! The file that names the job in hand, so that the next process knows of a worker that this one leaves behind, and can
//! ask it to end.
//!
//! The listener writes it, as it knows of every extension of the lease. A worker that has lost its listener writes it, too:
//! the disk may have been full before. It is not synced: a crash of the machine takes the workers with it, and may take the file.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Clock, Mono};
use crate::disk::Disk;
use crate::distributed_task::line::Line;
use crate::distributed_task::wire::{JobMessage, TaskResult};

/// The job in hand, and until when its worker may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InHand {
    pub job_id: Uuid,
    written: Duration,
    until: Duration,
    /// A process that does not know the worker was told to cancel the job, and leaves it this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_by: Option<Duration>,
}

const FILE: &str = ".job_in_hand";

impl InHand {
    /// Notes until when the worker of a job may run. What was asked of it stays. False when the disk does not take it.
    pub fn note(job_id: Uuid, now: Mono, until: Mono, disk: &dyn Disk) -> bool {
        let before = Self::read(disk).filter(|before| before.job_id == job_id);
        let end_by = before.and_then(|before| before.end_by);
        Self { job_id, written: now.since_start(), until: until.since_start(), end_by }.write(disk)
    }

    pub fn read(disk: &dyn Disk) -> Option<Self> {
        serde_json::from_slice(&disk.read(FILE).ok()?).ok()
    }

    fn write(&self, disk: &dyn Disk) -> bool {
        let written = disk.write(FILE, &serde_json::to_vec(self).expect("plain data"));
        if let Err(error) = &written {
            tracing::warn!("cannot write {FILE}: {error}");
        }
        written.is_ok()
    }

    /// Asks the worker of a former process to cancel its job, and to be gone by then. What was asked first stays.
    pub fn cancel(mut self, end_by: Mono, disk: &dyn Disk) {
        self.end_by.get_or_insert(end_by.since_start());
        self.write(disk);
    }

    /// When the worker is to be gone, if a process that does not know it has asked for that.
    pub fn end_by(&self) -> Option<Mono> {
        self.end_by.map(Mono::from_start)
    }

    /// The job is no longer in anybody's hand.
    pub fn clear(disk: &dyn Disk, job_id: Uuid) {
        if Self::read(disk).is_some_and(|in_hand| in_hand.job_id == job_id) {
            let _ = disk.remove(FILE);
        }
    }

    /// Not when its lease has passed, and not when the machine has been started anew since.
    pub fn may_live(&self, now: Mono) -> bool {
        let now = now.since_start();
        self.written <= now && now < self.until
    }
}

/// A full disk may have room again so much later.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// The result of a job, written down by its worker before it reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pub result: TaskResult,
    /// All reports of this attempt carry it.
    pub key: Uuid,
    /// Since when it is known, by the machine's monotonic clock.
    since: Duration,
}

impl Recorded {
    /// A result that becomes known now.
    pub fn now(result: TaskResult, line: &Line) -> Self {
        Self { result, key: line.random.guid(), since: line.mono().since_start() }
    }

    /// Since when it is known.
    pub fn since(&self) -> Mono {
        Mono::from_start(self.since)
    }

    pub fn read(disk: &dyn Disk, job: &JobMessage) -> Option<Self> {
        serde_json::from_slice(&disk.read(&file(job)).ok()?).ok()
    }

    /// Writes it down, as soon as the disk takes it.
    pub async fn write(&self, clock: &dyn Clock, disk: &dyn Disk, job: &JobMessage) {
        while let Err(error) = disk.write(&file(job), &serde_json::to_vec(self).expect("plain data")) {
            tracing::warn!("cannot write the result of job {}: {error}", job.job_id);
            clock.sleep(WRITE_AGAIN).await;
        }
    }

    pub fn clear(disk: &dyn Disk, job: &JobMessage) {
        let _ = disk.remove(&file(job));
    }
}

fn file(job: &JobMessage) -> String {
    format!(".result-{}-{}", job.job_id, job.attempt())
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;

    use super::*;
    use crate::fakes::Files;
    use crate::virtual_clock::VirtualClock;

    /// A disk that has room from this time on.
    struct FullUntil(Duration, VirtualClock, Files);

    impl Disk for FullUntil {
        fn read(&self, path: &str) -> io::Result<Bytes> {
            self.2.read(path)
        }
        fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
            if self.1.now() < self.0 { Err(io::ErrorKind::StorageFull.into()) } else { self.2.write(path, content) }
        }
        fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
            self.2.append(path, content)
        }
        fn sync(&self, path: &str) -> io::Result<()> {
            self.2.sync(path)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.2.rename(from, to)
        }
        fn remove(&self, path: &str) -> io::Result<()> {
            self.2.remove(path)
        }
    }

    #[test]
    fn a_result_is_written_down_as_soon_as_there_is_room() {
        let (clock, job) = (VirtualClock::default(), JobMessage::default());
        let disk = FullUntil(Duration::from_secs(12), clock.clone(), Files::default());
        let recorded = Recorded { result: TaskResult::Succeeded, key: Uuid::nil(), since: Duration::ZERO };
        clock.run(recorded.write(&clock, &disk, &job));
        assert_eq!(clock.now(), Duration::from_secs(15));
        assert_eq!(Recorded::read(&disk, &job), Some(recorded));
    }
}
