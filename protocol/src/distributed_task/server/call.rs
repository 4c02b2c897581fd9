//! Calls as handlers see them, and answers.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Server;
use super::failure::Failure;
use crate::distributed_task::wire::from_slice;
use crate::http::Receipt;

/// A call that has arrived as a whole.
pub(crate) struct Call {
    parameters: BTreeMap<String, String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    /// The body, or what was wrong with it: a handler looks at it only after it knows who calls.
    body: Result<Bytes, Failure>,
}

impl FromRequest<Server> for Call {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, server: &Server) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        // What is no UTF-8 names nothing, like a parameter that is missing.
        let parameters = Path::<BTreeMap<String, String>>::from_request_parts(&mut parts, server).await;
        let parameters = parameters.map(|Path(parameters)| parameters).unwrap_or_default();
        let query = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).unwrap_or_default();
        let body = read(body, server.parameters().body_limit).await;
        Ok(Self { parameters, query, headers: parts.headers, body })
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLarge),
        Err(_) => Err(Failure::BodyCutShort),
    }
}

impl Call {
    /// A parameter of the path; empty when it is missing.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// A number in the path.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.parameter(name).parse().ok()
    }

    /// A member of the query, its name in any case; `None` when it is missing or empty.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The bearer's token.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// The body.
    pub(crate) fn bytes(&self) -> Result<&Bytes, Failure> {
        self.body.as_ref().map_err(Failure::clone)
    }

    /// The body as JSON; `what` names it in the error about an empty one.
    pub(crate) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, Failure> {
        let body = self.bytes()?;
        if body.iter().all(u8::is_ascii_whitespace) || body.trim_ascii() == b"null" {
            return Err(Failure::Missing(what));
        }
        from_slice(body).map_err(|error| match error.is_data() {
            true => Failure::WrongShape(error.to_string()),
            false => Failure::NotJson(error.to_string()),
        })
    }

    /// The body as a form.
    pub(crate) fn form<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_urlencoded::from_bytes(self.bytes()?).map_err(|error| Failure::WrongShape(error.to_string()))
    }
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(body).expect("wire types are plain JSON");
    let mut answer = Response::new(Body::from(bytes));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8; api-version=5.1-preview.1");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// An answer with a JSON body and status 200.
pub(crate) fn ok(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body)
}

/// An answer with what is true once it has arrived, if anything is.
pub(crate) fn receipted(mut answer: Response, receipt: Option<Receipt>) -> Response {
    if let Some(receipt) = receipt {
        answer.extensions_mut().insert(receipt);
    }
    answer
}

/// An answer without a body.
pub(crate) fn bare(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}
