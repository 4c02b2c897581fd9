//! The runner itself: the listener process and the worker process.
//!
//! The listener holds a session, polls for messages and renews the leases of the jobs it hands to workers; a worker
//! executes one job and reports its end. Both are one future each, over the seams of their [`Machine`].

use std::pin::pin;
use std::sync::Arc;

use futures_util::{FutureExt, select_biased};

use crate::actions::choices::Choices;
use crate::actions::supervisor::exit;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::distributed_task::wire::TaskAgentMessage;
use crate::http::Http;
use crate::random::Random;
use crate::supervise::Shutdown;
use crate::workers::Workers;

use dispatch::Dispatcher;
use intake::{ExitCode, Intake};
use poll::{Listener, PollEnd};
use runner::Runner;
use session::NoSession;

mod broker;
mod complete;
mod dispatch;
mod execute;
mod in_hand;
mod intake;
mod lease;
mod pipe;
mod poll;
mod run_service;
mod runner;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod worker;

pub use complete::{PLANS_WITH_EVENTS, ROUND_PAUSE, ROUNDS};
pub use dispatch::{FINISHED_JOB_GRACE, KILL_BEFORE_TIMEOUT, SHORTEST_CANCEL};
pub use execute::{CHANNEL_TIMEOUT, RESULT_CODES, STOP_GRACE};
pub use lease::{
    FIRST_RENEW_RETRIES, FIRST_RENEW_WAIT, KILL_MARGIN, LEASE_MARGIN, LEASE_OVERTIME, RENEW_ERROR_WAIT,
    RENEW_LATER_ERROR_WAIT, RENEW_PAUSE,
};
pub use poll::{
    EMPTY_POLLS_LIMIT, EMPTY_POLLS_PERIOD, EMPTY_POLLS_WAIT, ERRORS_LIMIT, FIRST_ERRORS, FIRST_ERRORS_WAIT,
    LATER_ERRORS_WAIT,
};
pub use session::{
    CLOCK_SKEW_LIMIT, CONFLICT_LIMIT, CREATION_PAUSE, DELETE_TIMEOUT, NOT_FOUND_CONFIRMATIONS, NOT_FOUND_PAUSE,
};
pub use settings::{CREDENTIALS_FILE, Configuration, CredentialData, Credentials, KEY_FILE, SETTINGS_FILE, Settings};
pub use v1::DELETE_MESSAGE_TIMEOUT;
pub use v2::{ACKNOWLEDGE_TIMEOUT, LONGEST_SKIP_WAIT, SKIP_WAIT};
pub use worker::{CRASHED, JOB_TIMEOUT, worker};

/// What a process of the runner has of its machine.
pub struct Machine {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's network.
    pub http: Http,
    /// The process's generator.
    pub random: Random,
    /// Starts workers. A worker itself starts none.
    pub workers: Arc<dyn Workers>,
    /// The machine's disk, with the files of a registration: see [`Configuration::store`].
    pub disk: Arc<dyn Disk>,
}

/// The listener process, from its start to its exit code (see [`exit`]). It stops when `shutdown` is requested.
///
/// It draws from `machine.random` only; workers that it leaves behind run on.
pub async fn run(machine: Machine, choices: Choices, shutdown: Shutdown) -> i32 {
    let configuration = match Configuration::load(&*machine.disk) {
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
        let dispatcher = Dispatcher::new(runner.clone());
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
                Configuration::delete(&*self.runner.disk);
                return exit::SUCCESS;
            }
        }
        tracing::info!("Listening for Jobs");
        let end = select_biased! {
            () = shutdown.requested().fuse() => End { code: exit::SUCCESS, session: SessionAtEnd::Deleted },
            end = self.listen().fuse() => end,
        };
        tracing::info!("Runner ends with {}.", end.code);
        self.dispatcher.shutdown().await;
        if end.session == SessionAtEnd::Deleted
            && let Err(failure) = self.listener.sessions.delete().await
        {
            tracing::warn!("Catch exception during delete session: {failure}");
        }
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
            Configuration::delete(&*runner.disk);
            (exit::SUCCESS, SessionAtEnd::Left)
        }
        PollEnd::NonRetryable => (exit::TERMINATED_ERROR, SessionAtEnd::Deleted),
        PollEnd::Error => (exit::RETRYABLE_ERROR, SessionAtEnd::Deleted),
    };
    End { code, session }
}
