//! BK-CI: the agent on a machine of one's own, its workers, and the server that runs pipelines on it.

pub mod agent;
pub mod choices;
pub mod server;
pub mod wire;

pub use choices::Choices;
