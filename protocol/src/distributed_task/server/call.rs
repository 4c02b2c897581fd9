//! Calls as handlers see them, and answers.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Server;
use super::failure::Failure;
use crate::answers;
use crate::call::{BadBody, Limits};
use crate::distributed_task::wire::from_slice;

pub(crate) use crate::answers::{bare, receipted};
pub(crate) use crate::call::Call;

impl Limits for Server {
    fn body_limit(&self) -> usize {
        self.parameters().body_limit
    }
}

/// The body as JSON, whose members may be in any case; `what` names it in the error about an empty one.
pub(crate) fn read<T: DeserializeOwned>(call: &Call, what: &'static str) -> Result<T, Failure> {
    let read = || Ok(from_slice(call.document()?)?);
    read().map_err(|bad: BadBody| Failure::of_body(bad, what))
}

/// The body as a form.
pub(super) fn form<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    let body = call.bytes().map_err(|bad| Failure::of_body(bad, "form"))?;
    serde_urlencoded::from_bytes(body).map_err(|error| Failure::WrongShape(error.to_string()))
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    answers::json(status, "application/json; charset=utf-8; api-version=5.1-preview.1", body)
}

/// An answer with a JSON body and status 200.
pub(crate) fn ok(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body)
}
