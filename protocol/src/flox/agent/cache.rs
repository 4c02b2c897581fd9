//! The cache: an earlier job may have left the file there. Nothing that goes wrong with it fails a job.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::line::{Line, with_body};
use crate::flox::wire::cache::{BASE, Commit, Entry, Reserve, Reserved};
use crate::flox::wire::{ContentRange, Digest};
use crate::http as wire;

/// What else tells entries apart: a hash of the paths and of the way they are packed. Here it is always the same.
const PATHS_VERSION: &str = "5d0bf9ef5b4a2a0c";
/// The most that is taken out of the cache.
const CONTENT_MAX_BYTES: usize = 256 << 20;

/// A cache service, as a job sees it.
pub(super) struct Cache {
    line: Line,
    base: String,
}

/// The key of a version's file (`generateCacheKey`); before v4 with its digest.
pub(super) fn key(version: &str, arch: &str, digest: Option<&Digest>) -> String {
    let plain = format!("action-setup-tailscale/{version}/Linux-{arch}");
    digest.map_or(plain.clone(), |digest| format!("{plain}-{digest}"))
}

impl Cache {
    pub(super) fn at(origin: &str, line: Line) -> Self {
        Self { line, base: format!("{origin}{BASE}") }
    }

    /// What is stored under a key; `None` when there is nothing or it cannot be had.
    pub(super) async fn restore(&self, key: &str) -> Option<Bytes> {
        let found = self.line.attempt(self.find(key)).await;
        found.unwrap_or_else(|failure| {
            tracing::warn!("Failed to restore: {failure}");
            None
        })
    }

    async fn find(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        let query = serde_urlencoded::to_string([("keys", key), ("version", PATHS_VERSION)]);
        let query = query.expect("plain text");
        let found = self.call(Method::GET, &format!("{}cache?{query}", self.base), None, wire::empty()).await?;
        if found.status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let entry: Entry = found.json("cache entry")?;
        if entry.cache_key != key {
            return Ok(None);
        }
        let archive = self.call(Method::GET, &entry.archive_location, None, wire::empty()).await?;
        Ok(Some(archive.body))
    }

    /// Stores a file under a key, if nothing is there yet.
    pub(super) async fn save(&self, key: &str, content: Bytes) {
        match self.line.attempt(self.store(key, content)).await {
            Ok(()) => tracing::debug!("Cache saved with key: {key}"),
            Err(failure) => tracing::warn!("Cache save failed: {failure}"),
        }
    }

    async fn store(&self, key: &str, content: Bytes) -> Result<(), Failure> {
        let size = content.len() as u64;
        let reserve = Reserve { key: key.to_owned(), version: PATHS_VERSION.to_owned(), cache_size: size };
        let caches = format!("{}caches", self.base);
        let reserved: Reserved = self.post(&caches, &reserve).await?.json("reservation")?;
        let entry = format!("{caches}/{}", reserved.cache_id);
        let range = ContentRange::Bytes { first: 0, last: size.saturating_sub(1), size: None };
        self.call(Method::PATCH, &entry, Some(range), wire::full(content)).await?;
        self.post(&entry, &Commit { size }).await?;
        Ok(())
    }

    async fn post(&self, address: &str, data: &impl Serialize) -> Result<Answer, Failure> {
        let body = serde_json::to_vec(data).expect("it is plain data");
        self.call(Method::POST, address, None, wire::full(body)).await
    }

    async fn call(
        &self,
        method: Method,
        address: &str,
        range: Option<ContentRange>,
        body: wire::Body,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(address).version(Version::HTTP_11);
        if let Some(range) = range {
            request = request.header(header::CONTENT_RANGE, range.to_string());
        }
        let answer = self.line.head(with_body(request, body)?).await?;
        if !answer.status().is_success() {
            return Err(self.line.refused(&answer));
        }
        let (head, body) = answer.into_parts();
        let body = self.line.whole(body, CONTENT_MAX_BYTES).await?;
        Ok(Answer { status: head.status, body: body.into() })
    }
}

/// An answer that is no refusal.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    fn json<T: DeserializeOwned>(&self, expected: &'static str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| Failure::SomethingElse { expected })
    }
}
