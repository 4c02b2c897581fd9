//! Waiting for the next message (`GetNextMessageAsync` of both listeners): errors, waits and the cursor.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, select_biased};

use crate::actions::choices::{EmptyPolls, FatalPoll, NestedRetries, OnRefusal, PollErrors, StatusChange};
use crate::clock::Mono;
use crate::distributed_task::agent::{Cursor, Dispatcher, body, conduct, is_not_found, is_refusal};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::seconds;
use crate::distributed_task::task_server::Connection;
use crate::distributed_task::wire::{BrokerMigration, TaskAgentMessage, message_type};

use super::backoff::Backoff;
use super::runner::Runner;
use super::session::{Flow, NoSession, Sessions};
use super::{v1, v2};

/// The V2 listener gives up at this error (`BrokerMessageListener.cs:366-369`).
pub const ERRORS_LIMIT: u32 = 10;
/// More empty polls than this, within [`EMPTY_POLLS_PERIOD`], slow the V1 listener down by [`EMPTY_POLLS_WAIT`] each.
pub const EMPTY_POLLS_LIMIT: u32 = 50;
/// See [`EMPTY_POLLS_LIMIT`].
pub const EMPTY_POLLS_PERIOD: Duration = Duration::from_secs(30 * 60);
/// See [`EMPTY_POLLS_LIMIT`].
pub const EMPTY_POLLS_WAIT: Range<Duration> = seconds(15..30);

/// Polls of the repaired runner that end sooner than this are followed by [`PACED_WAIT`].
const PACE: Duration = Duration::from_secs(1);
const PACED_WAIT: Range<Duration> = seconds(1..2);

/// What a failed poll says.
enum Meaning {
    /// That it may go better the next time.
    Trouble,
    /// That there is no such agent, which is to be asked again after this time.
    ToConfirm(Duration),
    /// That the listener is to end.
    End(PollEnd),
}

/// Why no further message will come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PollEnd {
    /// The access token was revoked.
    TokenRevoked,
    /// The runner does not exist.
    Gone,
    /// An error that V2 takes for final (`NonRetryableException`).
    NonRetryable,
    /// Any other error that leaves the listener.
    Error,
}

/// Waits for messages.
pub(super) struct Listener {
    pub runner: Arc<Runner>,
    pub sessions: Sessions,
    pub dispatcher: Arc<Dispatcher>,
    pub cursor: Cursor,
    backoff: Backoff,
    polled: Option<Mono>,
    empties: Empties,
}

struct Empties {
    count: u32,
    since: Mono,
}

/// What came of one poll.
enum Polled {
    Message(TaskAgentMessage),
    Nothing,
    Aborted,
}

impl Listener {
    pub fn new(runner: Arc<Runner>, dispatcher: Arc<Dispatcher>) -> Self {
        let empties = Empties { count: 0, since: runner.line.mono() };
        let sessions = Sessions::new(runner.clone());
        let backoff = Backoff::new(runner.choices.poll_backoff);
        Self { runner, sessions, dispatcher, cursor: Cursor::default(), backoff, polled: None, empties }
    }

    /// The next message.
    pub async fn next_message(&mut self) -> Result<TaskAgentMessage, PollEnd> {
        let mut errors = 0;
        loop {
            self.pace().await;
            match self.poll().await {
                Ok(Polled::Aborted) => {
                    tracing::info!(
                        "Get messages has been cancelled using local token source. Continue with new status."
                    );
                    continue;
                }
                Ok(Polled::Message(message)) => {
                    self.sessions.is_known();
                    self.backoff.succeeded();
                    return Ok(message);
                }
                Ok(Polled::Nothing) => {
                    self.sessions.is_known();
                    self.backoff.succeeded();
                    if self.sessions.flow() == Flow::V1 || self.runner.choices.poll_errors == PollErrors::Consecutive {
                        errors = 0;
                    }
                }
                Err(failure) => {
                    tracing::warn!("Catch exception during get next message: {failure}");
                    self.recover(failure, &mut errors).await?;
                }
            }
            if self.sessions.flow() == Flow::V1 {
                self.after_empty().await;
            }
        }
    }

