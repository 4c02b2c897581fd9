//! The wire is right when a client that nobody here wrote says so: real programs against `squall serve`, and beside each
//! our own agent that stands for it, in the same situation: the server must not be able to tell them apart.
//!
//! A test whose client cannot be had says so and passes. `.ci/run` installs them.
#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "real clients run in real time")]

mod curl;
#[path = "../program/mod.rs"]
mod program;
mod scaleset;
mod skipped;
mod stage;
mod tool_cache;
