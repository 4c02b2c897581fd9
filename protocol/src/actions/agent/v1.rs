//! What is V1's own: polls at the pool, and jobs that come whole in their message.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::actions::choices::AckOrder;
use crate::clock;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::wire::{self, TaskAgentMessage};

use super::dispatch::{Dispatch, Origin};
use super::intake::Intake;
use super::runner::Runner;
use super::session::Session;

/// What the deletion of a message may take (`Runner.cs`).
pub const DELETE_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Polls the pool; the message is decrypted.
pub(super) async fn message(
    runner: &Runner,
    session: &Session,
    cursor: Option<i64>,
    status: &'static str,
) -> Result<Option<TaskAgentMessage>, Failure> {
    let id = session.id.ok_or(Failure::NullReference)?;
    let message = runner.server.message(id, cursor, &runner.poll_status(status)).await?;
    message.map(|message| decrypted(message, session)).transpose()
}

/// A message with its body in plain text.
pub(super) fn decrypted(message: TaskAgentMessage, session: &Session) -> Result<TaskAgentMessage, Failure> {
    let Some(key) = &session.key else { return Ok(message) };
    let body = key.decrypt(&message).map_err(|error| Failure::Unreadable(error.to_string()))?;
    Ok(TaskAgentMessage { body, iv: None, ..message })
}

/// The JSON in a message.
pub(super) fn body<T: DeserializeOwned>(message: &TaskAgentMessage) -> Result<T, Failure> {
    wire::from_slice(message.body.as_bytes()).map_err(|error| Failure::Unreadable(error.to_string()))
}

impl Intake {
    /// Hands a job that came whole to the dispatcher, and deletes its message when that is due.
    pub(super) async fn take_v1_job(&self, message: &TaskAgentMessage) -> Result<(), Failure> {
        let job: wire::JobMessage = body(message)?;
        let dispatch = match self.dispatcher.in_hand(&job) {
            Some(dispatch) if self.runner.choices.ack_order == AckOrder::OnceLeased => dispatch,
            _ => self.dispatcher.run(job, Origin::V1),
        };
        match self.runner.choices.ack_order {
            AckOrder::OnDispatch => self.delete_message(message).await,
            AckOrder::OnceLeased => {}
        }
        self.settle_once_leased(message.message_id, dispatch);
        Ok(())
    }

    /// Deletes a V1 message; errors are only logged.
    pub(super) async fn delete_message(&self, message: &TaskAgentMessage) {
        if let Some(id) = self.session_of_pool() {
            delete(&self.runner, id, message.message_id).await;
        }
    }

    /// Beside the main line: when the first renewal has shown whose the job is, deletes its message or moves the cursor
    /// back before it.
    fn settle_once_leased(&self, message: i64, dispatch: Arc<Dispatch>) {
        let (runner, cursor) = (self.runner.clone(), self.cursor.clone());
        let session = self.session_of_pool();
        self.runner.tasks.add(async move {
            let accepted = dispatch.accepted.until(|accepted| *accepted).await;
            match (accepted, session) {
                (false, _) => cursor.undo(runner.choices.cursor, message),
                (true, Some(session)) if runner.choices.ack_order == AckOrder::OnceLeased => {
                    delete(&runner, session, message).await;
                }
                (true, _) => {}
            }
        });
    }

    fn session_of_pool(&self) -> Option<uuid::Uuid> {
        self.session
            .see(|session| session.as_ref().filter(|session| session.broker.is_none()).and_then(|session| session.id))
    }

    /// Is the job of this message being executed?
    pub(super) fn is_in_hand(&self, message: &TaskAgentMessage) -> bool {
        body::<wire::JobMessage>(message).is_ok_and(|job| self.dispatcher.in_hand(&job).is_some())
    }
}

async fn delete(runner: &Runner, session: uuid::Uuid, message: i64) {
    let call = runner.server.delete_message(session, message);
    match clock::timeout(&*runner.line.clock, DELETE_MESSAGE_TIMEOUT, call).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tracing::warn!("Catch exception during delete message {message}: {failure}"),
        Err(timeout) => tracing::warn!("Catch exception during delete message {message}: {timeout}"),
    }
}
