//! Which failures are retried.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::distributed_task::http_retry::{is_gateway_trouble, is_retriable_transport};
use crate::http::TransportError;

/// Which failures are worth a retry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RetryOn {
    /// Failures of the transport, time-outs, 408, 429 and 5xx but 501.
    #[default]
    Transient,
    /// Whatever failed.
    Anything,
    /// 502, 503, 504 and what `VssNetworkHelper.cs` takes for transient; not a refused connection.
    Vss,
    /// The same with 429 and 500 (`VssOAuthTokenHttpClient.cs`).
    VssToken,
    /// Time-outs, unknown hosts, 408, 429, 500, 502, 503, 504, 522 and 524; neither a reset nor a body cut short (curl,
    /// `tool_operate.c`).
    Curl,
    /// Failures of the transport, time-outs, 408, 429 and every 5xx (`@actions/tool-cache`, `tool-cache.ts`).
    ToolCache,
    /// Exactly these.
    Only {
        /// Statuses.
        statuses: Vec<u16>,
        /// Whether failures of the transport and time-outs are, too.
        transport: bool,
    },
}

/// What `curl --retry` retries.
const CURL: [u16; 8] = [408, 429, 500, 502, 503, 504, 522, 524];

impl RetryOn {
    /// Is this failure retried?
    pub fn covers(&self, outcome: &Outcome<'_>) -> bool {
        match (self, outcome) {
            (RetryOn::Anything, _) => true,
            (RetryOn::Transient, Outcome::Status { status, .. }) => is_transient(*status),
            (RetryOn::Transient, _) => true,
            (RetryOn::Vss, Outcome::Status { status, .. }) => is_gateway_trouble(*status),
            (RetryOn::VssToken, Outcome::Status { status, .. }) => {
                is_gateway_trouble(*status) || [500, 429].contains(&status.as_u16())
            }
            (RetryOn::Vss | RetryOn::VssToken, Outcome::Transport(error)) => is_retriable_transport(error),
            (RetryOn::Vss | RetryOn::VssToken, Outcome::TimedOut) => false,
            (RetryOn::Curl, Outcome::Status { status, .. }) => CURL.contains(&status.as_u16()),
            (RetryOn::Curl, Outcome::Transport(error)) => {
                matches!(error, TransportError::TimedOut | TransportError::Dns { .. })
            }
            (RetryOn::Curl, Outcome::TimedOut) => true,
            (RetryOn::ToolCache, Outcome::Status { status, .. }) => {
                is_transient(*status) || *status == StatusCode::NOT_IMPLEMENTED
            }
            (RetryOn::ToolCache, _) => true,
            (RetryOn::Only { statuses, .. }, Outcome::Status { status, .. }) => statuses.contains(&status.as_u16()),
            (RetryOn::Only { transport, .. }, _) => *transport,
        }
    }
}

/// 408, 429 and 5xx but 501: `DefaultRetryPolicy` of go-retryablehttp and most others.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

#[cfg(test)]
mod tests {
    use super::super::testing::failed;
    use super::*;

    #[test]
    fn curl_retries_neither_a_reset_nor_a_body_cut_short() {
        assert!(!RetryOn::Curl.covers(&Outcome::Transport(&TransportError::Reset)));
        assert!(!RetryOn::Curl.covers(&Outcome::Transport(&TransportError::StreamReset { code: 2 })));
        assert!(!RetryOn::Curl.covers(&Outcome::Transport(&TransportError::ClosedEarly)));
        assert!(RetryOn::Curl.covers(&Outcome::TimedOut) && RetryOn::Curl.covers(&failed(1, 522).outcome));
    }

    #[test]
    fn refused_connections_part_the_agents_from_the_rest() {
        let refused = Outcome::Transport(&TransportError::Refused);
        assert!(!RetryOn::Vss.covers(&refused) && RetryOn::Transient.covers(&refused));
    }

    #[test]
    fn statuses_are_told_apart() {
        let covers = |on: &RetryOn, status| on.covers(&failed(1, status).outcome);
        assert!(!covers(&RetryOn::Vss, 429) && covers(&RetryOn::VssToken, 429));
        assert!(covers(&RetryOn::Transient, 500) && !covers(&RetryOn::Transient, 501));
        assert!(!covers(&RetryOn::Transient, 404) && covers(&RetryOn::Anything, 404));
        assert!(covers(&RetryOn::ToolCache, 501) && !covers(&RetryOn::ToolCache, 404));
        let only = RetryOn::Only { statuses: vec![418], transport: false };
        assert!(covers(&only, 418) && !covers(&only, 503) && !only.covers(&Outcome::TimedOut));
    }
}
