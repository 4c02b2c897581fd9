//! The distributed-task protocol, which Azure Pipelines and the GitHub Actions runner share.

pub mod agent;
pub mod auth;
pub mod cipher;
pub mod client;
pub mod dotnet;
pub mod failure;
pub mod http_retry;
pub mod retry_request;
pub mod server;
pub mod task_server;
pub mod wire;

pub use crate::line;
