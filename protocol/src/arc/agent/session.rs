//! The session, and what is done in it (SS `session_client.go`).

use std::ops::Range;
use std::time::Duration;

use http::{Method, StatusCode};

use super::api::{Api, CALL_TIMEOUT, Retries, decode, expect};
use super::failure::Failure;
use crate::arc::choices::{AckAnswer, Capacity, CreateReplay, OnConflict, QueueRefusal, Refresh, SessionGone};
use crate::arc::wire::{IDEMPOTENCY_KEY, JOB_MESSAGES, Listed, MAX_CAPACITY, Message, SCALE_SETS, Session, exception};
use crate::distributed_task::client::{Call, Reply};
use crate::line::seconds;

/// `sessionCreationMaxRetries` of 0.8.0 to 0.13.1 and `sessionCreationMaxRetryCount` before.
pub const CREATION_RETRIES: u32 = 10;
/// The pause between them since 0.8.0.
pub const CREATION_PAUSE: Duration = Duration::from_secs(30);
/// The pause between them up to 0.7.0 (`getRandomDuration(30, 45)`).
pub const CREATION_PAUSE_DRAWN: Range<Duration> = seconds(30..45);
/// How long the repaired listener waits between attempts with a new queue token, how many it makes with each, and how
/// many in all.
pub const TOKEN_PAUSE: Duration = Duration::from_secs(3);
/// See [`TOKEN_PAUSE`].
pub const ATTEMPTS_PER_TOKEN: u32 = 4;
/// See [`TOKEN_PAUSE`].
pub const TOKEN_ATTEMPTS: u32 = 20;

/// What a call to the queue is about; one version treats a refusal of polls alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Poll,
    Acknowledgement,
    Acquisition,
}

/// A live session, for all that its holder knows.
pub(super) struct MessageSession<'a> {
    api: &'a Api,
    pub(super) set: i64,
    pub(super) session: Session,
}

impl<'a> MessageSession<'a> {
    /// Opens a session of a scale set.
    pub(super) async fn open(api: &'a Api, set: i64) -> Result<Self, Failure> {
        let key = api.line.random.guid().to_string();
        let mut conflicts = 0;
        loop {
            let refused = match create(api, set, &key).await {
                Ok(session) => return Ok(Self { api, set, session }),
                Err(failure) if failure.is_conflict() => failure,
                // 0.7.0 retries everything but what the service finds wrong with the call itself.
                Err(failure) if api.choices.on_conflict == OnConflict::V0_7 && !is_client_error(&failure) => failure,
                Err(failure) => return Err(failure),
            };
            conflicts += 1;
            let drawn = api.line.random.uniform(CREATION_PAUSE_DRAWN);
            let pause = match api.choices.on_conflict {
                OnConflict::Exits => return Err(refused),
                OnConflict::V0_7 | OnConflict::V0_8 if conflicts > CREATION_RETRIES => return Err(refused),
                OnConflict::V0_8 => CREATION_PAUSE,
                OnConflict::V0_7 | OnConflict::TakesOver => drawn,
            };
            tracing::info!(
                "Unable to create message session. Will try again in {} seconds. {refused}",
                pause.as_secs()
            );
            api.line.clock.sleep(pause).await;
        }
    }

    /// The next message after the one of this number, if there is one.
    pub(super) async fn poll(&mut self, last: i64, capacity: u32) -> Result<Option<Message>, Failure> {
        let api = self.api;
        let answered = self
            .queue_call(About::Poll, |session| {
                let cursor = if last > 0 { format!("?lastMessageId={last}") } else { String::new() };
                let url = format!("{}{cursor}", session.message_queue_url);
                let poll = queue(Method::GET, url, session);
                match api.choices.capacity {
                    Capacity::Told => poll.header(MAX_CAPACITY, capacity.to_string()),
                    Capacity::NotTold => poll,
                }
            })
            .await?;
        if answered.status == StatusCode::ACCEPTED {
            return Ok(None);
        }
        let message: Message = decode(&expect(answered, StatusCode::OK)?)?;
        match message.message_type.as_str() {
            JOB_MESSAGES => Ok(Some(message)),
            kind => Err(Failure::UnknownMessage { id: message.message_id, kind: kind.to_owned() }),
        }
    }

    /// Deletes a message.
    pub(super) async fn acknowledge(&mut self, message: i64) -> Result<(), Failure> {
        let build =
            |session: &Session| queue(Method::DELETE, format!("{}/{message}", session.message_queue_url), session);
        let answered = self.queue_call(About::Acknowledgement, build).await?;
        let done = expect(answered, StatusCode::NO_CONTENT).map(drop);
        match done {
            Err(gone) if self.api.choices.ack_answer == AckAnswer::GoneIsDone && is_message_gone(&gone) => Ok(()),
            done => done,
        }
    }

