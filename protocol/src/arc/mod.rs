//! Actions Runner Controller: the scale-set listener and its controller, the service they talk to, and the cluster in
//! which runners are created.
//!
//! References are to `actions/actions-runner-controller` (ARC) and `actions/scaleset` v0.4.0 (SS).

pub mod agent;
pub mod choices;
pub mod cluster;
pub mod controller;
pub mod server;
#[cfg(test)]
mod testing;
pub mod wire;

pub use choices::Choices;
pub use controller::PodController;
