//! Squall: deterministic simulation testing of agents that hold a session with a server, take jobs on a lease and retry
//! over a bad network.
//!
//! The systems under test are in [`squall_protocol`], the simulated world in [`squall_sim`]. This crate has the
//! scenarios in which real incidents come out of the simulation by themselves, and the command line.

pub mod actions_idle_runner;
pub mod cli;
pub mod lab;
pub mod live_journal;
pub mod registry;
pub mod serve;
