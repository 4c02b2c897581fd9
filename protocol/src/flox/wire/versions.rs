//! The list of versions of a track: `/stable/?mode=json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The versions of a track. Files of other systems have members of their own, which nobody here reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionList {
    /// The newest version.
    pub version: String,
    /// The newest version that there are tarballs of.
    pub tarballs_version: String,
    /// Their names by architecture.
    #[serde(default)]
    pub tarballs: BTreeMap<String, String>,
}
