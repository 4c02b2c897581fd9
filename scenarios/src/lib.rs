//! Squall
pub mod actions_idle_runner;
