//! An agent that is told that it does not exist, as a server says of all when it has lost its place for a while.

use std::time::Duration;

/// How often in a row a repaired agent is told that it does not exist before it believes it.
pub const NOT_FOUND_CONFIRMATIONS: u32 = 5;
/// How far apart it asks at least: the ordinary pause after a failed poll comes on top.
pub const NOT_FOUND_PAUSE: Duration = Duration::from_secs(60);

/// How often in a row an agent was told so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NotFounds(u32);

impl NotFounds {
    /// It was told so once more. How long to wait before asking again; `None` once there is no doubt left.
    pub(crate) fn one_more(&mut self) -> Option<Duration> {
        self.0 += 1;
        (self.0 < NOT_FOUND_CONFIRMATIONS).then_some(NOT_FOUND_PAUSE)
    }

    /// It was told something else, which nobody would say to an agent that does not exist.
    pub(crate) fn forget(&mut self) {
        self.0 = 0;
    }
}
