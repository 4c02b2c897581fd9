//! The wire is right when a client that nobody here wrote says so: real programs against `squall serve`.
//!
//! A test whose client is not installed says so and passes. `.ci/run` installs them.
#![cfg(unix)]

mod curl;
#[path = "../program/mod.rs"]
mod program;
mod scaleset;
mod tool_cache;
