//! The cfg of the simulation in cargo's configuration.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Value};

use super::InitError;
use super::manifest::{add, parse};

const FLAGS: [&str; 2] = ["rustflags", "rustdocflags"];

/// How the cfg stands.
pub(super) enum Cfg {
    /// This file sets it.
    There(PathBuf),
    /// This file sets flags of its own. Cargo takes the flags of one place and forgets the others, so only its owner can
    /// say where the cfg belongs.
    ByHand(PathBuf),
    /// Nothing sets flags; this is the file that should.
    Missing {
        /// The file.
        path: PathBuf,
        /// The whole of it.
        text: String,
        /// What is new in it.
        added: String,
    },
}

impl Cfg {
    /// Looks where cargo looks for a package of a workspace: in every folder from the package's up.
    pub(super) fn of(workspace: &Path, package: &Path) -> Result<Self, InitError> {
        let mut flagged = None;
        for folder in package.ancestors() {
            let Some((path, configuration)) = configuration(folder)? else { continue };
            if flags(&configuration).iter().any(|flags| sets_cfg(flags)) {
                return Ok(Cfg::There(path));
            }
            if flagged.is_none() && !flags(&configuration).is_empty() {
                flagged = Some(path);
            }
        }
        match flagged {
            Some(path) => Ok(Cfg::ByHand(path)),
            None => Self::missing(workspace),
        }
    }

    fn missing(workspace: &Path) -> Result<Self, InitError> {
        let (path, mut document) = match configuration(workspace)? {
            Some(there) => there,
            None => (workspace.join(".cargo/config.toml"), DocumentMut::new()),
        };
        let cfg: Value = ["--cfg", "madsim"].into_iter().collect();
        let added = add(&mut document, &path, "build", FLAGS.map(|name| (name, cfg.clone())).into())?;
        Ok(Cfg::Missing { path, text: document.to_string(), added })
    }
}

/// Cargo's configuration in a folder, if there is one.
fn configuration(folder: &Path) -> Result<Option<(PathBuf, DocumentMut)>, InitError> {
    // The name without an extension is the older one, and wins.
    for name in [".cargo/config", ".cargo/config.toml"] {
        let path = folder.join(name);
        if let Some(document) = parse(&path)? {
            return Ok(Some((path, document)));
        }
    }
    Ok(None)
}

/// Every setting of flags, for all builds and for some targets.
fn flags(configuration: &DocumentMut) -> Vec<&Item> {
    let targets = configuration.get("target").and_then(Item::as_table_like);
    let of_targets = targets.into_iter().flat_map(|targets| targets.iter().map(|(_, target)| target));
    let tables = configuration.get("build").into_iter().chain(of_targets);
    tables.flat_map(|table| FLAGS.iter().filter_map(move |name| table.get(name))).collect()
}

fn sets_cfg(flags: &Item) -> bool {
    let listed = flags.as_array().into_iter().flatten().filter_map(Value::as_str);
    let words: Vec<&str> = listed.chain(flags.as_str()).flat_map(str::split_whitespace).collect();
    words.windows(2).any(|pair| pair == ["--cfg", "madsim"]) || words.contains(&"--cfg=madsim")
}