    /// Acquires jobs, and says which.
    pub(super) async fn acquire(&mut self, requests: &[i64]) -> Result<Vec<i64>, Failure> {
        let (api, set) = (self.api, self.set);
        let admin = api.admin().await?;
        let answered = self
            .queue_call(About::Acquisition, |session| {
                let mut call = admin.call(Method::POST, &format!("{SCALE_SETS}/{set}/acquirejobs")).json(&requests);
                call.headers.retain(|(name, _)| name != http::header::AUTHORIZATION);
                call.header("authorization", format!("Bearer {}", session.message_queue_access_token))
            })
            .await?;
        decode::<Listed<i64>>(&expect(answered, StatusCode::OK)?).map(|acquired| acquired.value)
    }

    /// Ends the session.
    pub(super) async fn close(&self) -> Result<(), Failure> {
        let path = format!("{SCALE_SETS}/{}/sessions/{}", self.set, self.session.session_id);
        self.api.admin_call(StatusCode::NO_CONTENT, |admin| admin.call(Method::DELETE, &path)).await.map(drop)
    }

    /// A call to the queue. When it refuses the session's token, the session is refreshed and the call made again.
    async fn queue_call(&mut self, about: About, build: impl Fn(&Session) -> Call) -> Result<Reply, Failure> {
        let refusal = self.api.choices.queue_refusal;
        let answered = self.queue_attempt(&build).await?;
        if answered.status != StatusCode::UNAUTHORIZED {
            return Ok(answered);
        }
        if refusal == QueueRefusal::PollsAlone && about != About::Poll {
            return Err(Failure::QueueToken);
        }
        let attempts = if refusal == QueueRefusal::OnceMore { 1 } else { TOKEN_ATTEMPTS };
        for attempt in 0..attempts {
            if attempt > 0 {
                self.api.line.clock.sleep(TOKEN_PAUSE).await;
            }
            if attempt % ATTEMPTS_PER_TOKEN == 0 {
                self.refresh().await?;
            }
            let again = self.queue_attempt(&build).await?;
            if again.status != StatusCode::UNAUTHORIZED {
                return Ok(again);
            }
        }
        Err(Failure::QueueToken)
    }

    async fn queue_attempt(&self, build: &impl Fn(&Session) -> Call) -> Result<Reply, Failure> {
        if self.session.message_queue_url.is_empty() {
            return Err(Failure::NoQueue);
        }
        self.api.send(&build(&self.session), Retries::Usual).await
    }

    /// Gets the session's queue a new token.
    async fn refresh(&mut self) -> Result<(), Failure> {
        tracing::info!("message queue token expired during GetNextMessage, refreshing");
        let path = format!("{SCALE_SETS}/{}/sessions/{}", self.set, self.session.session_id);
        let refreshed = self.api.admin_call(StatusCode::OK, |admin| admin.call(Method::PATCH, &path)).await;
        match refreshed {
            Ok(answered) => {
                let refreshed: Session = decode(&answered)?;
                match self.api.choices.refresh {
                    Refresh::ReplacesAll => self.session = refreshed,
                    Refresh::KeepsRest => self.keep_rest(refreshed),
                }
                Ok(())
            }
            Err(gone) if gone.is_session_gone() && self.api.choices.session_gone == SessionGone::Reopens => {
                tracing::warn!("the session is gone, opening another one: {gone}");
                self.session = Self::open(self.api, self.set).await?.session;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    fn keep_rest(&mut self, refreshed: Session) {
        if !refreshed.message_queue_url.is_empty() {
            self.session.message_queue_url = refreshed.message_queue_url;
        }
        if !refreshed.message_queue_access_token.is_empty() {
            self.session.message_queue_access_token = refreshed.message_queue_access_token;
        }
        if refreshed.statistics.is_some() {
            self.session.statistics = refreshed.statistics;
        }
    }
}

async fn create(api: &Api, set: i64, key: &str) -> Result<Session, Failure> {
    let asked = Session { owner_name: api.configuration.owner.clone(), ..Session::default() };
    let answered = api
        .admin_call(StatusCode::OK, |admin| {
            let call = admin.call(Method::POST, &format!("{SCALE_SETS}/{set}/sessions")).json(&asked);
            match api.choices.create_replay {
                CreateReplay::Blind => call,
                CreateReplay::Keyed => call.header(IDEMPOTENCY_KEY, key),
            }
        })
        .await?;
    decode(&answered)
}

fn queue(method: Method, url: String, session: &Session) -> Call {
    Call::new(method, url, CALL_TIMEOUT)
        .header("authorization", format!("Bearer {}", session.message_queue_access_token))
}

fn is_client_error(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { status, .. } if status.is_client_error())
        || matches!(failure, Failure::Credentials(_))
}

fn is_message_gone(failure: &Failure) -> bool {
    failure.is(exception::MESSAGE_NOT_FOUND)
}
