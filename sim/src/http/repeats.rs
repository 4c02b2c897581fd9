//! Calls that a client makes again after they failed.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, Uri, header};
use squall_protocol::retry::same_call;

use crate::one_thread::OneThread;
use crate::time::SimTime;

/// The calls of one process that failed and were not made again, each named by its method and its address.
#[derive(Default)]
pub(super) struct Failures(OneThread<State>);

#[derive(Default)]
struct State {
    failed: BTreeMap<String, (Failed, u64)>,
    /// How many calls have ended.
    ended: u64,
}

/// A call that failed.
#[derive(Clone, Copy)]
pub(super) struct Failed {
    pub(super) at: SimTime,
    /// The wait in seconds that the caller was told.
    pub(super) told: Option<u64>,
}

/// A call that is made again.
pub(super) struct Again {
    pub(super) call: String,
    pub(super) failed: Failed,
    /// Has no call ended since it failed?
    pub(super) idle: bool,
}

impl Failures {
    /// A call has ended, well or not.
    pub(super) fn ended(&self) {
        self.0.borrow_mut().ended += 1;
    }

    /// The call that has just ended has failed.
    pub(super) fn add(&self, method: &Method, uri: &Uri, failed: Failed) {
        let mut state = self.0.borrow_mut();
        let ended = state.ended;
        state.failed.insert(same_call(method, uri), (failed, ended));
    }

    /// A call is made: how it failed the last time, if it did.
    pub(super) fn again(&self, method: &Method, uri: &Uri) -> Option<Again> {
        let mut state = self.0.borrow_mut();
        // Nearly always.
        if state.failed.is_empty() {
            return None;
        }
        let (call, (failed, ended)) = state.failed.remove_entry(&same_call(method, uri))?;
        Some(Again { call, failed, idle: ended == state.ended })
    }
}

/// For how many seconds an answer tells its caller to wait. A date depends on the caller's clock, and tells nothing here.
pub(super) fn told(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}
