//! Squall: deterministic simulation testing of agents that hold a session with a server, take jobs on a lease and retry
//! over a bad network.
//!
//! The systems under test are in [`squall_protocol`], the simulated world in [`squall_sim`]. This crate has the
//! scenarios in which real incidents come out of the simulation by themselves, and the command line.

pub mod actions_idle_runner;
pub mod arc_listener_session;
pub mod azure_post_job;
pub mod bkci_agent_reuse;
#[cfg(feature = "cli")]
pub mod cli;
mod distributed_task;
pub mod execution;
pub mod flox_download;
pub mod lab;
pub mod live_calls;
pub mod live_journal;
pub mod prelude;
pub mod registry;
pub mod serve;

pub use squall_sim::check::{Check, check};
pub use {squall_protocol as protocol, squall_sim as sim};
