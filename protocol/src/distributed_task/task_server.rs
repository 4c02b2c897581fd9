//! The calls that an agent makes to a distributed-task server (V1).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::client::{Call, Client, Reply};
use super::failure::Failure;
use super::wire::{
    self, ConnectionData, IDEMPOTENCY_KEY, JobEvent, LOCK_TOKEN, Location, PlanReference, ServiceError,
    TaskAgentJobRequest, TaskAgentMessage, TaskAgentSession, TimelineRecord, WrappedList, locations,
};

/// The connections of an agent to its server. They differ in their send time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Everything else.
    Generic,
    /// Sessions and messages.
    MessageQueue,
    /// Renewing and finishing job requests.
    JobRequest,
}

/// Send time-outs of the connections (`RunnerServer.cs`, `AgentServer.cs`).
#[derive(Clone, Copy, Debug)]
pub struct SendTimeouts {
    /// Of [`Connection::Generic`].
    pub generic: Duration,
    /// Of [`Connection::MessageQueue`].
    pub message_queue: Duration,
    /// Of [`Connection::JobRequest`].
    pub job_request: Duration,
}

impl SendTimeouts {
    /// Those of the GitHub runner.
    pub const RUNNER: Self = Self {
        generic: Duration::from_secs(100),
        message_queue: Duration::from_secs(60),
        job_request: Duration::from_secs(60),
    };

    /// Those of Azure's agent, where `VSTS_HTTP_TIMEOUT` is not set.
    pub const AZURE: Self = Self {
        generic: Duration::from_secs(100),
        message_queue: Duration::from_secs(100),
        job_request: Duration::from_secs(60),
    };
}

/// Send time-out of [`Connection::JobRequest`] after a failed renewal (`RunnerServer.cs`, `AgentServer.cs:256-279`).
pub const JOB_REQUEST_TIMEOUT_AFTER_ERROR: Duration = Duration::from_secs(30);

/// Tries of `EstablishVssConnection` and the pause between them (`RunnerService.cs:45-69`).
const CONNECT_TRIES: u32 = 5;
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What a poll tells about the agent.
#[derive(Clone, Debug)]
pub struct PollStatus {
    /// One of [`wire::status`]; Azure's agent sends none.
    pub status: Option<&'static str>,
    /// The software's version.
    pub version: &'static str,
    /// The operating system.
    pub os: &'static str,
    /// The processor.
    pub architecture: &'static str,
    /// Does it refuse to be updated?
    pub disable_update: bool,
}

impl PollStatus {
    /// As members of a query, after the session.
    pub fn query(&self) -> String {
        let Self { status, version, os, architecture, disable_update } = self;
        let Some(status) = status else { return String::new() };
        format!(
            "&status={status}&runnerVersion={version}&os={os}&architecture={architecture}&disableUpdate={disable_update}"
        )
    }
}

/// A distributed-task server, seen by one agent.
#[derive(Clone)]
pub struct TaskServer {
    client: Client,
    base: String,
    pool: String,
    timeouts: Arc<Mutex<SendTimeouts>>,
    unread: Unread,
}

/// A 2xx whose body is of no interest, when the body is not what the server writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nobody looks: a login page counts as a success.
    Succeeds,
    /// What has a body that is no JSON does not come from the server.
    MustBeJson,
}

