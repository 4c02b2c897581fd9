//! Creating and deleting the session (`MessageListener.CreateSessionAsync`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::azure::choices::{Choices, OnNotFound, OnRefusal, SessionPause};
use crate::clock;
use crate::distributed_task::agent::conduct::{ConflictBudget, CreateReplay};
use crate::distributed_task::agent::{NotFounds, Station, is_not_found, is_refusal};
use crate::distributed_task::cipher::SessionKey;
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::seconds;
use crate::distributed_task::task_server::Connection;
use crate::distributed_task::wire::{TaskAgent, TaskAgentSession};
use crate::signal::Watch;

/// Pause between attempts to create a session, without the flag for progressive back-off.
pub const CREATION_PAUSE: Duration = Duration::from_secs(30);
/// How many conflicts in a row end the process (`_sessionConflictRetryLimit` over the pause).
pub const CONFLICT_LIMIT: u32 = 8;
/// How often a wrong clock is waited for (`_clockSkewRetryLimit` over the pause).
pub const CLOCK_SKEW_LIMIT: u32 = 60;
/// What the deletion of a session may take.
pub const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

const JITTERED_PAUSE: Range<Duration> = seconds(15..45);

/// Why there will be no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSession {
    /// Exit code 1.
    Failure,
    /// The access token was revoked: a clean end.
    TokenRevoked,
}

/// An open session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub id: Uuid,
    pub key: Option<SessionKey>,
}

/// The session of an agent, and what has gone wrong with its creation.
pub(super) struct Sessions {
    station: Arc<Station>,
    choices: Choices,
    /// Does the agent know that its back-off is to be progressive? Not before its first session.
    progressive: Watch<bool>,
    current: Watch<Option<Session>>,
    errors: u32,
    conflicts: u32,
    skews: u32,
    not_found: NotFounds,
}

/// What to do after a failed creation.
enum Verdict {
    Wait(Duration),
    Stop(NoSession),
}

impl Sessions {
    pub fn new(station: Arc<Station>, choices: Choices, progressive: Watch<bool>) -> Self {
        let current = Watch::new(None);
        Self {
            station,
            choices,
            progressive,
            current,
            errors: 0,
            conflicts: 0,
            skews: 0,
            not_found: NotFounds::default(),
        }
    }

    /// The open session.
    pub fn current(&self) -> &Watch<Option<Session>> {
        &self.current
    }

    /// Tries until there is a session, or until that is hopeless.
    pub async fn create(&mut self) -> Result<(), NoSession> {
        let key = match self.choices.create_replay {
            CreateReplay::Blind => None,
            CreateReplay::Keyed => Some(self.station.line.random.guid()),
        };
        loop {
            let failure = match self.open(key).await {
                Ok(session) => {
                    tracing::info!("Session created.");
                    self.current.set(Some(session));
                    (self.errors, self.conflicts, self.skews) = (0, 0, 0);
                    self.not_found.forget();
                    return Ok(());
                }
                Err(failure) => failure,
            };
            tracing::warn!("Catch exception during create session: {failure}");
            self.errors += 1;
            match self.judge(&failure) {
                Verdict::Stop(why) => {
                    tracing::error!("Failed to create session. {failure}");
                    return Err(why);
                }
                Verdict::Wait(wait) => {
                    tracing::info!("Sleeping for {} seconds before retrying.", wait.as_secs_f32());
                    self.station.line.clock.sleep(wait).await;
                }
            }
        }
    }

    /// Ends the session.
    pub async fn delete(&mut self) -> Result<(), Failure> {
        let Some(session) = self.current.change(Option::take) else { return Ok(()) };
        let work = self.station.server.delete_session(session.id);
        match clock::timeout(&*self.station.line.clock, DELETE_TIMEOUT, work).await {
            Ok(done) => done,
            Err(clock::Timeout(limit)) => Err(Failure::TimedOut(limit)),
        }
    }

    /// The server said that this agent does not exist. How long to wait before asking again; `None` to believe it.
    pub fn ask_again(&mut self) -> Option<Duration> {
        let wait = self.not_found.one_more();
        match self.choices.on_not_found {
            OnNotFound::Believed => None,
            OnNotFound::Confirmed => wait,
        }
    }

