//! The runner's service wrapper, `RunnerService.js`: which exit codes it starts the runner again after.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::supervise::{Exit, Restart, Supervise};

/// Exit codes of the listener (`Runner.Common/Constants.cs:150-163`).
pub mod exit {
    /// A clean end: shutdown, a revoked token, a registration that is gone.
    pub const SUCCESS: i32 = 0;
    /// An error that starting again does not help against.
    pub const TERMINATED_ERROR: i32 = 1;
    /// An error that starting again may help against.
    pub const RETRYABLE_ERROR: i32 = 2;
    /// The runner is being updated.
    pub const RUNNER_UPDATING: i32 = 3;
    /// A runner that takes one job only is being updated.
    pub const RUN_ONCE_RUNNER_UPDATING: i32 = 4;
    /// Another session of the same runner is live.
    pub const SESSION_CONFLICT: i32 = 5;
    /// The configuration was refreshed: the listener starts again inside of its process.
    pub const RUNNER_CONFIGURATION_REFRESHED: i32 = 6;
    /// This version of the runner is no longer served.
    pub const RUNNER_VERSION_DEPRECATED: i32 = 7;
}

/// Pause before the next start (`RunnerService.js`).
pub const RESTART_DELAY: Duration = Duration::from_secs(5);
/// How many times in a row codes 2, 3 and 4 are answered with a start (`RunnerService.js`).
pub const RESTARTS_IN_A_ROW: u32 = 10;
/// How long a runner may take over SIGINT before SIGKILL ends it (`RunnerService.js`).
pub const STOP_GRACE: Duration = Duration::from_secs(30);
/// The longest pause before a start of the repaired wrapper.
pub const LONGEST_RESTART_DELAY: Duration = Duration::from_secs(60);

/// A run as long as this counts as one that got to listening, upon which the wrapper forgets its count. The real one
/// reads the line that says so from the runner's output.
const LISTENED: Duration = Duration::from_secs(60);

/// The wrapper's answer to exit codes.
///
/// It is no field of [`Choices`](super::choices::Choices): a wrapper that starts everything again would hide every exit
/// that the runner should not have made. The repaired runner lives under the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
    /// 0, 1 and 5 are the end; so are ten times 2, 3 or 4 in a row. Otherwise again after 5 s.
    StopsOnTerminalCodes,
    /// Only 0 is the end; otherwise again, after 5 s at first and up to a minute later on.
    RestartsWithBackoff,
}

/// The service wrapper.
#[derive(Clone, Debug)]
pub struct RunnerService {
    supervision: Supervision,
    in_a_row: u32,
}

impl RunnerService {
    /// A wrapper that has not started the runner yet.
    pub const fn new(supervision: Supervision) -> Self {
        Self { supervision, in_a_row: 0 }
    }

    /// The real wrapper counts what it takes for retriable, the repaired one everything.
    fn counts(&self, exit: Exit) -> bool {
        match exit {
            Exit::Code(exit::RETRYABLE_ERROR | exit::RUNNER_UPDATING | exit::RUN_ONCE_RUNNER_UPDATING) => true,
            _ => self.supervision == Supervision::RestartsWithBackoff,
        }
    }

    fn as_upstream(&self, exit: Exit) -> Restart {
        match exit {
            Exit::Code(exit::SUCCESS | exit::TERMINATED_ERROR | exit::SESSION_CONFLICT) => Restart::Never,
            Exit::Code(exit::RETRYABLE_ERROR | exit::RUNNER_UPDATING | exit::RUN_ONCE_RUNNER_UPDATING)
                if self.in_a_row >= RESTARTS_IN_A_ROW =>
            {
                Restart::Never
            }
            _ => Restart::After(RESTART_DELAY),
        }
    }

    fn with_backoff(&self, exit: Exit) -> Restart {
        match exit {
            Exit::Code(exit::SUCCESS) => Restart::Never,
            _ => {
                let steps = 2u32.saturating_pow(self.in_a_row.saturating_sub(1));
                Restart::After(RESTART_DELAY.saturating_mul(steps).min(LONGEST_RESTART_DELAY))
            }
        }
    }
}

impl Supervise for RunnerService {
    fn ended(&mut self, exit: Exit, up: Duration) -> Restart {
        let before = if up >= LISTENED { 0 } else { self.in_a_row };
        self.in_a_row = if self.counts(exit) { before.saturating_add(1) } else { 0 };
        match self.supervision {
            Supervision::StopsOnTerminalCodes => self.as_upstream(exit),
            Supervision::RestartsWithBackoff => self.with_backoff(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn terminal_codes_stop_the_real_wrapper() {
        let mut service = RunnerService::new(Supervision::StopsOnTerminalCodes);
        for code in [0, 1, 5] {
            assert_eq!(service.ended(Exit::Code(code), SHORT), Restart::Never, "{code}");
        }
        for exit in [Exit::Code(2), Exit::Code(3), Exit::Code(4), Exit::Code(7), Exit::Killed] {
            assert_eq!(service.ended(exit, SHORT), Restart::After(RESTART_DELAY), "{exit:?}");
        }
    }

    #[test]
    fn ten_in_a_row_stop_the_real_wrapper_unless_one_got_to_listening() {
        let mut service = RunnerService::new(Supervision::StopsOnTerminalCodes);
        for _ in 1..RESTARTS_IN_A_ROW {
            assert_eq!(service.ended(Exit::Code(2), SHORT), Restart::After(RESTART_DELAY));
        }
        let mut listened = service.clone();
        assert_eq!(service.ended(Exit::Code(2), SHORT), Restart::Never);
        assert_eq!(listened.ended(Exit::Code(2), LISTENED), Restart::After(RESTART_DELAY));
    }

    #[test]
    fn the_repaired_wrapper_goes_on_and_slows_down() {
        let mut service = RunnerService::new(Supervision::RestartsWithBackoff);
        let waits: Vec<_> = (0..6).map(|_| service.ended(Exit::Code(5), SHORT)).collect();
        let seconds = [5, 10, 20, 40, 60, 60];
        assert_eq!(waits, seconds.map(|wait| Restart::After(Duration::from_secs(wait))));
        assert_eq!(service.ended(Exit::Code(0), SHORT), Restart::Never);
    }
}
