//! Fetching a published artefact over a bad network: how Tailscale's GitHub Action gets its tarball, and how it could.
//!
//! The incident is flox/flox#2916 and tailscale/github-action#198: a server that cuts every answer off after some 80 s,
//! and a client that begins anew each time. References such as `main.ts` are to `tailscale/github-action`.

pub mod agent;
mod choices;
pub mod server;
pub mod wire;

pub use choices::{
    Cache, Choices, Destination, Lookup, OnMismatch, Placement, Protocol, Resume, Source, Stall, Transfer,
};
