//! The cache service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::answers;
use crate::flox::wire::ContentRange;
use crate::flox::wire::cache::{BASE, Commit, Entry, Reserve, Reserved};

/// The largest piece of an entry that is taken at once.
const PIECE_MAX_BYTES: usize = 64 << 20;

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
            .layer(DefaultBodyLimit::max(PIECE_MAX_BYTES))
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

    /// Acts on an entry that is being uploaded.
    fn uploading(&self, id: &str, act: impl FnOnce(&mut Stored) -> Response) -> Response {
        let mut entries = self.lock();
        let found = id.parse().ok().and_then(|id: usize| entries.get_mut(id));
        match found {
            Some(entry) if !entry.committed => act(entry),
            Some(_) => refusal(StatusCode::BAD_REQUEST, "The cache entry is complete."),
            None => refusal(StatusCode::NOT_FOUND, "Cache not found."),
        }
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
    let Some(id) = asked("keys").split(',').find_map(of_key) else { return answers::empty(StatusCode::NO_CONTENT) };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    answers::json(&Entry {
        cache_key: entries[id].key.clone(),
        archive_location: format!("http://{host}{BASE}artifacts/{id}"),
    })
}

async fn reserve(State(service): State<CacheService>, body: Bytes) -> Response {
    let Reserve { key, version, .. } = match parsed(&body) {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    let mut entries = service.lock();
    if entries.iter().any(|entry| entry.key == key && entry.version == version) {
        return refusal(StatusCode::CONFLICT, "Cache already exists.");
    }
    entries.push(Stored { key, version, content: Vec::new(), committed: false });
    answers::json_with(StatusCode::CREATED, &Reserved { cache_id: entries.len() as u64 - 1 })
}

/// `PATCH caches/{id}` with Content-Range: pieces may be sent again.
async fn upload(
    State(service): State<CacheService>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(ContentRange::Bytes { first, last, .. }) = range else {
        return refusal(StatusCode::BAD_REQUEST, "The Content-Range header is missing or malformed.");
    };
    service.uploading(&id, |entry| {
        // Nothing may be left out, and what is sent has to be what is said.
        if first > entry.content.len() as u64 || last - first + 1 != body.len() as u64 {
            return refusal(StatusCode::BAD_REQUEST, "The range does not fit the content.");
        }
        entry.content.truncate(first as usize);
        entry.content.extend_from_slice(&body);
        answers::empty(StatusCode::NO_CONTENT)
    })
}

async fn commit(State(service): State<CacheService>, Path(id): Path<String>, body: Bytes) -> Response {
    let Commit { size } = match parsed(&body) {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    service.uploading(&id, |entry| {
        if entry.content.len() as u64 != size {
            return refusal(StatusCode::BAD_REQUEST, "Cache size does not match.");
        }
        entry.committed = true;
        answers::empty(StatusCode::NO_CONTENT)
    })
}

async fn download(State(service): State<CacheService>, Path(id): Path<String>) -> Response {
    let entries = service.lock();
    match id.parse().ok().and_then(|id: usize| entries.get(id)).filter(|entry| entry.committed) {
        Some(entry) => {
            let content = Bytes::from(entry.content.clone());
            answers::binary(StatusCode::OK, content.len() as u64, content.into())
        }
        None => refusal(StatusCode::NOT_FOUND, "Cache not found."),
    }
}

fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|why| Box::new(refusal(StatusCode::BAD_REQUEST, &why.to_string())))
}

fn refusal(status: StatusCode, message: &str) -> Response {
    answers::json_with(status, &json!({ "message": message }))
}
