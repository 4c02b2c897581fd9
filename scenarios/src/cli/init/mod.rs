//! `squall init`.

mod cfg;
mod manifest;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::cfg::Cfg;
use self::manifest::{Manifest, Source};
use super::Surroundings;
use super::output::Output;
use super::refusal::Refusal;

/// Show what a cargo project needs to test an agent of its own, and put it in place: the cfg of the simulation, the
/// dev-dependencies and one test that passes. What is there already is not changed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder of the package.
    #[arg(value_name = "PACKAGE", default_value = ".")]
    package: PathBuf,
    /// Depend on the checkout of squall in this folder [default: the one that this program was built from].
    #[arg(long, value_name = "DIR", conflicts_with = "git")]
    path: Option<PathBuf>,
    /// Depend on squall in this git repository instead, as a project that others build has to.
    #[arg(long, value_name = "URL")]
    git: Option<String>,
    /// Show what is missing and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Why a folder is not set up.
#[derive(Debug, Error)]
pub(crate) enum InitError {
    #[error("{} has no Cargo.toml; init takes the folder of a cargo package", .0.display())]
    NoManifest(PathBuf),
    #[error("cannot read {}: {why}; init takes the folder of a cargo package", path.display())]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{} is not as cargo reads it: {why}; init takes the folder of a cargo package", path.display())]
    NotToml { path: PathBuf, why: String },
    #[error("{} is of a workspace and of no package; init takes the folder of one of its packages", .0.display())]
    NoPackage(PathBuf),
    #[error("{} is squall itself; init takes the folder of the package whose agent is to be tested", .0.display())]
    Squall(PathBuf),
    #[error("{} is no checkout of squall; --path takes the folder with its Cargo.toml", .0.display())]
    NoCheckout(PathBuf),
    #[error("cannot write to {}: {why}; nothing was written, as init needs a package whose folder it can write to", path.display())]
    Unwritable { path: PathBuf, why: io::Error },
    #[error("the checkout that this program was built from is gone; say where squall is with --path DIR or --git URL")]
    NoSource,
}

/// The test that a project begins with. It is one of this project's own, too.
const FIRST_TEST: &str = include_str!("../../../../tests/examples/first.rs");
/// Where it is put. A test target must not have the name of a crate that it uses.
const FIRST_TEST_PATH: &str = "tests/simulation.rs";
/// The checkout that this program was built from.
const BUILT_FROM: &str = env!("CARGO_MANIFEST_DIR");

pub(super) fn run(arguments: &Arguments, around: &mut Surroundings<'_>) -> Result<u8, Refusal> {
    let plan = Plan::of(arguments)?;
    write!(around.out, "{}", plan.told())?;
    if plan.changes.is_empty() {
        writeln!(around.out, "nothing to write")?;
    } else if arguments.dry_run {
        writeln!(around.out, "nothing was written: --dry-run")?;
    } else {
        plan.put_in_place()?;
        writeln!(around.out, "written; now run: cargo test --test simulation")?;
    }
    Ok(0)
}

/// What is there, what is missing, and what only its owner can change.
struct Plan {
    lines: Vec<String>,
    changes: Vec<Change>,
}

/// A file that is written anew, with what was in it.
struct Change {
    path: PathBuf,
    text: String,
}

impl Plan {
    fn of(arguments: &Arguments) -> Result<Self, Refusal> {
        let package = absolute(&arguments.package)?;
        let manifest = Manifest::read(&package)?;
        let source = source(arguments)?;
        let mut plan = Self { lines: Vec::new(), changes: Vec::new() };
        plan.cfg(Cfg::of(&manifest.workspace(), &package)?);
        plan.dependencies(manifest, &source)?;
        plan.test(&package)?;
        Ok(plan)
    }

    fn cfg(&mut self, cfg: Cfg) {
        match cfg {
            Cfg::There(path) => self.there(&path, "sets the cfg"),
            Cfg::Missing { path, text, added } => self.change(path, text, &added),
            Cfg::ByHand(path) => self.lines.push(format!(
                "{}: by hand: it sets rustflags, which are left as they are; add \"--cfg\", \"madsim\" to them, and to \
                 rustdocflags",
                path.display()
            )),
        }
    }

