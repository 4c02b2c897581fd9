//! Creating and deleting the session (`CreateSessionAsync` of both listeners).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;
use uuid::Uuid;

use crate::actions::choices::{
    ClockSkew, ConflictBudget, CreateReplay, OnNotFound, OnRefusal, SessionDelete, SessionPause,
};
use crate::clock;
use crate::distributed_task::agent::{NotFounds, is_not_found, is_refusal};
use crate::distributed_task::cipher::SessionKey;
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::seconds;
use crate::distributed_task::task_server::Connection;
use crate::distributed_task::wire::{TaskAgent, TaskAgentSession};
use crate::signal::Watch;

use super::runner::Runner;

/// Pause between attempts to create a session (`MessageListener.cs`, `_sessionCreationRetryInterval`).
pub const CREATION_PAUSE: Duration = Duration::from_secs(30);
/// How long conflicts are retried, counted in pauses (`_sessionConflictRetryLimit`). The eighth conflict reaches it,
/// after 210 s.
pub const CONFLICT_LIMIT: Duration = Duration::from_secs(240);
/// How long a wrong clock is waited for, counted in pauses (`_clockSkewRetryLimit`).
pub const CLOCK_SKEW_LIMIT: Duration = Duration::from_secs(30 * 60);
/// What the deletion of a session may take (`MessageListener.DeleteSessionAsync`).
pub const DELETE_TIMEOUT: Duration = Duration::from_secs(30);

const JITTERED_PAUSE: Range<Duration> = seconds(15..45);

/// Which generation of the protocol a runner is configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    V1,
    V2,
}

/// Why there will be no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSession {
    /// `CreateSessionResult.Failure`: exit code 1.
    Failure,
    /// `CreateSessionResult.SessionConflict`: exit code 5.
    Conflict,
    /// The access token was revoked: a clean end.
    TokenRevoked,
    /// The registration is gone, confirmed: its configuration is to be deleted.
    Gone,
}

/// An open session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Its id; `None` after a success that had no session in it.
    pub id: Option<Uuid>,
    /// Base URL of the broker that has it, if a broker does.
    pub broker: Option<String>,
    /// Decrypts its messages.
    pub key: Option<SessionKey>,
}

/// The session of a runner, and what has gone wrong with its creation.
pub(super) struct Sessions {
    runner: Arc<Runner>,
    flow: Flow,
    owner: String,
    current: Watch<Option<Session>>,
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
    pub fn new(runner: Arc<Runner>) -> Self {
        let flow = if runner.settings.use_v2_flow { Flow::V2 } else { Flow::V1 };
        let process = runner.line.random.with(|random| random.next_u32()) % 32_767 + 1;
        let owner = format!("{} (PID: {process})", runner.settings.agent_name);
        Self { runner, flow, owner, current: Watch::new(None), conflicts: 0, skews: 0, not_found: NotFounds::default() }
    }

    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The open session.
    pub fn current(&self) -> &Watch<Option<Session>> {
        &self.current
    }

    /// Tries until there is a session, or until that is hopeless.
    pub async fn create(&mut self) -> Result<(), NoSession> {
        let key = match self.runner.choices.create_replay {
            CreateReplay::Blind => None,
            CreateReplay::Keyed => Some(self.runner.line.random.guid()),
        };
        let mut encountered_error = false;
        loop {
            let failure = match self.open(key).await {
                Ok(session) => {
                    tracing::info!("Session created.");
                    self.current.set(Some(session));
                    if encountered_error {
                        tracing::info!("Runner reconnected.");
                        (self.conflicts, self.skews) = (0, 0);
                    }
                    self.not_found.forget();
                    return Ok(());
                }
                Err(failure) => failure,
            };
            tracing::warn!("Catch exception during create session: {failure}");
            encountered_error = true;
            match self.judge(&failure).await {
                Verdict::Stop(why) => {
                    if why == NoSession::Conflict {
                        let seconds = CONFLICT_LIMIT.as_secs();
                        tracing::error!("Stop retry on SessionConflictException after retried for {seconds} seconds.");
                    }
                    tracing::error!("Failed to create session. {failure}");
                    return Err(why);
                }
                Verdict::Wait(wait) => {
                    tracing::info!("Sleeping for {} seconds before retrying.", wait.as_secs_f32());
                    self.runner.line.clock.sleep(wait).await;
                }
            }
        }
    }

    /// Ends the session.
    pub async fn delete(&mut self) -> Result<(), Failure> {
        let Some(session) = self.current.change(Option::take) else { return Ok(()) };
        let work = async {
            match (&session.broker, session.id) {
                (Some(base), id) => {
                    let named = match self.runner.choices.session_delete {
                        SessionDelete::ByIdentity => None,
                        SessionDelete::BySession => id,
                    };
                    self.runner.broker(base).delete_session(named).await
                }
                (None, Some(id)) => self.runner.server.delete_session(id).await,
                (None, None) => Ok(()),
            }
        };
        match clock::timeout(&*self.runner.line.clock, DELETE_TIMEOUT, work).await {
            Ok(done) => done,
            Err(clock::Timeout(limit)) => Err(Failure::TimedOut(limit)),
        }
    }

    /// The server said that this runner does not exist. How long to wait before asking again; `None` to believe it.
    pub fn ask_again(&mut self) -> Option<Duration> {
        let wait = self.not_found.one_more();
        match self.runner.choices.on_not_found {
            OnNotFound::DeletesConfiguration => None,
            OnNotFound::Confirms => wait,
        }
    }

