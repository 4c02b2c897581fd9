//! HTTP over the simulated network: hyper's own client and server code on both ends.

pub(crate) mod client;
mod exchange;
mod pool;
mod receipts;
mod rt;
mod server;

pub(crate) use self::receipts::Receipts;
pub use self::server::serve;
pub use crate::gateway::BoxError;
