//! The disk of a machine, which tells the journal when it has no room: what could not be written was not begun.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use squall_protocol::facts::Agent;
use squall_protocol::{Disk, Fact, Ledger};

/// A disk whose refusals are facts.
pub(super) struct ToldDisk {
    disk: Arc<dyn Disk>,
    ledger: Arc<dyn Ledger>,
    machine: Agent,
}

impl ToldDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, ledger: Arc<dyn Ledger>, machine: Agent) -> Self {
        Self { disk, ledger, machine }
    }

    fn tell<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            self.ledger.record(Fact::DiskFull { machine: self.machine.clone() });
        }
        done
    }
}

impl Disk for ToldDisk {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.disk.read(path)
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.tell(self.disk.write(path, content))
    }

    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.tell(self.disk.append(path, content))
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        self.disk.sync(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
}
