//! Waiting for the next message (`MessageListener.GetNextMessageAsync`), and the poller that keeps a session alive.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::azure::choices::{Choices, EmptyPoll, FatalPoll, OnRefusal, PollBackoff};
use crate::distributed_task::agent::conduct::NestedRetries;
use crate::distributed_task::agent::{Cursor, Dispatcher, Station, decrypted, is_not_found, is_refusal};
use crate::distributed_task::dotnet;
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::seconds;
use crate::distributed_task::task_server::{Connection, PollStatus};
use crate::distributed_task::wire::TaskAgentMessage;
use crate::signal::Watch;

use super::session::{NoSession, Session, Sessions, progressive};

/// Wait after each of the first five failed polls in a row, and after later ones
/// (`MessageListener.cs:72-98`).
pub const FIRST_ERRORS_WAIT: Range<Duration> = seconds(15..30);
/// See [`FIRST_ERRORS_WAIT`].
pub const LATER_ERRORS_WAIT: Range<Duration> = seconds(30..60);
/// How many errors count as the first.
pub const FIRST_ERRORS: u32 = 5;
/// Sleep after each poll that brought nothing, failed ones included (`MessageListener.cs:320-336`).
pub const EMPTY_POLL_WAIT: Range<Duration> = seconds(5..15);
/// What the second poller waits between its polls (`MessageListener.cs:357-391`).
pub const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(30);

/// Polls of the repaired agent that end sooner than this are followed by [`PACED_WAIT`].
const PACE: Duration = Duration::from_secs(1);
const PACED_WAIT: Range<Duration> = seconds(1..2);

/// A poll says nothing about the agent but its session: Azure's agent has no status.
pub(super) const NO_STATUS: PollStatus =
    PollStatus { status: None, version: super::VERSION, os: "Linux", architecture: "X64", disable_update: false };

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollEnd {
    /// The access token was revoked.
    TokenRevoked,
    /// An error that leaves the listener.
    Error,
}

/// Waits for messages.
pub(super) struct Listener {
    pub station: Arc<Station>,
    pub choices: Choices,
    pub sessions: Sessions,
    pub dispatcher: Arc<Dispatcher>,
    pub cursor: Cursor,
    pub progressive: Watch<bool>,
    /// The wait after the last failed poll, and after the last empty one: fields that are never reset.
    backoff: Duration,
    sleep: Duration,
}

impl Listener {
    pub fn new(station: Arc<Station>, choices: Choices, dispatcher: Arc<Dispatcher>) -> Self {
        let progressive = Watch::new(false);
        let sessions = Sessions::new(station.clone(), choices.clone(), progressive.clone());
        let (backoff, sleep) = (Duration::ZERO, Duration::ZERO);
        Self { station, choices, sessions, dispatcher, cursor: Cursor::default(), progressive, backoff, sleep }
    }

    /// The next message.
    pub async fn next_message(&mut self) -> Result<TaskAgentMessage, PollEnd> {
        let mut errors = 0;
        loop {
            let began = self.station.line.mono();
            match self.poll().await {
                Ok(Some(message)) => {
                    self.sessions.is_known();
                    return Ok(message);
                }
                Ok(None) => {
                    self.sessions.is_known();
                    errors = 0;
                }
                Err(failure) => {
                    tracing::warn!("Catch exception during get next message: {failure}");
                    self.recover(failure, &mut errors).await?;
                }
            }
            self.after_nothing(self.station.line.mono().since(began)).await;
        }
    }

    async fn poll(&self) -> Result<Option<TaskAgentMessage>, Failure> {
        let session = self.sessions.current().get().ok_or(Failure::NullReference)?;
        let Some(message) = self.station.server.message(session.id, self.cursor.get(), &NO_STATUS).await? else {
            return Ok(None);
        };
        let message = decrypted(message, session.key.as_ref())?;
        self.cursor.advance(message.message_id);
        Ok(Some(message))
    }

