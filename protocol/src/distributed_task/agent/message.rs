//! Messages of the pool: reading them, deleting them, and the cursor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::clock;
use crate::distributed_task::cipher::{Digest, SessionKey};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::wire::{self, JobCancelMessage, TaskAgentMessage, TaskAgentSession};
use crate::signal::Watch;

use super::conduct::{self, AckOrder};
use super::dispatch::{Dispatch, Dispatcher, Fate};
use super::station::Station;

/// What the deletion of a message may take (`Runner.cs`, `Agent.cs`).
pub const DELETE_MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The JSON in a message.
///
/// # Errors
/// [`Failure::Unreadable`].
pub fn body<T: DeserializeOwned>(message: &TaskAgentMessage) -> Result<T, Failure> {
    wire::from_slice(message.body.as_bytes()).map_err(|error| Failure::Unreadable(error.to_string()))
}

/// A message with its body in plain text.
///
/// # Errors
/// [`Failure::Unreadable`].
pub fn decrypted(message: TaskAgentMessage, key: Option<&SessionKey>) -> Result<TaskAgentMessage, Failure> {
    let Some(key) = key else { return Ok(message) };
    let body = key.decrypt(&message).map_err(|error| Failure::Unreadable(error.to_string()))?;
    Ok(TaskAgentMessage { body, iv: None, ..message })
}

/// The last message received.
#[derive(Clone, Debug)]
pub struct Cursor {
    last: Watch<Option<i64>>,
    /// The messages whose jobs were not ours, and the attempts at these.
    disowned: Watch<BTreeMap<i64, u32>>,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { last: Watch::new(None), disowned: Watch::new(BTreeMap::new()) }
    }
}

impl Cursor {
    /// What polls say.
    pub fn get(&self) -> Option<i64> {
        self.last.get()
    }

    /// A message was received.
    pub fn advance(&self, message: i64) {
        self.last.set(Some(message));
    }

    /// A message came to nothing: it is to be seen again, where that is the choice.
    pub fn undo(&self, choice: conduct::Cursor, message: i64) {
        if choice == conduct::Cursor::AdvancesOnDispatch {
            self.last.change(|last| *last = last.map(|last| last.min(message.saturating_sub(1))));
        }
    }

    /// An attempt that a message brought is not ours, or no longer. The pool may use its number for the next one: so it is
    /// to be seen again, and deleted only if it brings the same once more. Returns whether it is left alone.
    pub fn disown(&self, choice: conduct::Cursor, message: i64, attempt: u32) -> bool {
        let before = self.disowned.change(|disowned| disowned.insert(message, attempt));
        let left_alone = choice == conduct::Cursor::AdvancesOnDispatch && before != Some(attempt);
        if left_alone {
            self.undo(choice, message);
        }
        left_alone
    }
}

impl Station {
    /// The key of an opened session's messages, if it has one.
    ///
    /// # Errors
    /// [`Failure::Unreadable`].
    pub fn session_key(&self, opened: &TaskAgentSession) -> Result<Option<SessionKey>, Failure> {
        let Some(key) = opened.encryption_key.as_ref().filter(|key| !key.value.is_empty()) else { return Ok(None) };
        let read = SessionKey::read(key, self.signer.key(), Digest::of(self.fips));
        read.map(Some).map_err(|error| Failure::Unreadable(error.to_string()))
    }

    /// Deletes a message; errors are only logged.
    pub async fn delete_message(&self, session: Uuid, message: i64) {
        let call = self.server.delete_message(session, message);
        match clock::timeout(&*self.line.clock, DELETE_MESSAGE_TIMEOUT, call).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!("Catch exception during delete message {message}: {failure}"),
            Err(timeout) => tracing::warn!("Catch exception during delete message {message}: {timeout}"),
        }
    }

    /// Deletes the message of a job that was handed to the dispatcher: now, or beside the main line once the first
    /// renewal has shown whose the job is. The cursor goes back before a message that came to nothing.
    pub async fn settle(
        self: &Arc<Self>,
        session: Option<Uuid>,
        cursor: &Cursor,
        message: i64,
        dispatch: Arc<Dispatch>,
    ) {
        let at_once = self.conduct.ack_order == AckOrder::OnDispatch;
        if let (true, Some(session)) = (at_once, session) {
            self.delete_message(session, message).await;
        }
        // What is delivered again before that is known says nothing new.
        if !dispatch.settling.change(|messages| messages.insert(message)) {
            return;
        }
        let (station, cursor) = (self.clone(), cursor.clone());
        self.tasks.add(async move {
            let stays = match dispatch.fate.until(|fate| *fate).await {
                Fate::Heeded => false,
                Fate::NotOurs => cursor.disown(station.conduct.cursor, message, dispatch.job.attempt()),
                Fate::Nothing => {
                    cursor.undo(station.conduct.cursor, message);
                    true
                }
            };
            if let Some(session) = session.filter(|_| !stays && !at_once) {
                station.delete_message(session, message).await;
            }
            dispatch.settling.change(|messages| messages.remove(&message));
        });
    }

    /// Cancels a job and deletes the message that says so: now, or beside the main line once nothing of the job is in hand.
    ///
    /// # Errors
    /// [`Failure::Unreadable`].
    pub async fn cancel(
        self: &Arc<Self>,
        dispatcher: &Arc<Dispatcher>,
        session: Option<Uuid>,
        message: &TaskAgentMessage,
    ) -> Result<(), Failure> {
        let cancel: JobCancelMessage = body(message)?;
        dispatcher.cancel(cancel.job_id, cancel.timeout);
        let Some(session) = session else { return Ok(()) };
        match self.conduct.ack_order {
            AckOrder::OnDispatch => self.delete_message(session, message.message_id).await,
            AckOrder::OnceLeased => {
                let (station, dispatcher, message) = (self.clone(), dispatcher.clone(), message.message_id);
                // It is handed out again and again meanwhile.
                if dispatcher.keeps(message) {
                    self.tasks.add(async move {
                        dispatcher.is_over(cancel.job_id).await;
                        dispatcher.keeps_no_more(message);
                        station.delete_message(session, message).await;
                    });
                }
            }
        }
        Ok(())
    }
}
