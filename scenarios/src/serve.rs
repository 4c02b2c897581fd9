//! A scenario's own server on a real port, for clients that nobody here wrote.
//!
//! It is the very server that the simulation runs, on real time and real sockets. Its store writes the same facts, so
//! what it saw of its clients is judged by invariants as a simulated run is; of course only by those that need no more
//! than a server sees.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use futures_util::future::{self, BoxFuture};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use squall_protocol::actions::server::Encryption;
use squall_protocol::live::LiveClock;
use squall_protocol::{Clock, Ledger, Random, Shutdown};
use squall_sim::invariant::Invariant;
use tokio::net::TcpListener;

/// A scenario that has a server to serve.
pub trait Serve: Send + Sync {
    /// The scenario's name on the command line.
    fn name(&self) -> &'static str;

    /// Makes the server, with an agent that is registered with a fresh key, and jobs in its queue.
    fn offer(&self, wanted: Wanted) -> Offer;
}

/// What a server is made of.
pub struct Wanted {
    /// Where its clients find it, such as `http://127.0.0.1:8080`.
    pub origin: String,
    /// How many jobs to queue: `job-1`, `job-2`, ...
    pub jobs: u32,
    /// How messages travel.
    pub encryption: Encryption,
    /// Real time.
    pub clock: Arc<dyn Clock>,
    /// Where its facts go.
    pub ledger: Arc<dyn Ledger>,
}

/// A server that is ready to be served.
pub struct Offer {
    /// Its handlers.
    pub router: Router,
    /// What it does without being called.
    pub background: BoxFuture<'static, Infallible>,
    /// How to queue and cancel jobs from outside.
    pub admin: Admin,
    /// What a client of this system is configured with, in the system's own words.
    pub credentials: serde_json::Value,
    /// What its journal alone can be judged by.
    pub invariants: Vec<Box<dyn Invariant>>,
}

/// The administration of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// Base of `jobs` (GET, POST with `{"name"}`, DELETE of `jobs/{name}`) and `snapshot` (GET).
    pub url: String,
    /// The bearer's token that it asks for.
    pub token: String,
}

/// A generator seeded by the operating system.
#[expect(
    clippy::disallowed_methods,
    reason = "keys and tokens of a real server must not be guessed, and nothing of what it serves is replayed"
)]
pub fn entropy() -> Random {
    Box::new(ChaCha20Rng::from_os_rng())
}

/// How long requests that are under way at the end, long polls above all, may go on.
const GRACE: Duration = Duration::from_secs(1);
/// How often to look whether the end is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Serves until `stop` is set, and then for as long as requests under way take, but no longer than a second.
pub async fn until_stopped(
    listener: TcpListener,
    router: Router,
    background: BoxFuture<'static, Infallible>,
    clock: LiveClock,
    stop: &'static AtomicBool,
) {
    let asked = Shutdown::when(async move {
        while !stop.load(Ordering::Relaxed) {
            clock.sleep(LOOK_EVERY).await;
        }
    });
    let patience = async {
        asked.requested().await;
        clock.sleep(GRACE).await;
    };
    let serving = squall_protocol::live::serve(listener, router, asked.clone());
    let working = async { match background.await {} };
    future::select(pin!(working), future::select(pin!(serving), pin!(patience))).await;
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    #[test]
    fn entropy_differs_each_time() {
        assert_ne!(entropy().next_u64(), entropy().next_u64());
    }
}