    /// The server said something that it would not say to an agent that does not exist.
    pub fn is_known(&mut self) {
        self.not_found.forget();
    }

    async fn open(&self, key: Option<Uuid>) -> Result<Session, Failure> {
        self.connect().await?;
        let opened = self.station.server.create_session(&self.asked(), key).await?;
        let id = opened.session_id.ok_or_else(|| Failure::Unreadable("a session without an id".into()))?;
        Ok(Session { id, key: self.station.session_key(&opened)? })
    }

    /// The first connection alone, then two at a time: so that only one of them meets a 401.
    async fn connect(&self) -> Result<(), Failure> {
        let server = &self.station.server;
        server.connect(Connection::Generic).await?;
        let (message_queue, job_request) =
            futures_util::join!(server.connect(Connection::MessageQueue), server.connect(Connection::JobRequest));
        message_queue.and(job_request).map(drop)
    }

    fn asked(&self) -> TaskAgentSession {
        let settings = &self.station.settings;
        TaskAgentSession {
            owner_name: settings.agent_name.clone(),
            agent: TaskAgent {
                id: settings.agent_id,
                name: settings.agent_name.clone(),
                version: Some(super::update::installed(&*self.station.disk)),
                os_description: Some("Linux".to_owned()),
                ..TaskAgent::default()
            },
            use_fips_encryption: self.station.fips,
            ..TaskAgentSession::default()
        }
    }

    /// What a token endpoint refuses is retried for ever, whatever it says: only a clock that is wrong is given up.
    fn judge(&mut self, failure: &Failure) -> Verdict {
        if is_not_found(failure) {
            return match self.ask_again() {
                Some(wait) => Verdict::Wait(wait),
                None => Verdict::Stop(NoSession::Failure),
            };
        }
        self.not_found.forget();
        if failure.is(key::SESSION_CONFLICT) {
            self.conflicts += 1;
            let given_up =
                self.choices.conflict_budget == ConflictBudget::ExitAfter8 && self.conflicts >= CONFLICT_LIMIT;
            return if given_up { Verdict::Stop(NoSession::Failure) } else { Verdict::Wait(self.pause()) };
        }
        match self.choices.on_refusal {
            OnRefusal::Retried => Verdict::Wait(self.pause()),
            OnRefusal::Fatal if failure.is(key::TOKEN_EXPIRED) => Verdict::Stop(NoSession::TokenRevoked),
            OnRefusal::Fatal if is_refusal(failure) => Verdict::Stop(NoSession::Failure),
            OnRefusal::Fatal if failure.is_clock_skew() => {
                self.skews += 1;
                let given_up = self.skews >= CLOCK_SKEW_LIMIT;
                if given_up { Verdict::Stop(NoSession::Failure) } else { Verdict::Wait(self.pause()) }
            }
            OnRefusal::Fatal => Verdict::Wait(self.pause()),
        }
    }

    fn pause(&self) -> Duration {
        match self.choices.session_pause {
            SessionPause::FixedOrProgressive if self.progressive.get() => progressive(self.errors),
            SessionPause::FixedOrProgressive => CREATION_PAUSE,
            SessionPause::Jittered => self.station.line.random.uniform(JITTERED_PAUSE),
        }
    }
}

/// First wait and longest wait of the progressive back-off (`MessageListener.cs:466-479`).
const PROGRESSIVE_BASE: Duration = Duration::from_millis(1_500);
/// See `PROGRESSIVE_BASE`.
pub const PROGRESSIVE_MAX: Duration = Duration::from_secs(300);

/// `min(1.5 * 2^n, 300)` seconds after error `n`, counted from 1.
pub(super) fn progressive(errors: u32) -> Duration {
    PROGRESSIVE_BASE.saturating_mul(2_u32.saturating_pow(errors)).min(PROGRESSIVE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progressive_waits_double_up_to_five_minutes() {
        let waits: Vec<u64> = (1..=9).map(|errors| progressive(errors).as_secs()).collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 96, 192, 300, 300]);
        assert_eq!(waits[..7].iter().sum::<u64>(), 381);
        assert_eq!(progressive(u32::MAX), PROGRESSIVE_MAX);
    }
}
