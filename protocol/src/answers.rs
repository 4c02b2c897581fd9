//! The answers that servers of all systems give.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::http::Receipt;

/// An answer with a body of this type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer with a JSON body, whose type each system calls in its own way.
pub(crate) fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response {
    typed(status, content_type, serde_json::to_vec(body).expect("wire types are plain JSON"))
}

/// An answer without a body.
pub(crate) fn bare(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// An answer with what is true once it has arrived, if anything is.
pub(crate) fn receipted(answer: Response, receipt: Option<Receipt>) -> Response {
    match receipt {
        Some(receipt) => receipt.on(answer),
        None => answer,
    }
}
