//! The network an agent sees: one HTTP request in, one response or a typed error out.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use tower::util::BoxCloneSyncService;

use crate::facts::Fact;

/// A streaming body. Reading it can fail just as the request can.
pub type Body = UnsyncBoxBody<Bytes, TransportError>;

/// Facts that are true once an answer has arrived whole.
///
/// A server puts them into the extensions of an answer. A network that can tell whether the answer arrives writes the facts
/// when its receiver has read the body to the end; others forget them.
#[derive(Clone, Debug)]
pub struct Receipt(pub Vec<Fact>);

impl From<Fact> for Receipt {
    fn from(fact: Fact) -> Self {
        Self(vec![fact])
    }
}

impl Receipt {
    /// The answer, with this receipt.
    pub fn on<B>(self, mut answer: Response<B>) -> Response<B> {
        answer.extensions_mut().insert(self);
        answer
    }
}

/// An HTTP client: a [`tower::Service`] that can be cloned and shared.
///
/// The request's version chooses the protocol ([`http::Version::HTTP_2`], anything else is HTTP/1.1), as ALPN would. No
/// time-out, no redirect and no retry happens below it: what the caller does about a silent peer is the caller's code.
pub type Http = BoxCloneSyncService<Request<Body>, Response<Body>, TransportError>;

/// Why a request or a body failed below HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The host answered that nothing listens on the port. The server process is down; its machine is up.
    #[error("connection refused: nothing listens on the port")]
    Refused,
    /// The peer, or something in between, reset the connection. The request may or may not have been carried out.
    #[error("connection reset by the peer or by something in between")]
    Reset,
    /// The operating system gave up: nobody acknowledged what was sent. A dead host, a black hole or a partition.
    #[error("timed out: the peer acknowledges nothing")]
    TimedOut,
    /// The connection ended in an orderly way in the middle of a message. A body cut short, or a server that stopped.
    #[error("connection closed before the message was complete")]
    ClosedEarly,
    /// HTTP/2: the peer reset this stream. Only REFUSED_STREAM (0x7) promises that nothing was done (RFC 9113, 8.7).
    #[error("HTTP/2 stream reset with code {code:#x}")]
    StreamReset {
        /// The error code of RST_STREAM, RFC 9113 section 7.
        code: u32,
    },
    /// HTTP/2: the peer ends the connection and did not take this request.
    #[error("HTTP/2 connection going away with code {code:#x}")]
    GoAway {
        /// The error code of GOAWAY, RFC 9113 section 7.
        code: u32,
    },
    /// The name of the host could not be resolved.
    #[error("no address found for host {host}")]
    Dns {
        /// The name that was looked up.
        host: String,
    },
    /// No route to the host.
    #[error("host unreachable")]
    Unreachable,
    /// The peer does not speak HTTP as it should.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// A body is larger than the reader accepts.
    #[error("body larger than {limit} bytes")]
    TooLarge {
        /// The most that is accepted, in bytes.
        limit: usize,
    },
}

/// The path of a base URL, without a slash at its end.
pub(crate) fn path_of(url: &str) -> String {
    let uri: Option<http::Uri> = url.parse().ok();
    uri.map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// A body without bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a body to its end.
///
/// # Errors
/// The transport's error, or [`TransportError::TooLarge`] for a body of more than `limit` bytes.
pub async fn read<B>(body: B, limit: usize) -> Result<Bytes, TransportError>
where
    B: http_body::Body<Data = Bytes, Error = TransportError>,
{
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(TransportError::TooLarge { limit }),
        Err(error) => Err(*error.downcast::<TransportError>().expect("Limited adds only its own error")),
    }
}