    /// Opens a new session, or waits, or gives up.
    async fn recover(&mut self, failure: Failure, errors: &mut u32) -> Result<(), PollEnd> {
        if failure.is(key::SESSION_EXPIRED) {
            match self.sessions.create().await {
                Ok(()) => {
                    tracing::info!("TaskAgentSessionExpiredException received, recovered by recreate session.");
                    return Ok(());
                }
                Err(NoSession::TokenRevoked) => return Err(PollEnd::TokenRevoked),
                Err(NoSession::Failure) => {}
            }
        }
        let keeps_job = self.choices.fatal_poll == FatalPoll::KeepsJob && self.dispatcher.is_busy();
        match self.meaning(&failure) {
            Meaning::Trouble => {}
            Meaning::ToConfirm(wait) => self.station.line.clock.sleep(wait).await,
            Meaning::End(_) if keeps_job => {}
            Meaning::End(end) => return Err(end),
        }
        *errors += 1;
        self.backoff = self.next_backoff(*errors);
        if self.choices.nested_retries == NestedRetries::Multiplied {
            let limit = self.station.server.send_timeout(Connection::MessageQueue);
            self.station.server.refresh(Connection::MessageQueue, limit).await;
        }
        tracing::info!("Sleeping for {} seconds before retrying.", self.backoff.as_secs_f32());
        self.station.line.clock.sleep(self.backoff).await;
        Ok(())
    }

    fn meaning(&mut self, failure: &Failure) -> Meaning {
        if is_not_found(failure) {
            return self.sessions.ask_again().map_or(Meaning::End(PollEnd::Error), Meaning::ToConfirm);
        }
        self.sessions.is_known();
        if failure.is(key::SESSION_EXPIRED) {
            return Meaning::End(PollEnd::Error);
        }
        if self.choices.on_refusal == OnRefusal::Retried || !is_refusal(failure) {
            return Meaning::Trouble;
        }
        let revoked = failure.is(key::TOKEN_EXPIRED);
        Meaning::End(if revoked { PollEnd::TokenRevoked } else { PollEnd::Error })
    }

    fn next_backoff(&self, errors: u32) -> Duration {
        let range = if errors <= FIRST_ERRORS { FIRST_ERRORS_WAIT } else { LATER_ERRORS_WAIT };
        match self.choices.poll_backoff {
            PollBackoff::ProgressiveOrSeeded if self.progressive.get() => progressive(errors),
            PollBackoff::ProgressiveOrSeeded => dotnet::random_backoff(range.start, range.end, self.backoff),
            PollBackoff::Jittered => self.station.line.random.uniform(range),
        }
    }

    /// What comes between a poll that brought nothing and the next one.
    async fn after_nothing(&mut self, polled_for: Duration) {
        let line = &self.station.line;
        match self.choices.empty_poll {
            EmptyPoll::Sleeps => {
                self.sleep = dotnet::random_backoff(EMPTY_POLL_WAIT.start, EMPTY_POLL_WAIT.end, self.sleep);
                tracing::info!("Sleeping for {} seconds before the next poll.", self.sleep.as_secs_f32());
                line.clock.sleep(self.sleep).await;
            }
            EmptyPoll::PollsAgain if polled_for < PACE => drop(line.sleep_uniform(PACED_WAIT).await),
            EmptyPoll::PollsAgain => {}
        }
    }
}

/// `KeepAliveAsync`: polls the session without a cursor, whatever the main loop does, and looks at nothing that comes.
pub(super) async fn keep_alive(station: Arc<Station>, session: Watch<Option<Session>>) {
    loop {
        let id = session.until(|session| session.as_ref().map(|session| session.id)).await;
        match station.server.message(id, None, &NO_STATUS).await {
            Ok(_) => {
                let agent = station.settings.agent_id;
                tracing::info!("Sent GetAgentMessage to keep alive agent {agent}, session '{id}'.");
            }
            Err(failure) => tracing::info!("Unable to send GetAgentMessage to keep alive agent: {failure}"),
        }
        station.line.clock.sleep(KEEP_ALIVE_PAUSE).await;
    }
}
