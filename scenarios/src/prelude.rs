//! What a test of an agent needs: `use squall::prelude::*;`.
//!
//! ```
//! use squall::prelude::*;
//!
//! squall::check("the world goes round", |world| async move {
//!     world.server("front", |_| axum::Router::new());
//!     world.agent("agent-1", |process| async move {
//!         while !process.shutdown().is_requested() {
//!             let request = Request::get("http://front/").body(http::empty()).expect("a valid request");
//!             let answer = process.http().oneshot(request);
//!             let _ = clock::timeout(&*process.clock(), Duration::from_secs(10), answer).await;
//!             process.clock().sleep(Duration::from_secs(5)).await;
//!         }
//!         0
//!     });
//! });
//! ```

pub use std::sync::Arc;
pub use std::time::Duration;

pub use ::http::{Request, Response, StatusCode};
pub use bytes::Bytes;
pub use rand::Rng;
pub use squall_protocol::facts::{self, Outcome};
pub use squall_protocol::{
    Clock, Disk, Fact, Http, Ledger, Mono, RetryPolicy, Shutdown, TransportError, clock, http, supervise,
};
pub use squall_sim::check::{Check, check};
pub use squall_sim::fault::{FaultPlan, Swarm};
pub use squall_sim::invariant::aborts::*;
pub use squall_sim::invariant::artifacts::*;
pub use squall_sim::invariant::endings::*;
pub use squall_sim::invariant::exits::*;
pub use squall_sim::invariant::idle::*;
pub use squall_sim::invariant::jobs::*;
pub use squall_sim::invariant::leases::*;
pub use squall_sim::invariant::load::*;
pub use squall_sim::invariant::locks::*;
pub use squall_sim::invariant::messages::*;
pub use squall_sim::invariant::patience::*;
pub use squall_sim::invariant::queue::*;
pub use squall_sim::invariant::restarts::*;
pub use squall_sim::invariant::session_ends::*;
pub use squall_sim::invariant::sessions::*;
pub use squall_sim::invariant::shutdown::*;
pub use squall_sim::invariant::stages::*;
pub use squall_sim::invariant::unused_leases::*;
pub use squall_sim::invariant::{Findings, History, Invariant, Property, Rule};
pub use squall_sim::strategies::{WrongClock, clocks, faults, policies};
pub use squall_sim::{Execution, Node, Process, Service, SimTime, World};
pub use tower::ServiceExt;
