//! One seed, one world: network, HTTP, clocks, crashes and faults in virtual time, with a journal, invariants and
//! verdicts.

#[cfg(not(madsim))]
compile_error!(
    "squall needs `--cfg madsim`, or clocks and entropy would be those of the machine: put\n\n[build]\nrustflags = \
     [\"--cfg\", \"madsim\"]\n\ninto .cargo/config.toml of your project"
);

pub mod case;
pub mod case_file;
pub mod case_token;
pub mod check;
pub mod clock;
pub mod coverage;
pub mod determinism;
pub mod disk;
pub mod effects;
mod engine;
pub mod execution;
pub mod explore;
pub mod fault;
mod furnish;
pub mod gateway;
pub mod http;
pub mod hunt;
pub mod invariant;
pub mod journal;
mod kernel;
mod meter;
mod mutex;
pub mod net;
pub mod node;
mod one_thread;
mod panics;
pub mod process;
pub mod random;
pub mod regressions;
pub mod report;
pub mod scenario;
pub mod service;
pub mod shrink;
pub mod side_by_side;
pub mod stopwatch;
pub mod strategies;
mod survey;
pub mod time;
mod timers;
pub mod trace;
mod trace_log;
pub mod trial;
pub mod verdict;
pub mod world;

pub use execution::Execution;
pub use furnish::{PORT, RESTART};
pub use kernel::{Halt, ProcessId};
pub use node::Node;
pub use process::Process;
pub use service::Service;
pub use time::SimTime;
pub use world::{Ended, World, run};
