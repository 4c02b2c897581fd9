//! The listener process (`cmd/ghalistener/main.go`): it opens a session, listens, and ends the session when it ends.

mod api;
mod failure;
mod listen;
mod patience;
mod scaler;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::{FutureExt, select_biased};
use serde::{Deserialize, Serialize};

use self::api::Api;
use self::listen::Listener;
use self::patience::Patience;
use self::session::MessageSession;
use super::choices::{Choices, Close, MissingSet};
use crate::clock;
use crate::line::Line;
use crate::supervise::Shutdown;

pub use api::{CALL_TIMEOUT, HARDENED_CALL_TIMEOUT, RENEW_BEFORE};
pub use failure::{Failure, Trouble};
pub use listen::IN_HAND;
pub use scaler::SILENCE;
pub use session::{
    ATTEMPTS_PER_TOKEN, CREATION_PAUSE, CREATION_PAUSE_DRAWN, CREATION_RETRIES, TOKEN_ATTEMPTS, TOKEN_PAUSE,
};

/// Exit codes of a Go program.
pub mod exit {
    /// An error, and also the end that it was asked for: `context canceled`.
    pub const FAILED: i32 = 1;
    /// A panic.
    pub const PANICKED: i32 = 2;
}

/// How long the repaired listener, and that of 0.8.2 to 0.13.1, may take to end its session.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a listener is configured with: the secret that its pod mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The organisation's address at a self-hosted GitHub, such as `http://github/org`.
    pub config_url: String,
    /// A personal access token.
    pub credential: String,
    /// The scale set's name.
    pub scale_set: String,
    /// The scale set's number.
    pub scale_set_id: i64,
    /// The name in which sessions are opened: the pod's host name, the same for every pod of a listener
    /// (`resourcebuilder.go:1028`).
    pub owner: String,
    /// The fewest runners that there are to be.
    pub min_runners: u32,
    /// The most.
    pub max_runners: u32,
    /// The cluster's API.
    pub cluster_url: String,
}

impl Configuration {
    /// The scheme and host of the configured address, and the organisation behind them.
    fn place(&self) -> (&str, &str) {
        let address = self.config_url.trim_end_matches('/');
        address.rsplit_once('/').unwrap_or((address, ""))
    }
}

/// The listener process, from its start to its exit code (see [`exit`]). It stops when `shutdown` is requested.
pub async fn run(line: Line, choices: Choices, configuration: Configuration, shutdown: Shutdown) -> i32 {
    let set = configuration.scale_set_id;
    let api = Api::new(line, configuration, choices);
    let opened = select_biased! {
        () = shutdown.requested().fuse() => Err(api.cancelled()),
        opened = open(&api, set, None).fuse() => opened,
    };
    let session = match opened {
        Ok(session) => session,
        Err(failure) => {
            tracing::error!("Application returned an error: failed to create message session: {failure}");
            return exit::FAILED;
        }
    };
    let mut listener = Listener::new(&api, session);
    let failure = listener.run(&shutdown).await;
    tracing::error!("Application returned an error: {failure}");
    close(&api, &listener.session).await;
    match failure {
        Failure::NilDereference => exit::PANICKED,
        _ => exit::FAILED,
    }
}

/// Opens a session, and gets over whatever its design can get over. `missing` says that the set is already known to be
/// unknown to the service.
async fn open<'a>(api: &'a Api, mut set: i64, missing: Option<Failure>) -> Result<MessageSession<'a>, Failure> {
    let mut patience = Patience::new(api);
    let mut unknown = missing.is_some();
    let mut registered_before = unknown;
    loop {
        let opened = match unknown {
            true => api.register_set().await.map(|id| {
                (set, unknown) = (id, false);
                None
            }),
            false => MessageSession::open(api, set).await.map(Some),
        };
        match opened {
            Ok(None) => tracing::warn!("the runner scale set is registered anew as {set}"),
            Ok(Some(session)) => return Ok(session),
            Err(missing) if missing.is_missing_set() && api.choices.missing_set == MissingSet::Reregisters => {
                // A service may take a while to know what it registers.
                if registered_before {
                    patience.wait().await;
                }
                (unknown, registered_before) = (true, true);
            }
            Err(failure) => patience.with(failure).await?,
        }
    }
}

async fn close(api: &Api, session: &MessageSession<'_>) {
    let closed = match api.choices.close {
        Close::V0_8 => return,
        Close::Unbounded => session.close().await,
        Close::Within30Seconds => match clock::timeout(&*api.line.clock, CLOSE_TIMEOUT, session.close()).await {
            Ok(closed) => closed,
            Err(clock::Timeout(limit)) => Err(Failure::Body(Trouble::TimedOut(limit))),
        },
    };
    if let Err(failure) = closed {
        tracing::error!("Failed to delete message session: {failure}");
    }
}
