//! The disk of a machine, watched: whatever can be seen under a file's final name goes into the journal.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use squall_protocol::flox::agent::FOLDER;
use squall_protocol::flox::server::Publisher;
use squall_protocol::flox::wire::Digest;
use squall_protocol::{Disk, Fact, Ledger};

/// A disk whose final names are watched. Handles share what they know.
#[derive(Clone)]
pub(super) struct WatchedDisk {
    disk: Arc<dyn Disk>,
    publisher: Publisher,
    ledger: Arc<dyn Ledger>,
    /// Names under which a part is seen at present: that it grows is no news.
    parts: Arc<Mutex<BTreeSet<String>>>,
}

impl WatchedDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, publisher: Publisher, ledger: Arc<dyn Ledger>) -> Self {
        Self { disk, publisher, ledger, parts: Arc::default() }
    }

    /// Tells what is seen under a name, if it is a final one.
    fn look(&self, path: &str) {
        let Some((version, artifact)) = path.strip_prefix(FOLDER).and_then(|name| self.version_of(name)) else {
            return;
        };
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(content) = self.disk.read(path) else {
            parts.remove(path);
            return;
        };
        let published = self.publisher.published(&version);
        let may_be_whole = content.len() as u64 == self.publisher.parameters().size_bytes;
        if !may_be_whole && !parts.insert(path.to_owned()) {
            return;
        }
        let digest = Digest::of(&content);
        let whole = published.iter().find(|known| **known == digest);
        if whole.is_some() {
            parts.remove(path);
        }
        let Some(expected) = whole.or(published.last()) else { return };
        let (digest, published) = (digest.to_string(), expected.to_string());
        self.ledger.record(Fact::ArtifactVisible { artifact: artifact.into(), digest, published });
    }

    fn version_of(&self, name: &str) -> Option<(String, String)> {
        let versions = self.publisher.parameters().versions.iter();
        versions.map(|version| (version.clone(), self.publisher.file_of(version))).find(|(_, file)| file == name)
    }
}

impl Disk for WatchedDisk {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.disk.read(path)
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let done = self.disk.write(path, content);
        self.look(path);
        done
    }

    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let done = self.disk.append(path, content);
        self.look(path);
        done
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        self.disk.sync(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let done = self.disk.rename(from, to);
        self.look(to);
        done
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let done = self.disk.remove(path);
        self.look(path);
        done
    }
}
