//! The GitHub Actions runner and its server: the V1 flow over the distributed-task protocol, the V2 flow over the broker
//! and the run service.

pub mod agent;
pub mod choices;
pub mod supervisor;

pub use crate::distributed_task::server;
pub use crate::distributed_task::wire::v2 as wire;
pub use choices::Choices;
pub use supervisor::RunnerService;
