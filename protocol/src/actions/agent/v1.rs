//! What is V1's own: polls at the pool, and jobs that come whole in their message.

use crate::actions::choices::AckOrder;
use crate::distributed_task::agent::{Origin, body, decrypted};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::wire::{self, TaskAgentMessage};

use super::intake::Intake;
use super::runner::Runner;
use super::session::Session;

/// Polls the pool; the message is decrypted.
pub(super) async fn message(
    runner: &Runner,
    session: &Session,
    cursor: Option<i64>,
    status: &'static str,
) -> Result<Option<TaskAgentMessage>, Failure> {
    let id = session.id.ok_or(Failure::NullReference)?;
    let message = runner.server.message(id, cursor, &runner.poll_status(status)).await?;
    message.map(|message| decrypted(message, session.key.as_ref())).transpose()
}

impl Intake {
    /// Hands a job that came whole to the dispatcher, and deletes its message when that is due.
    pub(super) async fn take_v1_job(&self, message: &TaskAgentMessage) -> Result<(), Failure> {
        let job: wire::JobMessage = body(message)?;
        let dispatch = match self.dispatcher.in_hand(&job) {
            Some(dispatch) if self.runner.choices.ack_order == AckOrder::OnceLeased => dispatch,
            _ => self.dispatcher.run(job, Origin::V1),
        };
        let (session, cursor) = (self.session_of_pool(), &self.cursor);
        self.runner.station.settle(session, cursor, message.message_id, dispatch).await;
        Ok(())
    }

    /// Deletes a V1 message; errors are only logged.
    pub(super) async fn delete_message(&self, message: &TaskAgentMessage) {
        if let Some(id) = self.session_of_pool() {
            self.runner.delete_message(id, message.message_id).await;
        }
    }

    pub(super) fn session_of_pool(&self) -> Option<uuid::Uuid> {
        self.session
            .see(|session| session.as_ref().filter(|session| session.broker.is_none()).and_then(|session| session.id))
    }

    /// Is the job of this message being executed?
    pub(super) fn is_in_hand(&self, message: &TaskAgentMessage) -> bool {
        body::<wire::JobMessage>(message).is_ok_and(|job| self.dispatcher.in_hand(&job).is_some())
    }
}
