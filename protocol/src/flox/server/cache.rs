//! The cache service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{StatusCode, header};
use serde_json::json;

use super::answers;
use crate::call::{BadBody, Call, Limits};
use crate::flox::wire::ContentRange;
use crate::flox::wire::cache::{BASE, Commit, Entry, Reserve, Reserved};

/// The largest piece of an entry that is taken at once.
pub(super) const PIECE_MAX_BYTES: usize = 64 << 20;

/// A cache service. Handles share it.
#[derive(Clone, Default)]
pub struct CacheService(Arc<Mutex<Vec<Stored>>>);

/// An entry; its place in the list is its number.
struct Stored {
    key: String,
    version: String,
    content: Vec<u8>,
    committed: bool,
}

impl CacheService {
    /// Its handlers.
    pub fn router(&self) -> Router {
        answers::with_pages(self.routes())
    }

    pub(super) fn routes(&self) -> Router {
        Router::new()
            .route(&format!("{BASE}cache"), get(look_up))
            .route(&format!("{BASE}caches"), post(reserve))
            .route(&format!("{BASE}caches/{{id}}"), post(commit).patch(upload))
            .route(&format!("{BASE}artifacts/{{id}}"), get(download))
            .with_state(self.clone())
    }

    /// Spoils the content of every entry: one byte in the middle becomes another one.
    ///
    /// Returns how many entries there were to spoil.
    pub fn poison(&self) -> usize {
        let mut entries = self.lock();
        let contents = entries.iter_mut().filter(|entry| entry.committed).map(|entry| &mut entry.content);
        let spoiled = contents.filter_map(|content| {
            let middle = content.len() / 2;
            content.get_mut(middle).map(|byte| *byte ^= 0x55)
        });
        spoiled.count()
    }

    /// The keys of all entries that are complete.
    pub fn keys(&self) -> Vec<String> {
        self.lock().iter().filter(|entry| entry.committed).map(|entry| entry.key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the entry in the path, which is being uploaded.
    fn uploading(&self, call: &Call, act: impl FnOnce(&mut Stored) -> Response) -> Response {
        let mut entries = self.lock();
        let found = number(call).and_then(|id| entries.get_mut(id));
        match found {
            Some(entry) if !entry.committed => act(entry),
            Some(_) => refusal(StatusCode::BAD_REQUEST, "The cache entry is complete."),
            None => refusal(StatusCode::NOT_FOUND, "Cache not found."),
        }
    }
}

impl Limits for CacheService {
    fn body_limit(&self) -> usize {
        PIECE_MAX_BYTES
    }
}

/// `GET cache?keys=a,b&version=v`: the first of the keys that there is a complete entry for.
async fn look_up(
    State(service): State<CacheService>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let asked = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let entries = service.lock();
    let of_key = |key: &str| {
        let fits = |entry: &Stored| entry.committed && entry.key == key && entry.version == asked("version");
        entries.iter().position(fits)
    };
    let Some(id) = asked("keys").split(',').find_map(of_key) else { return answers::bare(StatusCode::NO_CONTENT) };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    answers::json(&Entry {
        cache_key: entries[id].key.clone(),
        archive_location: format!("http://{host}{BASE}artifacts/{id}"),
    })
}

async fn reserve(State(service): State<CacheService>, call: Call) -> Response {
    let Reserve { key, version, .. } = match call.json() {
        Ok(asked) => asked,
        Err(bad) => return refused(&bad),
    };
    let mut entries = service.lock();
    if entries.iter().any(|entry| entry.key == key && entry.version == version) {
        return refusal(StatusCode::CONFLICT, "Cache already exists.");
    }
    entries.push(Stored { key, version, content: Vec::new(), committed: false });
    answers::json_with(StatusCode::CREATED, &Reserved { cache_id: entries.len() as u64 - 1 })
}

/// `PATCH caches/{id}` with Content-Range: pieces may be sent again.
async fn upload(State(service): State<CacheService>, call: Call) -> Response {
    let body = match call.bytes() {
        Ok(body) => body,
        Err(bad) => return refused(&bad),
    };
    let range = call.header(header::CONTENT_RANGE.as_str()).and_then(|value| value.parse().ok());
    let Some(ContentRange::Bytes { first, last, .. }) = range else {
        return refusal(StatusCode::BAD_REQUEST, "The Content-Range header is missing or malformed.");
    };
    service.uploading(&call, |entry| {
        // Nothing may be left out, and what is sent has to be what is said. A range may say more than there are numbers.
        if first > entry.content.len() as u64 || (last - first).checked_add(1) != Some(body.len() as u64) {
            return refusal(StatusCode::BAD_REQUEST, "The range does not fit the content.");
        }
        entry.content.truncate(first as usize);
        entry.content.extend_from_slice(body);
        answers::bare(StatusCode::NO_CONTENT)
    })
}

async fn commit(State(service): State<CacheService>, call: Call) -> Response {
    let Commit { size } = match call.json() {
        Ok(asked) => asked,
        Err(bad) => return refused(&bad),
    };
    service.uploading(&call, |entry| {
        if entry.content.len() as u64 != size {
            return refusal(StatusCode::BAD_REQUEST, "Cache size does not match.");
        }
        entry.committed = true;
        answers::bare(StatusCode::NO_CONTENT)
    })
}

async fn download(State(service): State<CacheService>, call: Call) -> Response {
    let entries = service.lock();
    match number(&call).and_then(|id| entries.get(id)).filter(|entry| entry.committed) {
        Some(entry) => {
            let content = Bytes::from(entry.content.clone());
            answers::binary(StatusCode::OK, content.len() as u64, content.into())
        }
        None => refusal(StatusCode::NOT_FOUND, "Cache not found."),
    }
}

/// The number in the path.
fn number(call: &Call) -> Option<usize> {
    call.parameter("id").parse().ok()
}

fn refused(bad: &BadBody) -> Response {
    let status = if *bad == BadBody::TooLarge { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    refusal(status, &bad.to_string())
}

fn refusal(status: StatusCode, message: &str) -> Response {
    answers::json_with(status, &json!({ "message": message }))
}
