//! V2, the broker: sessions and messages.

use axum::Router;
use axum::extract::State as Store;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;

use super::call::{Call, bare, ok, read, receipted};
use super::failure::Part;
use super::parameters::Flow;
use super::poll::{answered, session};
use super::{Server, answer};
use crate::distributed_task::wire::v2::{AcknowledgeRequest, broker};
use crate::distributed_task::wire::{IDEMPOTENCY_KEY, TaskAgentSession};
use crate::http::path_of;

pub(super) fn routes(server: &Server) -> Router<Server> {
    let base = path_of(&server.parameters().addresses.broker);
    let path = |name: &str| format!("{base}/{name}");
    Router::new()
        .route(&path(broker::SESSION), post(create_session).delete(delete_session))
        .route(&path(broker::MESSAGE), get(get_message))
        .route(&path(broker::ACKNOWLEDGE), post(acknowledge))
}

async fn create_session(Store(server): Store<Server>, call: Call) -> Response {
    let opened = server.with(|state, now| {
        let id = state.calling_agent(&call, now)?;
        let asked: TaskAgentSession = read(&call, "session")?;
        let key = call.header(IDEMPOTENCY_KEY).map(Into::into);
        state.open_session(id, asked, key, Flow::V2, now)
    });
    answer(Part::Broker, opened.map(|session| ok(&session)))
}

async fn delete_session(Store(server): Store<Server>, call: Call) -> Response {
    let deleted = server.with(|state, now| {
        let id = state.calling_agent(&call, now)?;
        let named = session(&call)?;
        state.delete_v2_session(id, named, now)
    });
    answer(Part::Broker, deleted.map(|()| bare(StatusCode::OK)))
}

async fn get_message(Store(server): Store<Server>, call: Call) -> Response {
    let polled = server.poll(&call, Flow::V2).await;
    answer(Part::Broker, polled.map(|delivered| answered(&call, delivered)))
}

async fn acknowledge(Store(server): Store<Server>, call: Call) -> Response {
    let confirmed = server.with(|state, now| {
        let id = state.calling_agent(&call, now)?;
        state.refresh(id, session(&call)?, now)?;
        let sent: AcknowledgeRequest = read(&call, "request")?;
        Ok(match state.confirm(id, &sent.runner_request_id) {
            Ok(()) => bare(StatusCode::OK),
            Err(lost) => receipted(lost.answer(Part::Broker), state.assignment_lost(id, now)),
        })
    });
    answer(Part::Broker, confirmed)
}
