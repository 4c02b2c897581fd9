//! The HTTP handler below all calls: one of .NET's two.

use http::Request;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::http::{Body, Http, TransportError};

/// Which handler an agent's processes use (the knob `AZP_AGENT_USE_LEGACY_HTTP`; `AgentKnobs.cs:349-355`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpHandler {
    /// The one of sockets: a connection that is reset is a socket error, which the retry handler knows.
    #[default]
    Sockets,
    /// The one before it, which wraps a library of the operating system: a reset is an error of that library, in which the
    /// retry handler finds no socket error.
    ///
    /// Sources say that it changes the transport alone and not the retries, and that it hid the incident; that it hid it
    /// in this way is a guess. Nothing is retried any more: what is best effort fails at once, and what is not does, too.
    Legacy,
}

impl HttpHandler {
    /// The agent's network as this handler shows it.
    pub fn over(self, http: Http) -> Http {
        match self {
            Self::Sockets => http,
            Self::Legacy => BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
                let http = http.clone();
                async move { http.oneshot(request).await.map_err(without_socket_error) }
            })),
        }
    }
}

fn without_socket_error(error: TransportError) -> TransportError {
    match error {
        TransportError::Reset => TransportError::ClosedEarly,
        other => other,
    }
}
