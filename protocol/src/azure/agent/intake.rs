//! What becomes of a message: a job, a cancellation, an update of the agent itself (`Agent.cs:478-562`).

use std::sync::Arc;

use crate::azure::choices::{Choices, DeferredMessage};
use crate::azure::supervisor::exit;
use crate::distributed_task::agent::conduct::{AckOrder, SecondJob};
use crate::distributed_task::agent::{Cursor, Dispatcher, Origin, Station, body};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::wire::{AgentRefreshMessage, JobMessage, TaskAgentMessage, message_type};
use crate::signal::Watch;

use super::poll::NO_STATUS;
use super::session::Session;
use super::update::{self, Updated};

/// Handles messages.
pub(super) struct Intake {
    station: Arc<Station>,
    choices: Choices,
    dispatcher: Arc<Dispatcher>,
    session: Watch<Option<Session>>,
    cursor: Cursor,
    /// Jobs that arrived while another one ran.
    waiting: Vec<TaskAgentMessage>,
    update: Option<Watch<Option<Updated>>>,
    /// The last job that arrived during an update.
    deferred: Option<TaskAgentMessage>,
    poll: PollUnderWay,
}

/// What is to become of the poll under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PollUnderWay {
    GoesOn,
    Abandoned,
}

/// Whatever is left to do when it is handled.
pub(super) type Handled = Result<(), ExitCode>;

/// The listener is to end with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExitCode(pub i32);

impl Intake {
    pub fn new(
        station: Arc<Station>,
        choices: Choices,
        dispatcher: Arc<Dispatcher>,
        session: Watch<Option<Session>>,
        cursor: Cursor,
    ) -> Self {
        let poll = PollUnderWay::GoesOn;
        Self { station, choices, dispatcher, session, cursor, waiting: Vec::new(), update: None, deferred: None, poll }
    }

    /// Ends when no job is in hand and one waits for that.
    pub async fn turn(&self) {
        if self.waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        self.dispatcher.idle().await;
    }

    /// Takes the job that waited for its [`turn`](Self::turn).
    pub async fn take_turn(&mut self) -> Handled {
        let message = self.waiting.remove(0);
        self.job(message).await
    }

    /// Ends with the update under way.
    pub async fn updated(&self) -> Updated {
        match &self.update {
            Some(done) => done.until(|done| *done).await,
            None => std::future::pending().await,
        }
    }

    /// An update has ended: the agent does too, or takes the job that arrived meanwhile.
    pub async fn after_update(&mut self, updated: Updated) -> Handled {
        self.update = None;
        if updated == Updated::Ready {
            return Err(ExitCode(exit::AGENT_UPDATING));
        }
        tracing::info!("There is no agent update to apply, continue message queue looping.");
        let Some(message) = self.deferred.take() else { return Ok(()) };
        if self.choices.deferred_message == DeferredMessage::AbandonsPoll {
            self.poll = PollUnderWay::Abandoned;
        }
        self.job(message).await
    }

    /// Is the poll under way left alone? It goes on without anybody who takes its message, and still moves the cursor.
    pub fn abandons_poll(&mut self) -> bool {
        if self.poll == PollUnderWay::GoesOn {
            return false;
        }
        self.poll = PollUnderWay::GoesOn;
        let Some(session) = self.session.get() else { return true };
        let (station, cursor) = (self.station.clone(), self.cursor.clone());
        self.station.tasks.add(async move {
            if let Ok(Some(message)) = station.server.message(session.id, cursor.get(), &NO_STATUS).await {
                cursor.advance(message.message_id);
            }
        });
        true
    }

    /// Handles a message, and deletes it where that is due at once.
    pub async fn handle(&mut self, message: TaskAgentMessage) -> Handled {
        let (number, kind) = (message.message_id, &message.message_type);
        let session = self.session_id().unwrap_or_default();
        tracing::info!("Message '{number}' received from session '{session}': {kind}.");
        match message.message_type.as_str() {
            message_type::PIPELINE_AGENT_JOB_REQUEST => return self.job(message).await,
            message_type::JOB_CANCELLATION => {
                let session = self.session_id();
                return self.station.cancel(&self.dispatcher, session, &message).await.map_err(unforeseen);
            }
            message_type::AGENT_REFRESH if self.update.is_some() => {
                tracing::info!("Agent update is in progress, skip message '{}'.", message.message_id);
            }
            message_type::AGENT_REFRESH => {
                let order: AgentRefreshMessage = body(&message).map_err(unforeseen)?;
                self.update = Some(update::start(&self.station, &self.dispatcher, order));
            }
            other => tracing::warn!("Received message with unsupported message type {other}."),
        }
        if let Some(session) = self.session_id() {
            self.station.delete_message(session, message.message_id).await;
        }
        Ok(())
    }

    async fn job(&mut self, message: TaskAgentMessage) -> Handled {
        if self.update.is_some() {
            tracing::info!("Skip message '{}' since agent is updating.", message.message_id);
            self.deferred = Some(message);
            return Ok(());
        }
        let job: JobMessage = body(&message).map_err(unforeseen)?;
        self.dispatcher.job_arrived(&message);
        let in_hand = self.dispatcher.in_hand(&job);
        if in_hand.is_none() && self.choices.second_job == SecondJob::WaitsForFirst && self.dispatcher.is_busy() {
            if self.waiting.iter().all(|known| known.body != message.body) {
                tracing::info!("Message '{}' waits for the job in hand.", message.message_id);
                self.waiting.push(message);
            }
            return Ok(());
        }
        let once =
            self.choices.second_job == SecondJob::WaitsForFirst || self.choices.ack_order == AckOrder::OnceLeased;
        let known = in_hand.filter(|_| once);
        let dispatch = known.unwrap_or_else(|| self.dispatcher.run(job, Origin::V1));
        self.station.settle(self.session_id(), &self.cursor, message.message_id, dispatch).await;
        Ok(())
    }

    fn session_id(&self) -> Option<uuid::Uuid> {
        self.session.see(|session| session.as_ref().map(|session| session.id))
    }
}

/// An exception that nothing in the main loop catches.
fn unforeseen(failure: Failure) -> ExitCode {
    tracing::warn!("Unhandled exception in the listener: {failure}");
    ExitCode(exit::RETRYABLE_ERROR)
}
