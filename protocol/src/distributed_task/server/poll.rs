//! Long polls: held until there is a message, or for long enough.

use std::pin::pin;

use axum::response::Response;
use futures_util::future;
use http::StatusCode;
use uuid::Uuid;

use super::agents;
use super::call::{Call, bare, ok, receipted};
use super::failure::Failure;
use super::parameters::Flow;
use super::state::Reported;
use super::{SHORTEST_WAIT, Server, span_until};
use crate::distributed_task::wire::{TaskAgentMessage, status};
use crate::facts::Fact;
use crate::http::Receipt;

/// A message that is handed out.
pub(super) struct Delivered {
    pub(super) message: TaskAgentMessage,
    /// What is true once it has arrived: of a whole job, that it has.
    pub(super) arrived: Option<Fact>,
}

/// What a step of a poll comes to.
enum Step {
    Message(Delivered),
    /// Nothing yet: look again after this time at the latest.
    Wait(std::time::Duration, event_listener::EventListener),
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
        let began = self.0.clock.mono();
        loop {
            let step = self.with(|state, now| {
                let Some(agent) = state.agents.get(&id) else { return Err(Failure::AgentNotFound) };
                // Listening begins before looking, so that nothing is missed in between.
                let listener = agent.wake.listen();
                if named.is_none_or(|named| state.sessions.get(&named).is_none()) {
                    return Err(Failure::SessionGone);
                }
                if let Some(message) = state.deliver(id, flow, cursor, now) {
                    return Ok(Step::Message(message));
                }
                // What is still with the pool, the pool hands out itself.
                if let Some(migration) = &migration {
                    let message = TaskAgentMessage::migration(migration);
                    return Ok(Step::Message(Delivered { message, arrived: None }));
                }
                let again = state.agents.get(&id).and_then(|agent| agent.queue.next_delivery(cursor));
                let wait = again.map_or(self.0.parameters.poll_hold, |again| span_until(again, now));
                Ok(Step::Wait(wait, listener))
            })?;
            let held = self.0.clock.mono().since(began);
            let left = self.0.parameters.poll_hold.saturating_sub(held);
            match step {
                Step::Message(message) => return Ok(Some(message)),
                Step::Wait(..) if left.is_zero() => {
                    return self.with(|state, now| state.refresh(id, named, now).map(|_| None));
                }
                Step::Wait(wait, listener) => {
                    let sleep = self.0.clock.sleep(wait.min(left).max(SHORTEST_WAIT));
                    future::select(listener, pin!(sleep)).await;
                }
            }
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