    async fn poll(&mut self) -> Result<Polled, Failure> {
        let status = self.dispatcher.status().get();
        let session = self.sessions.current().get().ok_or(Failure::NullReference)?;
        let message = {
            let asked = async {
                match &session.broker {
                    None => v1::message(&self.runner, &session, self.cursor.get(), status).await,
                    Some(base) => v2::message(&self.runner, &session, base, status).await,
                }
            };
            match self.runner.choices.status_change {
                StatusChange::KeepsPoll => asked.await?,
                aborts => select_biased! {
                    message = asked.fuse() => message?,
                    () = self.dispatcher.status().is(|now| *now != status).fuse() => return match aborts {
                        StatusChange::AbortFails => Err(Failure::InvalidOperation("The operation was canceled.".into())),
                        _ => Ok(Polled::Aborted),
                    },
                },
            }
        };
        let (message, by) = match message {
            Some(message) if message.message_type == message_type::BROKER_MIGRATION && session.broker.is_none() => {
                // The broker is polled under the outer token: a change of status does not abort it.
                let migration: BrokerMigration = body(&message)?;
                tracing::info!("The pool sends this runner to the broker at {}.", migration.broker_base_url);
                (v2::message(&self.runner, &session, &migration.broker_base_url, status).await?, Flow::V2)
            }
            other => (other, if session.broker.is_none() { Flow::V1 } else { Flow::V2 }),
        };
        let Some(message) = message else { return Ok(Polled::Nothing) };
        // The broker's numbers say nothing about what the pool has.
        if by == Flow::V1 || self.runner.choices.cursor == conduct::Cursor::AdvancesOnReceipt {
            self.cursor.advance(message.message_id);
        }
        Ok(Polled::Message(message))
    }

    /// Opens a new session, or waits, or gives up.
    async fn recover(&mut self, failure: Failure, errors: &mut u32) -> Result<(), PollEnd> {
        if failure.is(key::SESSION_EXPIRED) && !self.runner.settings.skip_session_recover {
            match self.sessions.create().await {
                Ok(()) => {
                    tracing::info!("TaskAgentSessionExpiredException received, recovered by recreate session.");
                    return Ok(());
                }
                Err(NoSession::Gone) => return Err(PollEnd::Gone),
                Err(_) => {}
            }
        }
        let busy_anyhow = self.runner.choices.fatal_poll == FatalPoll::KeepsJob && self.dispatcher.is_busy();
        match self.meaning(&failure) {
            Meaning::Trouble => {}
            Meaning::ToConfirm(wait) => self.runner.line.clock.sleep(wait).await,
            Meaning::End(_) if busy_anyhow => {}
            Meaning::End(end) => return Err(end),
        }
        *errors += 1;
        if self.sessions.flow() == Flow::V2 && *errors >= ERRORS_LIMIT && !busy_anyhow {
            return Err(PollEnd::Error);
        }
        let wait = self.backoff.next(*errors, &failure, &self.runner.line);
        if self.sessions.flow() == Flow::V1 && self.runner.choices.nested_retries == NestedRetries::Multiplied {
            let limit = self.runner.server.send_timeout(Connection::MessageQueue);
            self.runner.server.refresh(Connection::MessageQueue, limit).await;
        }
        tracing::info!("Sleeping for {} seconds before retrying.", wait.as_secs_f32());
        self.backoff.wait(&self.runner.line).await;
        Ok(())
    }

    fn meaning(&mut self, failure: &Failure) -> Meaning {
        if is_not_found(failure) {
            return self.sessions.ask_again().map_or(Meaning::End(PollEnd::Gone), Meaning::ToConfirm);
        }
        self.sessions.is_known();
        let fatal = match self.sessions.flow() {
            Flow::V1 => PollEnd::Error,
            Flow::V2 => PollEnd::NonRetryable,
        };
        if failure.is(key::SESSION_EXPIRED) {
            return Meaning::End(fatal);
        }
        if self.runner.choices.on_refusal == OnRefusal::Retried || !is_refusal(failure) {
            return Meaning::Trouble;
        }
        Meaning::End(if failure.is(key::TOKEN_EXPIRED) { PollEnd::TokenRevoked } else { fatal })
    }

    async fn pace(&mut self) {
        let line = &self.runner.line;
        let since = self.polled.map(|polled| line.mono().since(polled));
        if self.runner.choices.empty_polls == EmptyPolls::Paced && since.is_some_and(|since| since < PACE) {
            line.sleep_uniform(PACED_WAIT).await;
        }
        self.polled = Some(line.mono());
    }

    async fn after_empty(&mut self) {
        let line = &self.runner.line;
        self.empties.count += 1;
        if line.mono().since(self.empties.since) > EMPTY_POLLS_PERIOD {
            let session = self.sessions.current().see(|session| session.as_ref().and_then(|session| session.id));
            let session = session.unwrap_or_default();
            tracing::info!("No message retrieved from session '{session}' within last 30 minutes.");
            self.empties = Empties { count: 0, since: line.mono() };
        } else if self.empties.count > EMPTY_POLLS_LIMIT {
            line.sleep_uniform(EMPTY_POLLS_WAIT).await;
        }
    }
}
