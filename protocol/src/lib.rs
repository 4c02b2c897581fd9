//! Sessions, leases, queues, retry policies, and the agents and servers of real systems.
//!
//! Everything here is written against a few seams and never names a runtime, so the same code runs on tokio with real
//! sockets (feature `live`) and inside the simulation of `squall-sim`:
//!
//! * [`Clock`]: wall time, monotonic time, sleeping;
//! * [`Http`]: one request in, one response with a streaming body out, or a [`TransportError`];
//! * [`Workers`] and [`Disk`]: what the machine offers to an agent besides the network;
//! * [`Ledger`]: where a server's store and a worker write the [`Fact`]s that invariants judge.
//!
//! An agent spawns nothing; it is one future, concurrent inside by `select!` and `join!`.

pub mod actions;
mod answers;
pub mod arc;
pub mod azure;
pub mod bkci;
pub mod call;
pub mod choices;
pub mod clock;
pub mod deadlines;
pub mod disk;
pub mod distributed_task;
pub mod effect;
pub mod facts;
#[cfg(test)]
mod fakes;
pub mod flox;
pub mod http;
#[cfg(feature = "hyper")]
pub mod hyper_errors;
pub mod jwt;
pub mod lease;
pub mod line;
#[cfg(feature = "live")]
pub mod live;
pub mod lock_store;
pub mod long_poll;
pub mod queue;
pub mod random;
pub mod retry;
pub mod session;
pub mod signal;
pub mod supervise;
pub mod token;
#[cfg(test)]
mod virtual_clock;
pub mod workers;

pub use choices::Design;
pub use clock::{Clock, Mono, Timeout};
pub use disk::Disk;
pub use facts::{Fact, Ledger};
pub use http::{Body, Http, Receipt, TransportError};
pub use line::Line;
pub use random::Random;
pub use retry::RetryPolicy;
pub use supervise::{Restart, Shutdown, Supervise};
pub use workers::{Worker, Workers};
