//! HTTP over the simulated network: hyper's own client and server code on both ends.

pub(crate) mod client;
mod exchange;
mod pool;
mod rt;
mod server;

pub use self::server::serve;
pub use crate::gateway::BoxError;
