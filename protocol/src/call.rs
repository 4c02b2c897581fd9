//! Calls as the handlers of a server see them, once they have arrived as a whole.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

/// A server that limits what it reads.
pub trait Limits: Send + Sync {
    /// The largest body that is read, in bytes.
    fn body_limit(&self) -> usize;
}

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// It is larger than the server reads.
    #[error("The request body is too large.")]
    TooLarge,
    /// It ended before it was complete.
    #[error("The request body ended before it was complete.")]
    CutShort,
    /// There is none, or `null`.
    #[error("The request body is missing.")]
    Missing,
    /// It is no JSON.
    #[error("{0}")]
    NotJson(String),
    /// It is JSON of another shape than was asked for.
    #[error("{0}")]
    WrongShape(String),
}

/// A call that has arrived as a whole.
#[derive(Debug)]
pub struct Call {
    parameters: BTreeMap<String, String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    /// The body, or what was wrong with it: a handler looks at it only after it knows who calls.
    body: Result<Bytes, BadBody>,
}

impl From<serde_json::Error> for BadBody {
    fn from(error: serde_json::Error) -> Self {
        match error.is_data() {
            true => Self::WrongShape(error.to_string()),
            false => Self::NotJson(error.to_string()),
        }
    }
}

impl<S: Limits> FromRequest<S> for Call {
    type Rejection = Infallible;

    async fn from_request(request: Request, server: &S) -> Result<Self, Infallible> {
        let (mut parts, body) = request.into_parts();
        // What is no UTF-8 names nothing, like a parameter that is missing.
        let parameters = Path::<BTreeMap<String, String>>::from_request_parts(&mut parts, server).await;
        let parameters = parameters.map(|Path(parameters)| parameters).unwrap_or_default();
        let query = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).unwrap_or_default();
        let body = read(body, server.body_limit()).await;
        Ok(Self { parameters, query, headers: parts.headers, body })
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, BadBody> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BadBody::TooLarge),
        Err(_) => Err(BadBody::CutShort),
    }
}

impl Call {
    /// A parameter of the path; empty when it is missing.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// A number in the path.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.parameter(name).parse().ok()
    }

    /// A member of the query, its name in any case; `None` when it is missing or empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What `Authorization` says after a scheme, whose name may be in any case.
    pub fn authorization(&self, scheme: &str) -> Option<&str> {
        let (said, token) = self.header(header::AUTHORIZATION.as_str())?.split_once(' ')?;
        said.eq_ignore_ascii_case(scheme).then(|| token.trim())
    }

    /// The body.
    ///
    /// # Errors
    /// [`BadBody::TooLarge`] and [`BadBody::CutShort`].
    pub fn bytes(&self) -> Result<&Bytes, BadBody> {
        self.body.as_ref().map_err(BadBody::clone)
    }

    /// The body, which is to say something.
    ///
    /// # Errors
    /// Those of [`Call::bytes`], and [`BadBody::Missing`] for nothing and for `null`.
    pub fn document(&self) -> Result<&Bytes, BadBody> {
        let body = self.bytes()?;
        match body.iter().all(u8::is_ascii_whitespace) || body.trim_ascii() == b"null" {
            true => Err(BadBody::Missing),
            false => Ok(body),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`BadBody`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BadBody> {
        Ok(serde_json::from_slice(self.document()?)?)
    }
}
