//! What becomes of a message: a job, a cancellation, an order to the runner itself (`Runner.cs:515-850`).

use std::sync::Arc;

use futures_util::{FutureExt, select_biased};

use crate::actions::choices::SecondJob;
use crate::actions::supervisor::exit;
use crate::distributed_task::agent::{Cursor, Dispatcher};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::wire::{TaskAgentMessage, message_type};
use crate::signal::Watch;

use super::runner::Runner;
use super::session::Session;
use super::v2::{Acquisitions, Taken};

/// Handles messages.
pub(super) struct Intake {
    pub runner: Arc<Runner>,
    pub dispatcher: Arc<Dispatcher>,
    pub session: Watch<Option<Session>>,
    pub cursor: Cursor,
    pub acquisitions: Acquisitions,
    /// Jobs that arrived while another one ran.
    waiting: Vec<TaskAgentMessage>,
    plan: Plan,
}

/// What the runner is about to do once no job is in hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Take the next job.
    GoOn,
    /// End with this code.
    End(i32),
}

/// Whatever is left to do when it is handled.
pub(super) type Handled = Result<(), ExitCode>;

/// The listener is to end with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExitCode(pub i32);

impl Intake {
    pub fn new(
        runner: Arc<Runner>,
        dispatcher: Arc<Dispatcher>,
        session: Watch<Option<Session>>,
        cursor: Cursor,
    ) -> Self {
        Self {
            runner,
            dispatcher,
            session,
            cursor,
            acquisitions: Acquisitions::default(),
            waiting: Vec::new(),
            plan: Plan::GoOn,
        }
    }

    /// Ends when no job is in hand and something waits for that, or when a job is to be asked for again.
    pub async fn turn(&self) {
        let idle = async {
            if self.waiting.is_empty() && self.plan == Plan::GoOn {
                std::future::pending::<()>().await;
            }
            self.dispatcher.idle().await;
        };
        select_biased! {
            () = idle.fuse() => {}
            () = self.acquisitions.due(&self.runner.line).fuse() => {}
        }
    }

    /// Does what waited for its [`turn`](Self::turn).
    pub async fn take_turn(&mut self) -> Handled {
        if let Some(message) = self.acquisitions.take_due(self.runner.line.mono()) {
            return self.job(message).await;
        }
        match self.plan {
            Plan::End(code) => Err(ExitCode(code)),
            Plan::GoOn if self.waiting.is_empty() => Ok(()),
            Plan::GoOn => {
                let message = self.waiting.remove(0);
                self.job(message).await
            }
        }
    }

    /// Handles a message, and deletes it where that is due at once.
    pub async fn handle(&mut self, message: TaskAgentMessage) -> Handled {
        let (number, kind) = (message.message_id, &message.message_type);
        let session = self.session.see(|session| session.as_ref().and_then(|session| session.id)).unwrap_or_default();
        tracing::info!("Message '{number}' received from session '{session}': {kind}.");
        let ephemeral = self.runner.settings.ephemeral;
        match message.message_type.as_str() {
            message_type::PIPELINE_AGENT_JOB_REQUEST | message_type::RUNNER_JOB_REQUEST => {
                return self.job(message).await;
            }
            message_type::JOB_CANCELLATION => {
                let session = self.session_of_pool();
                return self.runner.station.cancel(&self.dispatcher, session, &message).await.map_err(unforeseen);
            }
            message_type::AGENT_REFRESH | message_type::RUNNER_REFRESH if ephemeral => {
                self.plan = Plan::End(exit::RUN_ONCE_RUNNER_UPDATING);
            }
            message_type::AGENT_REFRESH | message_type::RUNNER_REFRESH => self.plan = Plan::End(exit::RUNNER_UPDATING),
            message_type::RUNNER_REFRESH_CONFIG => self.plan = Plan::End(exit::RUNNER_CONFIGURATION_REFRESHED),
            message_type::FORCE_TOKEN_REFRESH => self.runner.tokens.forget(),
            other => tracing::warn!("Received message with unsupported message type {other}."),
        }
        self.delete_message(&message).await;
        Ok(())
    }

    async fn job(&mut self, message: TaskAgentMessage) -> Handled {
        if self.plan != Plan::GoOn {
            tracing::info!("Skip message '{}': the runner is about to end.", message.message_id);
            return Ok(());
        }
        self.dispatcher.job_arrived(&message);
        if self.runner.choices.second_job == SecondJob::WaitsForFirst && self.dispatcher.is_busy() {
            return self.wait(message).await;
        }
        let taken = match by_pool(&message) {
            true => self.take_v1_job(&message).await.map(|()| Taken::Dispatched),
            false => self.take_v2_job(&message).await,
        };
        match taken.map_err(unforeseen)? {
            Taken::Dispatched if self.runner.settings.ephemeral => self.plan = Plan::End(exit::SUCCESS),
            Taken::Dispatched | Taken::Skipped => {}
            Taken::Done => return Err(ExitCode(exit::SUCCESS)),
        }
        Ok(())
    }

    /// The same message may come again meanwhile, and the job in hand may be its own.
    async fn wait(&mut self, message: TaskAgentMessage) -> Handled {
        if by_pool(&message) && self.is_in_hand(&message) {
            return self.take_v1_job(&message).await.map_err(unforeseen);
        }
        if self.waiting.iter().all(|known| known.body != message.body) {
            tracing::info!("Message '{}' waits for the job in hand.", message.message_id);
            self.waiting.push(message);
        }
        Ok(())
    }
}

fn by_pool(message: &TaskAgentMessage) -> bool {
    message.message_type == message_type::PIPELINE_AGENT_JOB_REQUEST
}

/// An exception that nothing in the main loop catches.
fn unforeseen(failure: Failure) -> ExitCode {
    tracing::warn!("Unhandled exception in the listener: {failure}");
    ExitCode(exit::RETRYABLE_ERROR)
}
