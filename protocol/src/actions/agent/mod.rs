//! The runner itself: the listener process and the worker process.
//!
//! The listener holds a session, polls for messages and renews the leases of the jobs it hands to workers; a worker
//! executes one job and reports its end. Both are one future each, over the seams of their [`Machine`].

use std::pin::pin;
use std::sync::Arc;

use futures_util::{FutureExt, select_biased};

use crate::actions::choices::Choices;
use crate::actions::supervisor::exit;
use crate::distributed_task::agent::{self as shared, Dispatcher, Whole};
use crate::distributed_task::wire::TaskAgentMessage;
use crate::supervise::Shutdown;
use crate::workers::{Parent, Work};

use intake::{ExitCode, Intake};
use poll::{Listener, PollEnd};
use runner::Runner;
use session::NoSession;

mod backoff;
mod broker;
mod intake;
mod poll;
mod runner;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod v1;
mod v2;

pub use backoff::{FIRST_ERRORS, FIRST_ERRORS_WAIT, LATER_ERRORS_WAIT};
pub use poll::{EMPTY_POLLS_LIMIT, EMPTY_POLLS_PERIOD, EMPTY_POLLS_WAIT, ERRORS_LIMIT};
pub use session::{CLOCK_SKEW_LIMIT, CONFLICT_LIMIT, CREATION_PAUSE, DELETE_TIMEOUT};
pub use v2::{ACKNOWLEDGE_TIMEOUT, ACQUIRE_PATIENCE, LONGEST_SKIP_WAIT, SKIP_WAIT};

pub use crate::distributed_task::agent::{
    CHANNEL_TIMEOUT, CRASHED, Configuration, CredentialData, Credentials, DELETE_MESSAGE_TIMEOUT, FINISHED_JOB_GRACE,
    FIRST_RENEW_PATIENCE, JOB_TIMEOUT, KEY_FILE, LEASE_MARGIN, Machine, NOT_FOUND_CONFIRMATIONS, NOT_FOUND_PAUSE,
    PATIENCE, RENEW_PAUSE, RESULT_CODES, SETTINGS_FILE, SHORTEST_ROUND, SHUTDOWN_LIMIT, Settings, UNREPORTED_CODES,
    WORKER_STOP_GRACE,
};

/// The listener process, from its start to its exit code (see [`exit`]). It stops when `shutdown` is requested.
///
/// It draws from `machine.random` only; workers that it leaves behind run on.
pub async fn run(machine: Machine, choices: Choices, shutdown: Shutdown) -> i32 {
    let configuration = match Configuration::load(&*machine.disk, SETTINGS_FILE) {
        Ok(configuration) => configuration,
        Err(error) => {
            tracing::warn!("Not configured. Run Config.(sh/cmd) to configure the runner. {error}");
            return exit::TERMINATED_ERROR;
        }
    };
    let runner = Arc::new(Runner::new(machine, choices, configuration));
    let tasks = runner.tasks.clone();
    tasks
        .beside(async {
            loop {
                let code = Main::new(runner.clone()).run(&shutdown).await;
                if code != exit::RUNNER_CONFIGURATION_REFRESHED {
                    return code;
                }
            }
        })
        .await
}

/// A worker process of the runner: takes one job over its pipe, executes it, and reports how it ended.
pub async fn worker(machine: Machine, choices: Choices, parent: Box<dyn Parent>, work: Arc<dyn Work>) -> i32 {
    shared::worker(machine, choices.conduct(), parent, &Whole(work)).await
}

/// The main loop (`Runner.RunAsync`).
struct Main {
    runner: Arc<Runner>,
    listener: Listener,
    dispatcher: Arc<Dispatcher>,
    intake: Intake,
}

/// How the main loop ended.
struct End {
    code: i32,
    session: SessionAtEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionAtEnd {
    Deleted,
    Left,
}

impl Main {
    fn new(runner: Arc<Runner>) -> Self {
        let dispatcher = Dispatcher::new(runner.station.clone());
        let listener = Listener::new(runner.clone(), dispatcher.clone());
        let (session, cursor) = (listener.sessions.current().clone(), listener.cursor.clone());
        let intake = Intake::new(runner.clone(), dispatcher.clone(), session, cursor);
        Self { runner, listener, dispatcher, intake }
    }

    async fn run(mut self, shutdown: &Shutdown) -> i32 {
        let opened = select_biased! {
            () = shutdown.requested().fuse() => return exit::SUCCESS,
            opened = self.listener.sessions.create().fuse() => opened,
        };
        match opened {
            Ok(()) => {}
            Err(NoSession::Failure) => return exit::TERMINATED_ERROR,
            Err(NoSession::Conflict) => return exit::SESSION_CONFLICT,
            Err(NoSession::TokenRevoked) => return exit::SUCCESS,
            Err(NoSession::Gone) => {
                Configuration::delete(&*self.runner.disk, SETTINGS_FILE);
                return exit::SUCCESS;
            }
        }
        tracing::info!("Listening for Jobs");
        let end = select_biased! {
            () = shutdown.requested().fuse() => End { code: exit::SUCCESS, session: SessionAtEnd::Deleted },
            end = self.listen().fuse() => end,
        };
        tracing::info!("Runner ends with {}.", end.code);
        let sessions = &mut self.listener.sessions;
        self.dispatcher
            .wind_up(async {
                match end.session {
                    SessionAtEnd::Deleted => sessions.delete().await,
                    SessionAtEnd::Left => Ok(()),
                }
            })
            .await;
        end.code
    }

    async fn listen(&mut self) -> End {
        loop {
            let done = match self.next_message().await {
                Ok(message) => self.intake.handle(message).await,
                Err(end) => return end,
            };
            if let Err(ExitCode(code)) = done {
                return End { code, session: SessionAtEnd::Deleted };
            }
        }
    }

    /// The next message from the server. What waits for the end of a job takes its turn beside the poll, not in its
    /// place.
    async fn next_message(&mut self) -> Result<TaskAgentMessage, End> {
        let mut polled = pin!(self.listener.next_message().fuse());
        loop {
            select_biased! {
                () = self.intake.turn().fuse() => {}
                polled = polled => return polled.map_err(|end| end_of(&self.runner, end)),
            }
            if let Err(ExitCode(code)) = self.intake.take_turn().await {
                return Err(End { code, session: SessionAtEnd::Deleted });
            }
        }
    }
}

fn end_of(runner: &Runner, end: PollEnd) -> End {
    let (code, session) = match end {
        PollEnd::TokenRevoked => (exit::SUCCESS, SessionAtEnd::Left),
        PollEnd::Gone => {
            Configuration::delete(&*runner.disk, SETTINGS_FILE);
            (exit::SUCCESS, SessionAtEnd::Left)
        }
        PollEnd::NonRetryable => (exit::TERMINATED_ERROR, SessionAtEnd::Deleted),
        PollEnd::Error => (exit::RETRYABLE_ERROR, SessionAtEnd::Deleted),
    };
    End { code, session }
}
