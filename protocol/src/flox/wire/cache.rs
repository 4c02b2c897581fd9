//! The cache service of GitHub Actions, as `@actions/cache` speaks with it: reserve, upload, commit; look up, download.

use serde::{Deserialize, Serialize};

/// Base of the service's paths.
pub const BASE: &str = "/_apis/artifactcache/";

/// An entry that was found: the answer to `GET cache?keys=..&version=..`. There is none: 204.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The key that it is stored under.
    pub cache_key: String,
    /// Where its content is.
    pub archive_location: String,
}

/// Body of `POST caches`. An entry never changes: a key that is taken is refused with 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reserve {
    /// The key.
    pub key: String,
    /// What else tells entries apart: a hash of the paths and the way they are packed.
    pub version: String,
    /// Its size in bytes.
    #[serde(default)]
    pub cache_size: u64,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reserved {
    /// What the content is uploaded under: `PATCH caches/{id}`.
    pub cache_id: u64,
}

/// Body of `POST caches/{id}`, which ends an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its size in bytes.
    pub size: u64,
}