impl TaskServer {
    /// The server at `base`, and the agent's pool there.
    pub fn new(client: Client, base: &str, pool: i64, timeouts: SendTimeouts) -> Self {
        Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            pool: pool.to_string(),
            timeouts: Arc::new(Mutex::new(timeouts)),
            unread: Unread::Succeeds,
        }
    }

    /// The same server, with another look at answers that nobody reads.
    pub fn unread(self, unread: Unread) -> Self {
        Self { unread, ..self }
    }

    /// The send time-out of a connection, now.
    pub fn send_timeout(&self, connection: Connection) -> Duration {
        let timeouts = self.timeouts.lock().unwrap_or_else(PoisonError::into_inner);
        match connection {
            Connection::Generic => timeouts.generic,
            Connection::MessageQueue => timeouts.message_queue,
            Connection::JobRequest => timeouts.job_request,
        }
    }

    /// Gives a connection another send time-out.
    pub fn set_send_timeout(&self, connection: Connection, limit: Duration) {
        let mut timeouts = self.timeouts.lock().unwrap_or_else(PoisonError::into_inner);
        match connection {
            Connection::Generic => timeouts.generic = limit,
            Connection::MessageQueue => timeouts.message_queue = limit,
            Connection::JobRequest => timeouts.job_request = limit,
        }
    }

    /// `EstablishVssConnection`: asks for the connection data until it is there.
    ///
    /// # Errors
    /// The failure of the fifth try.
    pub async fn connect(&self, connection: Connection) -> Result<ConnectionData, Failure> {
        let query = "connectOptions=1&lastChangeId=-1&lastChangeId64=-1";
        let url = self.url(&locations::CONNECTION_DATA, &[], query);
        let call = Call::new(Method::GET, url, self.send_timeout(connection));
        for _ in 1..CONNECT_TRIES {
            match self.ask(&call).await {
                Ok(data) => return Ok(data),
                Err(failure) => tracing::warn!("connect: {failure}; {CONNECT_PAUSE:?} before next attempt"),
            }
            self.client.line().clock.sleep(CONNECT_PAUSE).await;
        }
        self.ask(&call).await
    }

    /// `RefreshConnectionAsync`: a new connection with this send time-out. It never fails: on an error the old one stays.
    pub async fn refresh(&self, connection: Connection, limit: Duration) {
        let before = self.send_timeout(connection);
        self.set_send_timeout(connection, limit);
        if let Err(failure) = self.connect(connection).await {
            tracing::warn!("refresh of connection: {failure}");
            self.set_send_timeout(connection, before);
        }
    }

    /// Opens a session. All attempts with the same `key` are one.
    ///
    /// # Errors
    /// A conflict with another session, among others.
    pub async fn create_session(
        &self,
        session: &TaskAgentSession,
        key: Option<Uuid>,
    ) -> Result<TaskAgentSession, Failure> {
        let url = self.pool_url(&locations::SESSIONS, &[], "");
        let mut call = Call::new(Method::POST, url, self.send_timeout(Connection::MessageQueue)).json(session);
        if let Some(key) = key {
            call = call.header(IDEMPOTENCY_KEY, key.to_string());
        }
        self.ask(&call).await
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn delete_session(&self, session: Uuid) -> Result<(), Failure> {
        let url = self.pool_url(&locations::SESSIONS, &[("sessionId", &session.to_string())], "");
        let call = Call::new(Method::DELETE, url, self.send_timeout(Connection::MessageQueue));
        self.tell(&call).await
    }

    /// Waits for a message after `last`; `None` when the server has none for now.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn message(
        &self,
        session: Uuid,
        last: Option<i64>,
        status: &PollStatus,
    ) -> Result<Option<TaskAgentMessage>, Failure> {
        let last = last.map(|id| format!("&lastMessageId={id}")).unwrap_or_default();
        let query = format!("sessionId={session}{last}{}", status.query());
        let url = self.pool_url(&locations::MESSAGES, &[], &query);
        let call = Call::new(Method::GET, url, self.send_timeout(Connection::MessageQueue));
        let reply = successful(self.client.send(&call).await?)?;
        if reply.status == StatusCode::ACCEPTED || reply.body.is_empty() {
            return Ok(None);
        }
        read(&reply)
    }

    /// Deletes a message.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn delete_message(&self, session: Uuid, message: i64) -> Result<(), Failure> {
        let query = format!("sessionId={session}");
        let url = self.pool_url(&locations::MESSAGES, &[("messageId", &message.to_string())], &query);
        self.tell(&Call::new(Method::DELETE, url, self.send_timeout(Connection::MessageQueue))).await
    }

    /// The pool's account of a job.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn job_request(&self, request: i64) -> Result<TaskAgentJobRequest, Failure> {
        let url = self.pool_url(&locations::JOB_REQUESTS, &[("requestId", &request.to_string())], "");
        self.ask(&Call::new(Method::GET, url, self.send_timeout(Connection::JobRequest))).await
    }

    /// Renews (or, with a result, finishes) a job request under `lock`. The reply comes along, for its times.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn update_job_request(
        &self,
        request: &TaskAgentJobRequest,
        lock: Uuid,
        orchestration: Option<&str>,
    ) -> Result<(TaskAgentJobRequest, Reply), Failure> {
        let id = request.request_id.to_string();
        let url = self.pool_url(&locations::JOB_REQUESTS, &[("requestId", &id)], &format!("{LOCK_TOKEN}={lock}"));
        let mut call = Call::new(Method::PATCH, url, self.send_timeout(Connection::JobRequest)).json(request);
        if let Some(orchestration) = orchestration {
            call = call.header("x-vss-orchestrationid", orchestration);
        }
        let reply = successful(self.client.send(&call).await?)?;
        Ok((read(&reply)?, reply))
    }

    /// Raises an event of a job's plan.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn raise_event(&self, plan: &PlanReference, event: &JobEvent, key: Option<Uuid>) -> Result<(), Failure> {
        let url = self.plan_url(&locations::PLAN_EVENTS, plan, &[]);
        let mut call = Call::new(Method::POST, url, self.send_timeout(Connection::Generic)).json(event);
        if let Some(key) = key {
            call = call.header(IDEMPOTENCY_KEY, key.to_string());
        }
        self.tell(&call).await
    }

    /// Updates records of a job's timeline.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn update_timeline(
        &self,
        plan: &PlanReference,
        timeline: Uuid,
        records: Vec<TimelineRecord>,
    ) -> Result<(), Failure> {
        let url = self.plan_url(&locations::TIMELINE_RECORDS, plan, &[("timelineId", &timeline.to_string())]);
        let records = WrappedList::from(records);
        self.tell(&Call::new(Method::PATCH, url, self.send_timeout(Connection::Generic)).json(&records)).await
    }

    fn url(&self, location: &Location, parameters: &[(&str, &str)], query: &str) -> String {
        let ampersand = if query.is_empty() { "" } else { "&" };
        let (path, version) = (location.path(parameters), location.max_version);
        format!("{}{path}?{query}{ampersand}api-version={version}-preview", self.base)
    }

    fn pool_url(&self, location: &Location, parameters: &[(&str, &str)], query: &str) -> String {
        let mut all = vec![("poolId", self.pool.as_str())];
        all.extend_from_slice(parameters);
        self.url(location, &all, query)
    }

    fn plan_url(&self, location: &Location, plan: &PlanReference, parameters: &[(&str, &str)]) -> String {
        let (scope, id) = (plan.scope_identifier.to_string(), plan.plan_id.to_string());
        let mut all = vec![("scopeIdentifier", scope.as_str()), ("hubName", &plan.plan_type), ("planId", &id)];
        all.extend_from_slice(parameters);
        self.url(location, &all, "")
    }

    async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        read(&successful(self.client.send(call).await?)?)
    }

    async fn tell(&self, call: &Call) -> Result<(), Failure> {
        let reply = successful(self.client.send(call).await?)?;
        match self.unread {
            Unread::MustBeJson if !reply.body.is_empty() && !reply.is_json() => {
                Err(Failure::Unreadable(format!("{} without JSON", reply.status)))
            }
            Unread::MustBeJson | Unread::Succeeds => Ok(()),
        }
    }
}

/// A 2xx as it is; anything else as the exception that the real client would throw.
///
/// # Errors
/// [`Failure::Service`] or [`Failure::Status`].
pub fn successful(reply: Reply) -> Result<Reply, Failure> {
    let status = reply.status;
    if status.is_success() {
        return Ok(reply);
    }
    Err(match wire::from_slice::<ServiceError>(&reply.body) {
        Ok(error) if !error.type_key.is_empty() => Failure::service(&error.type_key, status, error.message),
        _ => Failure::Status { status },
    })
}

/// The client throws when a 2xx is not the JSON it asked for.
///
/// # Errors
/// [`Failure::Unreadable`].
pub fn read<T: DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    if !reply.is_json() {
        let kind = reply.headers.get(header::CONTENT_TYPE);
        return Err(Failure::Unreadable(format!("{} as {kind:?}", reply.status)));
    }
    wire::from_slice(&reply.body).map_err(|error| Failure::Unreadable(error.to_string()))
}
