//! The retry-policy laboratory: what a policy does to a fleet of agents and to their server.
//!
//! A [`Fleet`] of agents that each hold a session on a lease goes through a [`Trial`] against a server that admits so
//! much and no more. Agents and server are the same code over two transports: real HTTP over the simulated network, and
//! single exchanges for large fleets. Each [`measure`] is taken from what really happened. [`compare`] runs policies side
//! by side, [`fuzz`] looks for what hurts one most, [`families`] for the best of a family, and [`overload`] for overloads
//! that outlive their cause.

mod agent;
pub mod compare;
pub mod families;
pub mod fleet;
pub mod fuzz;
pub mod measure;
pub mod overload;
pub mod page;
pub mod parallel;
pub mod plots;
pub mod published;
mod record;
pub mod run;
pub mod scenario;
mod server;
mod synchrony;
mod transport;
pub mod trial;
pub mod triggers;

pub use self::fleet::{Fleet, Transport};
pub use self::measure::{MEASURES, Measure};
pub use self::record::Record;
pub use self::run::{Observed, observe, observe_with};
pub use self::scenario::RetryLab;
pub use self::trial::{TRIALS, Trial};
