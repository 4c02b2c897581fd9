//! Long polls: held until there is a message, or for long enough.

use axum::response::Response;
use http::StatusCode;
use uuid::Uuid;

use super::Server;
use super::agents;
use super::call::{Call, bare, ok, receipted};
use super::failure::Failure;
use super::parameters::Flow;
use super::state::Reported;
use crate::deadlines::span_until;
use crate::distributed_task::wire::{TaskAgentMessage, status};
use crate::facts::Fact;
use crate::http::Receipt;
use crate::long_poll::{self, Look};

/// A message that is handed out.
pub(super) struct Delivered {
    pub(super) message: TaskAgentMessage,
    /// What is true once it has arrived: of a whole job, that it has.
    pub(super) arrived: Option<Fact>,
}

impl Server {
    /// The next message for the agent that calls by `flow`; `None` when there was none for as long as polls are held.
    pub(super) async fn poll(&self, call: &Call, flow: Flow) -> Result<Option<Delivered>, Failure> {
        let (id, migration) = self.with(|state, now| {
            let id = state.calling_agent(call, now)?;
            state.refresh(id, session(call)?, now)?;
            state.heard_by(id, flow, now);
            match call.query("status") {
                Some(said) if said.eq_ignore_ascii_case(status::BUSY) => state.note(id, Reported::Busy, now),
                Some(_) => state.note(id, Reported::Online, now),
                None => {}
            }
            Ok((id, state.migration(flow)))
        })?;
        let (named, cursor) = (session(call)?, call.query("lastMessageId").and_then(|id| id.parse().ok()));
        let look = || {
            self.with(|state, now| {
                let Some(agent) = state.agents.get(&id) else { return Err(Failure::AgentNotFound) };
                let woken = agent.wake.listen();
                if named.is_none_or(|named| state.sessions.get(&named).is_none()) {
                    return Err(Failure::SessionGone);
                }
                if let Some(message) = state.deliver(id, flow, cursor, now) {
                    return Ok(Look::Found(message));
                }
                // What is still with the pool, the pool hands out itself.
                if let Some(migration) = &migration {
                    let message = TaskAgentMessage::migration(migration);
                    return Ok(Look::Found(Delivered { message, arrived: None }));
                }
                let again = state.agents.get(&id).and_then(|agent| agent.queue.next_delivery(cursor));
                Ok(Look::Nothing { woken, again: again.map(|again| span_until(again, now)) })
            })
        };
        match long_poll::held(&*self.0.clock, self.0.parameters.poll_hold, look).await? {
            Some(message) => Ok(Some(message)),
            None => self.with(|state, now| state.refresh(id, named, now).map(|_| None)),
        }
    }
}

/// The answer to a poll: when it has arrived, the session's owner has heard the server, and has whatever it brings.
pub(super) fn answered(call: &Call, delivered: Option<Delivered>) -> Response {
    let session = session(call).ok().flatten();
    let heard = session.map(|session| Fact::SessionAnswered { session: agents::fact(session) });
    let (answer, arrived) = match delivered {
        Some(Delivered { message, arrived }) => (ok(&message), arrived),
        None => (bare(StatusCode::ACCEPTED), None),
    };
    receipted(answer, Some(Receipt(heard.into_iter().chain(arrived).collect())))
}

/// The session that a call names.
pub(super) fn session(call: &Call) -> Result<Option<Uuid>, Failure> {
    match call.query("sessionId") {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| Failure::OutOfRange("sessionId")),
    }
}
