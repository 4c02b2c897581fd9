//! HTTP over the simulated network: hyper's own client and server code on both ends.

pub(crate) mod client;
mod exchange;
mod pool;
mod receipts;
mod repeats;
mod rt;
mod server;
mod waits;

pub(crate) use self::receipts::Receipts;
pub use self::server::serve;
pub(crate) use self::waits::Waits;
pub use crate::gateway::BoxError;
