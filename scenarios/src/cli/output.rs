//! Files that are there as a whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::refusal::Refusal;

/// A file that is being written beside its place and appears there when it is complete.
pub(super) struct Output {
    path: PathBuf,
    file: Kind,
}

enum Kind {
    /// A regular file, new or to be replaced.
    Regular(NamedTempFile),
    /// A pipe, a terminal or the like, which nothing can replace.
    Special(fs::File),
}

impl Output {
    /// Makes sure that the file can be written, before any work is done for it.
    pub(super) fn create(path: &Path) -> Result<Self, Refusal> {
        let file = open(path).map_err(|why| Refusal::Unwritable { path: path.to_owned(), why })?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn write_all(&mut self, text: &str) -> Result<(), Refusal> {
        let written = match &mut self.file {
            Kind::Regular(file) => file.write_all(text.as_bytes()),
            Kind::Special(file) => file.write_all(text.as_bytes()),
        };
        written.map_err(|why| Refusal::Unwritable { path: self.path.clone(), why })
    }

    /// The file is complete.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        let Kind::Regular(file) = self.file else { return Ok(()) };
        let persisted = file.persist(&self.path);
        persisted.map(drop).map_err(|error| Refusal::Unwritable { path: self.path, why: error.error })
    }
}

fn open(path: &Path) -> io::Result<Kind> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => fs::File::options().write(true).open(path).map(Kind::Special),
        _ => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut builder = Builder::new();
            #[cfg(unix)]
            {
                // As any new file; the process's own mask still applies.
                use std::os::unix::fs::PermissionsExt;
                builder.permissions(fs::Permissions::from_mode(0o666));
            }
            let made = builder.prefix(".squall-").tempfile_in(folder);
            // Nobody asked for the name of the file that is in the making.
            made.map(Kind::Regular).map_err(|why| why.kind().into())
        }
    }
}

/// Makes sure that a folder is there.
pub(super) fn folder(path: &Path) -> Result<(), Refusal> {
    fs::create_dir_all(path).map_err(|why| Refusal::Unwritable { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("story.txt");
        let mut output = Output::create(&path).expect("it can be written");
        output.write_all("half").expect("there is room");
        assert!(!path.exists());
        output.finish().expect("it can be moved");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "half");
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("story.txt");
        Output::create(&path).expect("it can be written").write_all("half").expect("there is room");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Output::create(folder.path()), Err(Refusal::Unwritable { .. })));
        assert!(matches!(Output::create(&folder.path().join("no/where")), Err(Refusal::Unwritable { .. })));
    }
}
