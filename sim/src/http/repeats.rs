//! Calls that a client makes again after they failed.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::one_thread::OneThread;
use crate::time::SimTime;

/// The calls of one process that failed and were not made again, each named by its method and its address.
#[derive(Default)]
pub(super) struct Failures(OneThread<BTreeMap<String, Failed>>);

/// A call that failed.
#[derive(Clone, Copy)]
pub(super) struct Failed {
    pub(super) at: SimTime,
    /// The wait in seconds that the caller was told.
    pub(super) told: Option<u64>,
}

impl Failures {
    pub(super) fn add(&self, method: &Method, uri: &Uri, failed: Failed) {
        self.0.borrow_mut().insert(call(method, uri), failed);
    }

    /// A call is made: how it failed the last time, if it did.
    pub(super) fn again(&self, method: &Method, uri: &Uri) -> Option<(String, Failed)> {
        let mut failures = self.0.borrow_mut();
        // Nearly always.
        if failures.is_empty() {
            return None;
        }
        failures.remove_entry(&call(method, uri))
    }
}

/// What stays the same when a call is made again. A query tells of a state that may be another one by then.
fn call(method: &Method, uri: &Uri) -> String {
    format!("{method} {}{}", uri.authority().map_or("", |authority| authority.as_str()), uri.path())
}

/// Does this status say that the call may be made again later?
pub(super) fn is_trouble(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// For how many seconds an answer tells its caller to wait. A date depends on the caller's clock, and tells nothing here.
pub(super) fn told(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}