    /// The server said something that it would not say to a runner that does not exist.
    pub fn is_known(&mut self) {
        self.not_found.forget();
    }

    async fn open(&self, key: Option<Uuid>) -> Result<Session, Failure> {
        let asked = self.asked();
        match self.flow {
            Flow::V2 => {
                let base = self.runner.settings.server_url_v2.as_deref().unwrap_or(&self.runner.settings.server_url);
                self.open_at_broker(base, &asked, key).await
            }
            Flow::V1 => {
                self.connect().await?;
                let opened = self.runner.server.create_session(&asked, key).await?;
                match &opened.broker_migration_message {
                    Some(migration) => self.open_at_broker(&migration.broker_base_url, &asked, key).await,
                    None => self.opened(opened, None),
                }
            }
        }
    }

    async fn open_at_broker(
        &self,
        base: &str,
        asked: &TaskAgentSession,
        key: Option<Uuid>,
    ) -> Result<Session, Failure> {
        match self.runner.broker(base).create_session(asked, key).await? {
            Some(opened) => self.opened(opened, Some(base.to_owned())),
            None => Ok(Session { id: None, broker: Some(base.to_owned()), key: None }),
        }
    }

    fn opened(&self, session: TaskAgentSession, broker: Option<String>) -> Result<Session, Failure> {
        let key = self.runner.session_key(&session)?;
        Ok(Session { id: session.session_id, broker, key })
    }

    /// The runner opens its three connections at the same time (`RunnerServer.ConnectAsync`).
    async fn connect(&self) -> Result<(), Failure> {
        let server = &self.runner.server;
        let (generic, message_queue, job_request) = futures_util::join!(
            server.connect(Connection::Generic),
            server.connect(Connection::MessageQueue),
            server.connect(Connection::JobRequest),
        );
        generic.and(message_queue).and(job_request).map(drop)
    }

    fn asked(&self) -> TaskAgentSession {
        let settings = &self.runner.settings;
        TaskAgentSession {
            owner_name: self.owner.clone(),
            agent: TaskAgent {
                id: settings.agent_id,
                name: settings.agent_name.clone(),
                version: Some(self.runner.version().to_owned()),
                os_description: Some("Linux".to_owned()),
                ..TaskAgent::default()
            },
            use_fips_encryption: self.runner.fips,
            ..TaskAgentSession::default()
        }
    }

    /// The order of the tests is upstream's. What a token endpoint says of a registration may be taken back; the repaired
    /// runner believes only the server itself that it is gone.
    async fn judge(&mut self, failure: &Failure) -> Verdict {
        let choices = &self.runner.choices;
        if failure.is(key::TOKEN_EXPIRED) && choices.on_refusal == OnRefusal::Fatal {
            return Verdict::Stop(NoSession::TokenRevoked);
        }
        if failure.is_clock_skew() && choices.clock_skew == ClockSkew::SkewFirst {
            return Verdict::Wait(self.pause());
        }
        let believed = choices.on_not_found == OnNotFound::DeletesConfiguration || failure.is_clock_skew();
        if let (Failure::Token { .. }, true) = (failure, believed) {
            if failure.is_invalid_client() {
                return self.registration_lost();
            }
            tracing::info!("Test oauth app registration.");
            if let Err(probed) = self.runner.tokens.validate(&self.runner.line).await
                && probed.is_invalid_client()
            {
                return self.registration_lost();
            }
        }
        if is_not_found(failure) {
            return self.registration_lost();
        }
        self.not_found.forget();
        if failure.is(key::SESSION_CONFLICT) {
            return self.conflict();
        }
        if failure.is_clock_skew() {
            self.skews += 1;
            let given_up = CREATION_PAUSE * self.skews >= CLOCK_SKEW_LIMIT;
            return if given_up { Verdict::Stop(NoSession::Failure) } else { Verdict::Wait(self.pause()) };
        }
        match self.runner.choices.on_refusal {
            OnRefusal::Fatal if self.is_fatal(failure) => Verdict::Stop(NoSession::Failure),
            _ => Verdict::Wait(self.pause()),
        }
    }

    /// Only V1 stops on an OAuth error other than `server_error` (`MessageListener.cs:573`).
    fn is_fatal(&self, failure: &Failure) -> bool {
        let by_flow = match (self.flow, failure) {
            (Flow::V1, Failure::Token { error, .. }) => error != "server_error",
            (Flow::V2, Failure::InvalidOperation(_)) => true,
            _ => false,
        };
        by_flow || is_refusal(failure)
    }

    fn conflict(&mut self) -> Verdict {
        self.conflicts += 1;
        let given_up = CREATION_PAUSE * self.conflicts >= CONFLICT_LIMIT;
        match self.runner.choices.conflict_budget {
            ConflictBudget::ExitAfter8 if given_up => Verdict::Stop(NoSession::Conflict),
            _ => Verdict::Wait(self.pause()),
        }
    }

    fn registration_lost(&mut self) -> Verdict {
        match (self.ask_again(), self.runner.choices.on_not_found) {
            (Some(wait), _) => Verdict::Wait(wait),
            (None, OnNotFound::DeletesConfiguration) => Verdict::Stop(NoSession::Failure),
            (None, OnNotFound::Confirms) => Verdict::Stop(NoSession::Gone),
        }
    }

    fn pause(&self) -> Duration {
        match self.runner.choices.session_pause {
            SessionPause::Fixed => CREATION_PAUSE,
            SessionPause::Jittered => self.runner.line.random.uniform(JITTERED_PAUSE),
        }
    }
}
