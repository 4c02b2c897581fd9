//! Calls that are made again.

use http::{Method, StatusCode, Uri};

/// What stays the same when a call is made again: method, host and path. A query tells of a state that may be another
/// one by then.
pub fn same_call(method: &Method, uri: &Uri) -> String {
    format!("{method} {}{}", uri.authority().map_or("", |authority| authority.as_str()), uri.path())
}

/// Does this status say that the call may be made again later? 429 and 5xx do.
pub fn asks_for_later(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
