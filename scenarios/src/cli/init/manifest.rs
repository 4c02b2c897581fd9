//! The manifest of a package: what it depends on, and its workspace.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use toml_edit::{DocumentMut, InlineTable, Item, Table, TomlError, Value};

use super::InitError;

/// The axum that servers of a world are made with.
pub(super) const AXUM: &str = "0.8";
const NAME: &str = "Cargo.toml";
const DEV_DEPENDENCIES: &str = "dev-dependencies";

/// Where squall comes from. It is in no registry.
pub(super) enum Source {
    /// A folder.
    Path(PathBuf),
    /// A repository.
    Git(String),
}

/// The manifest of a package.
pub(super) struct Manifest {
    pub(super) path: PathBuf,
    folder: PathBuf,
    document: DocumentMut,
}

impl Manifest {
    /// Reads the manifest of the package in a folder.
    pub(super) fn read(folder: &Path) -> Result<Self, InitError> {
        let path = folder.join(NAME);
        let document = parse(&path)?.ok_or_else(|| InitError::NoManifest(folder.to_owned()))?;
        let name = document.get("package").and_then(|package| package.get("name"));
        match name.map(|name| name.as_str() == Some("squall")) {
            None => Err(InitError::NoPackage(path)),
            Some(true) => Err(InitError::Squall(folder.to_owned())),
            Some(false) => Ok(Self { path, folder: folder.to_owned(), document }),
        }
    }

    /// The folder of the workspace that the package belongs to, where cargo is run as well; the package's own if there is
    /// none.
    pub(super) fn workspace(&self) -> PathBuf {
        let excludes = |root: &Path, workspace: &Item| {
            let excluded = workspace.get("exclude").and_then(Item::as_array).into_iter().flatten();
            excluded.filter_map(Value::as_str).any(|excluded| self.folder.starts_with(root.join(excluded)))
        };
        let is_root = |folder: &&Path| match parse(&folder.join(NAME)) {
            Ok(Some(manifest)) => manifest.get("workspace").is_some_and(|workspace| !excludes(folder, workspace)),
            _ => false,
        };
        self.folder.ancestors().find(is_root).unwrap_or(&self.folder).to_owned()
    }

    /// The version of axum that the package asks for, if it is not ours.
    pub(super) fn other_axum(&self) -> Option<&str> {
        let asked =
            ["dependencies", DEV_DEPENDENCIES].iter().find_map(|table| self.document.get(table)?.get("axum"))?;
        let version = asked.as_str().or_else(|| asked.get("version")?.as_str())?;
        let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
        (digits != AXUM && !digits.starts_with(&format!("{AXUM}."))).then_some(version)
    }

    /// The manifest with what it lacks, and the lines that were added; `None` when it lacks nothing.
    pub(super) fn with_dependencies(mut self, source: &Source) -> Result<Option<(String, String)>, InitError> {
        let mut missing = Vec::new();
        if !self.depends_on("squall", &[DEV_DEPENDENCIES]) {
            missing.push(("squall", self.squall(source)));
        }
        if !self.depends_on("axum", &["dependencies", DEV_DEPENDENCIES]) {
            let json: Value = ["json"].into_iter().collect();
            missing.push(("axum", inline([("version", AXUM.into()), no_defaults(), ("features", json)])));
        }
        if missing.is_empty() {
            return Ok(None);
        }
        let added = add(&mut self.document, &self.path, DEV_DEPENDENCIES, missing)?;
        Ok(Some((self.document.to_string(), added)))
    }

    fn depends_on(&self, name: &str, tables: &[&str]) -> bool {
        tables.iter().any(|table| self.document.get(table).is_some_and(|table| table.get(name).is_some()))
    }

    fn squall(&self, source: &Source) -> Value {
        let from = match source {
            Source::Path(path) => ("path", relative(&self.folder, path).into()),
            Source::Git(url) => ("git", url.into()),
        };
        inline([from, no_defaults()])
    }
}

/// The command line is no part of a test.
fn no_defaults() -> (&'static str, Value) {
    ("default-features", false.into())
}

/// Adds members to a table of a file, and says which lines are new.
pub(super) fn add(
    document: &mut DocumentMut,
    path: &Path,
    name: &str,
    members: Vec<(&str, Value)>,
) -> Result<String, InitError> {
    let table = document.entry(name).or_insert_with(|| Item::Table(Table::new())).as_table_like_mut();
    let table =
        table.ok_or_else(|| InitError::NotToml { path: path.to_owned(), why: format!("{name:?} is no table") })?;
    let mut added = format!("[{name}]\n");
    for (name, member) in members {
        added += &format!("{name} = {member}\n");
        table.insert(name, Item::Value(member));
    }
    Ok(added)
}

fn inline<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::InlineTable(members.into_iter().collect::<InlineTable>())
}

/// Reads a file of cargo's; `None` if there is none.
pub(super) fn parse(path: &Path) -> Result<Option<DocumentMut>, InitError> {
    let text = match fs::read_to_string(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|why| InitError::Unreadable { path: path.to_owned(), why })?,
    };
    let parsed = text.parse::<DocumentMut>();
    let why = |error: TomlError| error.message().lines().collect::<Vec<_>>().join(" ");
    parsed.map(Some).map_err(|error| InitError::NotToml { path: path.to_owned(), why: why(error) })
}

/// The way from one folder to another; from the root when they have nothing but that in common.
fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let shared_folders = from.components().take(common).filter(|part| matches!(part, Component::Normal(_))).count();
    if shared_folders == 0 {
        return to.display().to_string();
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(common)).collect();
    if way.as_os_str().is_empty() { ".".to_owned() } else { way.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_short() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/home/me/agent", "/home/me/squall"), "../squall");
        assert_eq!(way("/home/me/squall/mine", "/home/me/squall"), "..");
        assert_eq!(way("/home/me/agent", "/opt/squall"), "/opt/squall");
    }
}
