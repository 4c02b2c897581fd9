//! The workspace of a machine, and how a job left it.

use std::io;

use crate::disk::Disk;

/// The file that stands for the workspace.
pub const WORKSPACE: &str = "workspace";

/// The file that keeps how a job of a build left the workspace.
pub fn snapshot(build_id: &str, vm_seq_id: &str) -> String {
    format!("snapshot/{build_id}/{vm_seq_id}")
}

/// Keeps how a job leaves the workspace. A job that leaves none leaves nothing to keep.
pub(super) fn keep(disk: &dyn Disk, build_id: &str, vm_seq_id: &str) -> io::Result<()> {
    let Ok(content) = disk.read(WORKSPACE) else { return Ok(()) };
    let kept = snapshot(build_id, vm_seq_id);
    disk.write(&kept, &content)?;
    disk.sync(&kept)
}

/// Puts the workspace back to how a job left it: empty when that was not on this machine.
pub(super) fn put_back(disk: &dyn Disk, build_id: &str, vm_seq_id: &str) -> io::Result<()> {
    match disk.read(&snapshot(build_id, vm_seq_id)) {
        Ok(kept) => disk.write(WORKSPACE, &kept),
        Err(_) => disk.write(WORKSPACE, b""),
    }
}
