//! A disk in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::disk::Disk;

/// A disk that loses nothing, and may be full.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Bytes>>>, Arc<AtomicBool>);

impl Files {
    pub fn has(&self, path: &str) -> bool {
        self.0.lock().unwrap().contains_key(path)
    }

    /// Has it no room from now on?
    pub fn full(&self, full: bool) {
        self.1.store(full, Ordering::Relaxed);
    }
}

impl Disk for Files {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.0.lock().unwrap().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.lock().unwrap().insert(path.into(), Bytes::copy_from_slice(content));
        Ok(())
    }
    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let whole = [&self.read(path).unwrap_or_default()[..], content].concat();
        self.write(path, &whole)
    }
    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let content = self.read(from)?;
        self.remove(from)?;
        self.write(to, &content)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
