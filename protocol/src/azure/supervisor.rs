//! The agent's service wrapper, `AgentService.js`: which exit codes it starts the agent again after.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::supervise::{Exit, Restart, Supervise};

/// Exit codes of the listener (`Constants.cs`, `AgentService.js`).
pub mod exit {
    /// A clean end.
    pub const SUCCESS: i32 = 0;
    /// An error that starting again does not help against; a session conflict counts as one.
    pub const TERMINATED_ERROR: i32 = 1;
    /// An error that starting again may help against.
    pub const RETRYABLE_ERROR: i32 = 2;
    /// The agent is being updated.
    pub const AGENT_UPDATING: i32 = 3;
}

/// Pause before the next start (`AgentService.js`).
pub const RESTART_DELAY: Duration = Duration::from_secs(5);

/// The wrapper: 0 and 1 are the end, everything else is answered with a start after 5 s, any number of times. It sends
/// SIGINT to stop the agent, and never SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentService;

impl Supervise for AgentService {
    fn ended(&mut self, exit: Exit, _: Duration) -> Restart {
        match exit {
            Exit::Code(exit::SUCCESS | exit::TERMINATED_ERROR) => Restart::Never,
            _ => Restart::After(RESTART_DELAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_and_a_terminal_error_are_the_end() {
        for code in [0, 1] {
            assert_eq!(AgentService.ended(Exit::Code(code), Duration::ZERO), Restart::Never);
        }
        for exit in [Exit::Code(2), Exit::Code(3), Exit::Code(77), Exit::Killed] {
            assert_eq!(AgentService.ended(exit, Duration::ZERO), Restart::After(RESTART_DELAY));
        }
    }
}
