//! Answers, and the pages that stand in their place.

use std::fmt::Display;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

pub(super) use crate::answers::bare;
use crate::answers::{self, typed};
use crate::flox::wire::ContentRange;

/// A page for people, as servers have it for errors.
pub fn page(status: StatusCode) -> Response {
    let text =
        format!("<!DOCTYPE html>\n<html><head><title>{status}</title></head>\n<body><h1>{status}</h1></body></html>\n");
    typed(status, "text/html; charset=utf-8", text)
}

/// With pages for what there is no handler of.
pub(super) fn with_pages(routes: Router) -> Router {
    let (not_found, no_method) = (StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED);
    routes
        .fallback(move || async move { page(not_found) })
        .method_not_allowed_fallback(move || async move { page(no_method) })
}

pub(super) fn text(text: String) -> Response {
    typed(StatusCode::OK, "text/plain; charset=utf-8", text)
}

pub(super) fn json(data: &impl Serialize) -> Response {
    json_with(StatusCode::OK, data)
}

pub(super) fn json_with(status: StatusCode, data: &impl Serialize) -> Response {
    answers::json(status, "application/json", data)
}

/// A body of a known length.
pub(super) fn binary(status: StatusCode, length: u64, body: Body) -> Response {
    let mut answer = typed(status, "application/octet-stream", body);
    set(&mut answer, header::CONTENT_LENGTH, length);
    answer
}

/// 416: nothing of an object of this size was asked for.
pub(super) fn unsatisfiable(size: u64) -> Response {
    let mut answer = page(StatusCode::RANGE_NOT_SATISFIABLE);
    set(&mut answer, header::CONTENT_RANGE, ContentRange::Unsatisfied { size });
    answer
}

pub(super) fn set(answer: &mut Response, name: HeaderName, value: impl Display) {
    let value = HeaderValue::try_from(value.to_string()).expect("it is plain text");
    answer.headers_mut().insert(name, value);
}
