//! The GitHub Actions runner and its server: the V1 flow over the distributed-task protocol, the V2 flow over the broker
//! and the run service.

pub mod agent;
pub mod choices;
pub mod server;
pub mod supervisor;
pub mod wire;

pub use choices::Choices;
pub use supervisor::RunnerService;
