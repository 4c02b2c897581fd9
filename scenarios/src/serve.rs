//! A scenario's own server on a real port, for clients that nobody here wrote.
//!
//! It is the very server that the simulation runs, on real time and real sockets. Its store writes the same facts, so
//! what it saw of its clients is judged by invariants as a simulated run is; of course only by those that need no more
//! than a server sees.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use futures_util::future::{self, BoxFuture};
use rand::{RngCore, SeedableRng};
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

    /// What can be set about its server: each name, and what it takes.
    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Names and summaries of the invariants that judge what is served, and nothing that is simulated.
    fn own_invariants(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Makes the server, with an agent that is registered with a fresh key, and jobs in its queue.
    ///
    /// # Errors
    /// [`NoSetting`] for the value of a setting that makes no sense. Names that it does not know never get here.
    fn offer(&self, wanted: Wanted) -> Result<Offer, NoSetting>;
}

/// Settings of a server, by name.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

/// Why a setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSetting {
    /// The server knows none of this name.
    #[error("its server has no setting {name:?}; it has {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// `--jobs` of a server that has none.
    #[error("its server has no queue of jobs; leave --jobs out")]
    NoJobs,
    /// The value makes no sense.
    #[error("the setting {name} takes {takes}, not {value:?}")]
    Value {
        /// The name.
        name: &'static str,
        /// What makes sense.
        takes: &'static str,
        /// The value.
        value: String,
    },
}

impl Settings {
    /// For a server; a later value of a name replaces an earlier one.
    ///
    /// # Errors
    /// [`NoSetting::Unknown`].
    pub fn of(server: &dyn Serve, pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, NoSetting> {
        let known = server.settings();
        let mut settings = Self::default();
        for (name, value) in pairs {
            if !known.iter().any(|(known, _)| *known == name) {
                let listed: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                let known = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
                return Err(NoSetting::Unknown { name, known });
            }
            settings.0.insert(name, value);
        }
        Ok(settings)
    }

    /// The value of a setting of `server`, read by `read`; `None` when it is not set.
    ///
    /// # Errors
    /// [`NoSetting::Value`] when `read` makes nothing of it.
    pub fn get<T>(
        &self,
        server: &dyn Serve,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, NoSetting> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        if let Some(read) = read(value) {
            return Ok(Some(read));
        }
        let known = server.settings().iter().find(|(known, _)| *known == name);
        let (name, takes) = *known.expect("only names that the server knows are set");
        Err(NoSetting::Value { name, takes, value: value.clone() })
    }
}

/// What a server is made of.
pub struct Wanted {
    /// Where its clients find it, such as `http://127.0.0.1:8080`.
    pub origin: String,
    /// How many jobs to queue: `job-1`, `job-2`, ...
    pub jobs: u32,
    /// How messages travel.
    pub encryption: Encryption,
    /// What else is wanted of it.
    pub settings: Settings,
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
    /// For servers with jobs the base of `jobs` (GET, POST with `{"name"}`, DELETE of `jobs/{name}`) and `snapshot` (GET).
    pub url: String,
    /// The bearer's token that it asks for.
    pub token: String,
}

/// The bytes of the administration's token.
const ADMIN_TOKEN_BYTES: usize = 24;

impl Admin {
    /// The administration of a server at `origin`, with a fresh token.
    pub fn at(origin: &str, random: &mut Random) -> Self {
        let mut bytes = [0; ADMIN_TOKEN_BYTES];
        random.fill_bytes(&mut bytes);
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { url: format!("{origin}/squall/admin"), token }
    }
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
    use super::*;

    #[test]
    fn entropy_differs_each_time() {
        assert_ne!(entropy().next_u64(), entropy().next_u64());
    }
}
