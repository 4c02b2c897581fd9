//! The disk of an agent's machine.

use std::io;

use bytes::Bytes;

/// A small file system, addressed by plain path names. What was not synced may be gone after a crash.
///
/// # Errors
/// Every call fails as the operating system's would: [`io::ErrorKind::NotFound`] for a missing file,
/// [`io::ErrorKind::StorageFull`] when nothing more fits.
pub trait Disk: Send + Sync + 'static {
    /// The whole content of a file.
    fn read(&self, path: &str) -> io::Result<Bytes>;
    /// Replaces or creates a file.
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()>;
    /// Adds to the end of a file, creating it if need be.
    fn append(&self, path: &str, content: &[u8]) -> io::Result<()>;
    /// Makes a file's present content survive a crash of the machine.
    fn sync(&self, path: &str) -> io::Result<()>;
    /// Atomically gives `from` the name `to`, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
}
