//! The distributed-task protocol, which Azure Pipelines and the GitHub Actions runner share.

pub mod cipher;
pub mod wire;
