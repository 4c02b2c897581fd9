//! What goes over the wire between a publisher of files, an archive of them, a cache and their clients.

pub mod cache;
mod digest;
mod entity_tag;
mod range;
mod reset_code;
mod versions;

pub use digest::Digest;
pub use entity_tag::EntityTag;
pub use range::{ContentRange, Range, Requested};
pub use reset_code::{NoResetCode, ResetCode};
pub use versions::VersionList;

/// Where stable releases are.
pub const TRACK: &str = "/stable/";
/// The query that asks a track for its versions as JSON.
pub const AS_JSON: &str = "mode=json";
/// Where an archive has files by their digest, as `tarballs.nixos.org` does.
pub const BY_DIGEST: &str = "/sha256/";

/// The file's name: `tailscale_1.82.0_amd64.tgz`.
pub fn tarball(version: &str, arch: &str) -> String {
    format!("tailscale_{version}_{arch}.tgz")
}

/// Beside each file is one with its digest, under this ending.
pub const DIGEST_ENDING: &str = ".sha256";
