//! An archive that knows files by their digest, as `tarballs.nixos.org` does: what is there never changes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;

use super::delivery::Delivery;
use super::{Publisher, Ranges, answers};
use crate::clock::Clock;
use crate::facts::Ledger;
use crate::flox::wire::{BY_DIGEST, Digest, EntityTag, ResetCode};

/// An archive of all that a publisher ever had. Handles share it.
#[derive(Clone)]
pub struct Archive(Arc<Shared>);

struct Shared {
    publisher: Publisher,
    rate_bytes_per_s: u64,
    pace: Duration,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
}

impl Archive {
    /// One that sends so fast. It cuts nothing off.
    pub fn of(publisher: Publisher, rate_bytes_per_s: u64, clock: Arc<dyn Clock>, ledger: Arc<dyn Ledger>) -> Self {
        let pace = publisher.parameters().pace;
        Self(Arc::new(Shared { publisher, rate_bytes_per_s, pace, clock, ledger }))
    }

    /// Its handlers.
    pub fn router(&self) -> Router {
        answers::with_pages(self.routes())
    }

    pub(super) fn routes(&self) -> Router {
        Router::new().route(&format!("{BY_DIGEST}{{digest}}"), get(by_digest)).with_state(self.clone())
    }
}

async fn by_digest(State(archive): State<Archive>, Path(digest): Path<String>, request: Request) -> Response {
    let found = digest.parse::<Digest>().ok().and_then(|digest| archive.0.publisher.by_digest(&digest));
    let Some((name, content)) = found else { return answers::page(StatusCode::NOT_FOUND) };
    let Shared { rate_bytes_per_s, pace, clock, ledger, .. } = &*archive.0;
    let delivery = Delivery {
        name,
        tag: Some(EntityTag::strong(content.digest().as_str())),
        content,
        ranges: Ranges::Honoured,
        rate_bytes_per_s: *rate_bytes_per_s,
        pace: *pace,
        cut_off: None,
        reset: ResetCode::INTERNAL_ERROR,
    };
    delivery.answer(&request, clock, ledger)
}
