//! The runner against a scripted server, in virtual time. Each choice shows in at least one test.

mod garbage;
mod job;
pub(crate) mod kit;
mod lease;
mod poll;
mod report;
mod session;
mod system;
mod transport;
