//! The distributed-task protocol, which Azure Pipelines and the GitHub Actions runner share.

pub mod wire;
