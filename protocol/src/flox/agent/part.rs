//! A file on its way: what has come of it, and of which object.

use bytes::Bytes;

use super::Failure;
use crate::disk::Disk;
use crate::flox::wire::{Digest, EntityTag};

/// A file that is being fetched.
#[derive(Clone, Debug)]
pub(super) struct Part {
    path: String,
}

impl Part {
    pub(super) fn at(path: String) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The file that says of which object the bytes are.
    fn tag_path(&self) -> String {
        format!("{}.etag", self.path)
    }

    pub(super) fn exists(&self, disk: &dyn Disk) -> bool {
        disk.read(&self.path).is_ok()
    }

    /// How many bytes are there.
    pub(super) fn length(&self, disk: &dyn Disk) -> u64 {
        disk.read(&self.path).map_or(0, |content| content.len() as u64)
    }

    /// The object that the bytes are of, if it had an entity tag.
    pub(super) fn tag(&self, disk: &dyn Disk) -> Option<EntityTag> {
        let text = disk.read(&self.tag_path()).ok()?;
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    /// Begins anew, with the bytes of another object.
    pub(super) fn begin(&self, disk: &dyn Disk, tag: Option<&EntityTag>) -> Result<(), Failure> {
        self.forget_tag(disk);
        disk.write(&self.path, b"").map_err(self.failed())?;
        match tag {
            Some(tag) => disk.write(&self.tag_path(), tag.to_string().as_bytes()).map_err(self.failed()),
            None => Ok(()),
        }
    }

    pub(super) fn append(&self, disk: &dyn Disk, bytes: &[u8]) -> Result<(), Failure> {
        disk.append(&self.path, bytes).map_err(self.failed())
    }

    pub(super) fn content(&self, disk: &dyn Disk) -> Result<(Bytes, Digest), Failure> {
        let content = disk.read(&self.path).map_err(self.failed())?;
        let digest = Digest::of(&content);
        Ok((content, digest))
    }

    /// Removes whatever there is.
    pub(super) fn remove(&self, disk: &dyn Disk) {
        self.forget_tag(disk);
        // Nothing may have come yet.
        let _ = disk.remove(&self.path);
    }

    /// Gives the whole file its final name, in one step and for good.
    pub(super) fn finish(&self, disk: &dyn Disk, final_name: &str) -> Result<(), Failure> {
        if self.path != final_name {
            disk.sync(&self.path).map_err(self.failed())?;
            disk.rename(&self.path, final_name).map_err(self.failed())?;
        }
        self.forget_tag(disk);
        Ok(())
    }

    fn forget_tag(&self, disk: &dyn Disk) {
        // There need not be one.
        let _ = disk.remove(&self.tag_path());
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> Failure + '_ {
        |error| Failure::Disk { path: self.path.clone(), why: error.kind() }
    }
}
