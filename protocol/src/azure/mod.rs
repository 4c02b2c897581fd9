//! The Azure Pipelines agent and its server: the other profile of the distributed-task protocol, V1 only.
//!
//! What sets it apart from GitHub's runner: a second service host that is asked where things are, whenever a connection
//! is made; a second poller that keeps the session alive; sleeps after empty polls; jobs that are made of stages.

pub mod agent;
pub mod choices;
pub mod monitor;
pub mod server;
pub mod supervisor;
pub mod wire;

pub use choices::Choices;
pub use supervisor::AgentService;
