//! The disk of a node: survives a crash up to the last sync.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use squall_protocol::Disk;

use crate::effects::{Effects, FaultId};
use crate::mutex::lock;

/// A simulated disk. Handles share it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, File>,
    limits: Vec<Limit>,
}

/// The disk holds at most so many bytes, because of a fault that counts what it refuses.
struct Limit {
    fault: FaultId,
    room_bytes: usize,
    effects: Effects,
}

#[derive(Clone, Default)]
struct File {
    now: Option<Bytes>,
    synced: Option<Bytes>,
}

impl SimDisk {
    /// Forgets what was never synced, as a crash of the machine does.
    ///
    /// Returns how many files lost something.
    pub(crate) fn crash(&self) -> usize {
        let mut state = lock(&self.0);
        let mut lost = 0;
        for file in state.files.values_mut() {
            if file.now != file.synced {
                lost += 1;
                file.now = file.synced.clone();
            }
        }
        state.files.retain(|_, file| file.now.is_some());
        lost
    }

    /// Lets the disk hold at most so many bytes from now on. `fault` counts the writes that are refused.
    pub(crate) fn limit_room(&self, fault: FaultId, room_bytes: usize, effects: &Effects) {
        lock(&self.0).limits.push(Limit { fault, room_bytes, effects: effects.clone() });
    }

    /// Ends the limit that a fault brought.
    pub(crate) fn lift_limit(&self, fault: FaultId) {
        lock(&self.0).limits.retain(|limit| limit.fault != fault);
    }

    /// How many bytes all files have.
    pub fn used_bytes(&self) -> usize {
        lock(&self.0).used_bytes()
    }
}

impl State {
    fn used_bytes(&self) -> usize {
        self.files.values().filter_map(|file| file.now.as_ref()).map(Bytes::len).sum()
    }

    fn put(&mut self, path: &str, content: Bytes) -> io::Result<()> {
        let before = self.files.get(path).and_then(|file| file.now.as_ref()).map_or(0, Bytes::len);
        self.make_room(content.len().saturating_sub(before))?;
        self.files.entry(path.to_owned()).or_default().now = Some(content);
        Ok(())
    }

    /// Grows a file in place as long as nobody else holds its content: a download comes in many pieces.
    fn extend(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.make_room(content.len())?;
        let file = self.files.entry(path.to_owned()).or_default();
        let before = file.now.take().unwrap_or_default();
        let mut grown = before.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        grown.extend_from_slice(content);
        file.now = Some(grown.freeze());
        Ok(())
    }

    /// Is there room for so many more bytes?
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        if bytes > 0
            && let Some(limit) = self.limit_broken_by(self.used_bytes() + bytes)
        {
            limit.effects.count(limit.fault);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn limit_broken_by(&self, bytes: usize) -> Option<&Limit> {
        self.limits.iter().find(|limit| bytes > limit.room_bytes)
    }

    fn get(&self, path: &str) -> io::Result<Bytes> {
        let found = self.files.get(path).and_then(|file| file.now.clone());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        lock(&self.0).get(path)
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        lock(&self.0).put(path, Bytes::copy_from_slice(content))
    }

    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        lock(&self.0).extend(path, content)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        let now = state.get(path)?;
        state.files.entry(path.to_owned()).or_default().synced = Some(now);
        Ok(())
    }

    /// The rename itself is durable, and the file is as durable as it was.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        let file = state.files.remove(from).filter(|file| file.now.is_some()).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.get(path)?;
        state.files.remove(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_takes_what_was_not_synced() {
        let disk = SimDisk::default();
        disk.write("a", b"one").unwrap();
        disk.sync("a").unwrap();
        disk.append("a", b" two").unwrap();
        disk.write("b", b"never synced").unwrap();
        assert_eq!(disk.read("a").unwrap(), "one two");
        assert_eq!(disk.crash(), 2);
        assert_eq!(disk.read("a").unwrap(), "one");
        assert_eq!(disk.read("b").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn rename_replaces_in_one_step() {
        let disk = SimDisk::default();
        disk.write("part", b"new").unwrap();
        disk.write("final", b"old").unwrap();
        disk.rename("part", "final").unwrap();
        assert_eq!(disk.read("final").unwrap(), "new");
        assert!(disk.read("part").is_err());
    }

    #[test]
    fn a_full_disk_says_so_and_keeps_what_it_had() {
        let disk = SimDisk::default();
        disk.write("a", b"12345678").unwrap();
        let effects = Effects::default();
        disk.limit_room(3, 10, &effects);
        assert_eq!(disk.write("b", b"123").unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.write("a", b"1234567890").unwrap();
        assert_eq!(disk.used_bytes(), 10);
        assert_eq!(effects.of(3), 1);
        disk.lift_limit(3);
        disk.write("b", b"123").unwrap();
    }
}
