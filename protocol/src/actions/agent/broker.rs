//! The calls to the broker (V2): session, poll, acknowledge.

use http::{Method, StatusCode};
use uuid::Uuid;

use crate::actions::choices::NotJson;
use crate::actions::wire::{AcknowledgeRequest, BrokerError, BrokerErrorKind, broker};
use crate::distributed_task::agent::{SEND_TIMEOUT, result};
use crate::distributed_task::client::{Call, Client, Reply};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::task_server::PollStatus;
use crate::distributed_task::wire::{self, IDEMPOTENCY_KEY, TaskAgentMessage, TaskAgentSession};

/// The broker, seen by one runner.
#[derive(Clone)]
pub struct Broker {
    client: Client,
    base: String,
    not_json: NotJson,
}

impl Broker {
    /// The broker at `base`.
    pub fn new(client: Client, base: &str, not_json: NotJson) -> Self {
        Self { client, base: format!("{}/", base.trim_end_matches('/')), not_json }
    }

    /// Opens a session; `None` when the answer was a success without a session in it.
    ///
    /// # Errors
    /// A conflict with another session, among others.
    pub async fn create_session(
        &self,
        session: &TaskAgentSession,
        key: Option<Uuid>,
    ) -> Result<Option<TaskAgentSession>, Failure> {
        let url = format!("{}{}", self.base, broker::SESSION);
        let mut call = Call::new(Method::POST, url, SEND_TIMEOUT).json(session);
        if let Some(key) = key {
            call = call.header(IDEMPOTENCY_KEY, key.to_string());
        }
        let reply = self.client.send(&call).await?;
        match (reply.status, named(&reply)) {
            (StatusCode::CONFLICT, Some(_)) => Err(Failure::service(key::SESSION_CONFLICT, reply.status, text(&reply))),
            (_, Some(failure)) => Err(failure),
            _ => result(&reply, self.not_json),
        }
    }

    /// Ends the session of this runner, or the one that is named.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn delete_session(&self, session: Option<Uuid>) -> Result<(), Failure> {
        let query = session.map(|session| format!("?sessionId={session}")).unwrap_or_default();
        let url = format!("{}{}{query}", self.base, broker::SESSION);
        self.tell(&Call::new(Method::DELETE, url, SEND_TIMEOUT)).await
    }

    /// Waits for a message; `None` when there is none for now.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn message(&self, session: Uuid, status: &PollStatus) -> Result<Option<TaskAgentMessage>, Failure> {
        let url = format!("{}{}?sessionId={session}{}", self.base, broker::MESSAGE, status.query());
        let reply = self.client.send(&Call::new(Method::GET, url, SEND_TIMEOUT)).await?;
        match named(&reply) {
            Some(failure) => Err(failure),
            None if reply.status == StatusCode::ACCEPTED || (reply.status.is_success() && reply.body.is_empty()) => {
                Ok(None)
            }
            None => result(&reply, self.not_json),
        }
    }

    /// Confirms that a job's message has arrived.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn acknowledge(&self, session: Uuid, status: &PollStatus, request: &str) -> Result<(), Failure> {
        let url = format!("{}{}?sessionId={session}{}", self.base, broker::ACKNOWLEDGE, status.query());
        let body = AcknowledgeRequest { runner_request_id: request.to_owned() };
        self.tell(&Call::new(Method::POST, url, SEND_TIMEOUT).json(&body)).await
    }

    async fn tell(&self, call: &Call) -> Result<(), Failure> {
        let reply = self.client.send(call).await?;
        match named(&reply) {
            Some(failure) => Err(failure),
            None if reply.status.is_success() => Ok(()),
            None => Err(Failure::Status { status: reply.status }),
        }
    }
}

/// The exception that the runner builds from an error of the broker; `None` for a success and for what a proxy says.
fn named(reply: &Reply) -> Option<Failure> {
    if reply.status.is_success() {
        return None;
    }
    let kind = wire::from_slice::<BrokerError>(&reply.body).ok()?.kind()?;
    let key = match kind {
        BrokerErrorKind::AcknowledgeJobNotFound => key::ACKNOWLEDGE_JOB_NOT_FOUND,
        BrokerErrorKind::RunnerNotFound => key::RUNNER_NOT_FOUND,
        BrokerErrorKind::RunnerVersionTooOld => key::RUNNER_VERSION_TOO_OLD,
        BrokerErrorKind::HostedRunnerDeprovisioned => key::HOSTED_RUNNER_DEPROVISIONED,
        BrokerErrorKind::RunnerSessionInvalid => key::SESSION_EXPIRED,
        BrokerErrorKind::Other if reply.status == StatusCode::FORBIDDEN => key::ACCESS_DENIED,
        BrokerErrorKind::Other => return Some(Failure::Status { status: reply.status }),
    };
    Some(Failure::service(key, reply.status, text(reply)))
}

fn text(reply: &Reply) -> String {
    wire::from_slice::<BrokerError>(&reply.body).map(|error| error.error_message).unwrap_or_default()
}
