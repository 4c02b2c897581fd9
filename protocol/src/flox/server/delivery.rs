//! Answering with a file, or with the part of it that was asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{StatusCode, header};

use super::answers;
use super::content::Content;
use super::paced::{Paced, Sending};
use super::parameters::Ranges;
use crate::clock::Clock;
use crate::facts::{Artifact, Ledger};
use crate::flox::wire::{ContentRange, EntityTag, Range, Requested, ResetCode};

/// A file, and how it is sent.
pub(super) struct Delivery {
    pub(super) name: String,
    pub(super) content: Content,
    pub(super) tag: Option<EntityTag>,
    pub(super) ranges: Ranges,
    pub(super) rate_bytes_per_s: u64,
    pub(super) pace: Duration,
    pub(super) cut_off: Option<Duration>,
    pub(super) reset: ResetCode,
}

impl Delivery {
    /// The answer to a request for it.
    pub(super) fn answer(self, request: &Request, clock: &Arc<dyn Clock>, ledger: &Arc<dyn Ledger>) -> Response {
        let size = self.content.size();
        let (status, first, end) = match self.requested(request) {
            None => (StatusCode::OK, 0, size),
            Some(Requested::Bytes(bytes)) => (StatusCode::PARTIAL_CONTENT, *bytes.start(), bytes.end() + 1),
            Some(Requested::Nothing) => return answers::unsatisfiable(size),
        };
        let Self { name, content, tag, ranges, rate_bytes_per_s, pace, cut_off, reset } = self;
        let artifact = Artifact::from(name);
        let sending = Sending { artifact, content, first, end, rate_bytes_per_s, pace, cut_off, reset };
        let body = Paced::new(sending, clock.clone(), ledger.clone());
        let mut answer = answers::binary(status, end - first, Body::new(body));
        if status == StatusCode::PARTIAL_CONTENT {
            let range = ContentRange::Bytes { first, last: end - 1, size: Some(size) };
            answers::set(&mut answer, header::CONTENT_RANGE, range);
        }
        if ranges == Ranges::Honoured {
            answers::set(&mut answer, header::ACCEPT_RANGES, "bytes");
        }
        if let Some(tag) = tag {
            answers::set(&mut answer, header::ETAG, tag);
        }
        answer
    }

    /// What of the file is sent: `None` for all of it.
    fn requested(&self, request: &Request) -> Option<Requested> {
        if self.ranges == Ranges::Ignored {
            return None;
        }
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let asked: Range = header(header::RANGE)?.parse().ok()?;
        let unchanged = match header(header::IF_RANGE) {
            None => true,
            Some(condition) => {
                let condition = condition.parse::<EntityTag>();
                condition.is_ok_and(|wanted| self.tag.as_ref().is_some_and(|tag| tag.is_same(&wanted)))
            }
        };
        unchanged.then(|| asked.of(self.content.size()))
    }
}
