//! The seams over real tokio, real sockets and a real disk.
//!
//! An agent that runs here runs in the simulation unchanged, and the other way round. Everything here must be called
//! within a tokio runtime.

mod client;
mod clock;
mod disk;
mod server;
mod workers;

pub use self::client::http;
pub use self::clock::LiveClock;
pub use self::disk::LiveDisk;
pub use self::server::{BoxError, serve};
pub use self::workers::LiveWorkers;
