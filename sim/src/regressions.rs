//! Cases of the past: a folder of case files, each a failure that was repaired. Every check runs them first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::case::Case;
use crate::case_file::{self, CaseFileError};

/// Where they are looked for, in the folder in which the program runs.
pub const FOLDER: &str = "squall-regressions";

/// A case of the past.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Its file.
    pub file: String,
    /// The case. It is run with the choices of whichever variant is checked.
    pub case: Case,
}

/// Why a folder of cases cannot be used. A case of the past is never left out in silence.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegressionError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read the case of the past {}: {why}", path.display())]
    Unreadable {
        /// The folder, or the file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A file is no case.
    #[error("{} is no case of the past: {why}", path.display())]
    NoCase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: CaseFileError,
    },
}

/// Every case file of a folder, by name; none if there is no such folder.
///
/// # Errors
/// [`RegressionError`] for the first file that cannot be read.
pub fn load(folder: &Path) -> Result<Vec<Past>, RegressionError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |why| RegressionError::Unreadable { path, why }
    };
    let entries = match fs::read_dir(folder) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable(folder))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>();
    let mut paths = paths.map_err(unreadable(folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        let file = path.display().to_string();
        match case_file::parse(&text) {
            Ok(case) => Ok(Past { file, case }),
            Err(why) => Err(RegressionError::NoCase { path, why }),
        }
    };
    paths.into_iter().map(read).collect()
}
