//! A directory of this machine's file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::disk::Disk;

/// A directory of this machine's file system. Names may contain directories, which are made when something is written
/// into them, but lead nowhere outside.
#[derive(Clone, Debug)]
pub struct LiveDisk {
    root: PathBuf,
}

impl LiveDisk {
    /// The files below a directory, which is made if need be.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn at(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if plain { Ok(self.root.join(name)) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    fn path_to_write(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name)?;
        fs::create_dir_all(directory_of(&path))?;
        Ok(path)
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().expect("it is below the root")
}

impl Disk for LiveDisk {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        Ok(fs::read(self.path(path)?)?.into())
    }

    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        fs::write(self.path_to_write(path)?, content)
    }

    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path_to_write(path)?)?;
        file.write_all(content)
    }

    /// Syncs the directory as well: a new file's name is not safe before.
    fn sync(&self, path: &str) -> io::Result<()> {
        let path = self.path(path)?;
        File::open(&path)?.sync_all()?;
        File::open(directory_of(&path))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from)?, self.path_to_write(to)?);
        fs::rename(from, &to)?;
        File::open(directory_of(&to))?.sync_all()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path)?)
    }
}