    fn dependencies(&mut self, manifest: Manifest, source: &Source) -> Result<(), Refusal> {
        let path = manifest.path.clone();
        if let Some(found) = manifest.other_axum() {
            self.lines.push(format!(
                "{}: by hand: axum is {found} here, and servers of a world are those of axum {}",
                path.display(),
                manifest::AXUM,
            ));
        }
        match manifest.with_dependencies(source)? {
            Some((text, added)) => self.change(path, text, &added),
            None => self.there(&path, "has the dev-dependencies"),
        }
        Ok(())
    }

    fn test(&mut self, package: &Path) -> Result<(), Refusal> {
        match tested_by(&package.join("tests"))? {
            Some(path) => self.there(&path, "is a test with squall"),
            None => self.change(package.join(FIRST_TEST_PATH), FIRST_TEST.to_owned(), FIRST_TEST),
        }
        Ok(())
    }

    fn there(&mut self, path: &Path, what: &str) {
        self.lines.push(format!("{}: there: it {what}", path.display()));
    }

    /// Shows the lines that are added, and notes the change.
    fn change(&mut self, path: PathBuf, text: String, added: &str) {
        let kind = if path.exists() { "added" } else { "new" };
        let lines: Vec<String> = added.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
        self.lines.push(format!("{}: {kind}:\n{}", path.display(), lines.join("\n")));
        self.changes.push(Change { path, text });
    }

    fn told(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Writes every file, or none: a file appears at its place after all of them could be written beside theirs.
    fn put_in_place(self) -> Result<(), Refusal> {
        let mut made = Vec::new();
        let written = self.changes.into_iter().map(|change| written(change, &mut made)).collect::<Result<Vec<_>, _>>();
        if written.is_err() {
            // Folders that were made for files which do not come.
            for folder in made.iter().rev() {
                let _ = fs::remove_dir(folder);
            }
        }
        written?.into_iter().try_for_each(Output::finish)
    }
}

/// A file that is complete and not yet at its place.
fn written(change: Change, made: &mut Vec<PathBuf>) -> Result<Output, Refusal> {
    if let Some(folder) = change.path.parent()
        && !folder.exists()
    {
        fs::create_dir(folder).map_err(|why| InitError::Unwritable { path: folder.to_owned(), why })?;
        made.push(folder.to_owned());
    }
    let complete = Output::create(&change.path).and_then(|mut output| output.write_all(&change.text).map(|()| output));
    complete.map_err(|refusal| match refusal {
        // Here it is not the place of an option.
        Refusal::Unwritable { path, why } => InitError::Unwritable { path, why }.into(),
        refusal => refusal,
    })
}

/// Where squall comes from.
fn source(arguments: &Arguments) -> Result<Source, Refusal> {
    let checkout = |folder: &Path| Manifest::read(folder).is_err_and(|error| matches!(error, InitError::Squall(_)));
    match (&arguments.git, &arguments.path) {
        (Some(url), _) => Ok(Source::Git(url.clone())),
        (None, Some(path)) if !checkout(path) => Err(InitError::NoCheckout(path.clone()).into()),
        (None, Some(path)) => Ok(Source::Path(absolute(path)?)),
        (None, None) if checkout(Path::new(BUILT_FROM)) => Ok(Source::Path(BUILT_FROM.into())),
        (None, None) => Err(InitError::NoSource.into()),
    }
}

/// A file among these tests that uses squall.
fn tested_by(tests: &Path) -> Result<Option<PathBuf>, Refusal> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |why| InitError::Unreadable { path, why }
    };
    let entries = match fs::read_dir(tests) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(unreadable(tests))?,
    };
    let mut paths =
        entries.map(|entry| entry.map(|it| it.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable(tests))?;
    paths.sort();
    let is_rust = |path: &PathBuf| path.is_file() && path.extension().is_some_and(|extension| extension == "rs");
    for path in paths.into_iter().filter(is_rust) {
        if fs::read_to_string(&path).map_err(unreadable(&path))?.contains("squall::") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn absolute(path: &Path) -> Result<PathBuf, InitError> {
    fs::canonicalize(path).map_err(|why| InitError::Unreadable { path: path.to_owned(), why })
}
