//! The servers: a publisher with a time limit and a rate, an archive that knows files by their digest, and a cache.

mod answers;
mod archive;
mod cache;
mod content;
mod delivery;
mod paced;
mod parameters;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State as From};
use axum::response::Response;
use axum::routing::get;
use http::{StatusCode, Version};

pub use self::answers::page;
pub use self::archive::Archive;
pub use self::cache::CacheService;
pub use self::content::Content;
use self::delivery::Delivery;
pub use self::paced::WriteTimeout;
pub use self::parameters::{CutOff, Parameters, Ranges, Validator, incident};
use crate::clock::{Clock, Mono};
use crate::facts::{Fact, Ledger};
use crate::flox::wire::{self, DIGEST_ENDING, Digest, EntityTag, ResetCode, VersionList};

/// A publisher of files. Handles share it.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    parameters: Parameters,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    state: Mutex<State>,
}

struct State {
    /// Each file with all contents that it ever had, the present one last.
    files: BTreeMap<String, Vec<Content>>,
    /// A shorter time limit, and until when it holds.
    shorter: Option<(Duration, Mono)>,
}

impl Publisher {
    /// A publisher with a file of each of its versions.
    pub fn new(parameters: Parameters, clock: Arc<dyn Clock>, ledger: Arc<dyn Ledger>) -> Self {
        let versions = parameters.versions.clone();
        let state = Mutex::new(State { files: BTreeMap::new(), shorter: None });
        let publisher = Self(Arc::new(Shared { parameters, clock, ledger, state }));
        versions.iter().for_each(|version| drop(publisher.publish(version)));
        publisher
    }

    /// Its handlers.
    pub fn router(&self) -> Router {
        answers::with_pages(self.routes())
    }

    fn routes(&self) -> Router {
        Router::new()
            .route(wire::TRACK, get(versions))
            .route(&format!("{}{{file}}", wire::TRACK), get(file))
            .with_state(self.clone())
    }

    /// Puts new content up under the name of a version's file. The size stays the same.
    pub fn publish(&self, version: &str) -> Digest {
        let name = self.file_of(version);
        let mut state = self.lock();
        let revisions = state.files.entry(name.clone()).or_default();
        let content = Content::of(&format!("{name}#{}", revisions.len()), self.0.parameters.size_bytes);
        let digest = content.digest().clone();
        revisions.push(content);
        drop(state);
        self.0.ledger.record(Fact::ArtifactPublished { artifact: name.into(), digest: digest.to_string() });
        digest
    }

    /// For so long every answer is cut off at the latest so long after its request.
    pub fn cut_off_sooner(&self, after: Duration, lasting: Duration) {
        self.lock().shorter = Some((after, self.0.clock.mono() + lasting));
    }

    /// The digests that a version's file ever had, the present one last; none if there is no such version.
    pub fn published(&self, version: &str) -> Vec<Digest> {
        let found = self.contents(&self.file_of(version));
        found.iter().map(|content| content.digest().clone()).collect()
    }

    /// The name of a version's file.
    pub fn file_of(&self, version: &str) -> String {
        wire::tarball(version, &self.0.parameters.arch)
    }

    /// What it was started with.
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    fn contents(&self, file: &str) -> Vec<Content> {
        self.lock().files.get(file).cloned().unwrap_or_default()
    }

    /// The content of this digest, and the name that it has or had.
    fn by_digest(&self, digest: &Digest) -> Option<(String, Content)> {
        let state = self.lock();
        let mut all = state.files.iter().flat_map(|(name, revisions)| revisions.iter().map(move |it| (name, it)));
        all.find(|(_, content)| content.digest() == digest).map(|(name, content)| (name.clone(), content.clone()))
    }

    /// How long an answer to a request of this version of HTTP may take.
    fn cut_off(&self, version: Version) -> Option<Duration> {
        let Parameters { http2_cut_off, http1_cut_off, .. } = &self.0.parameters;
        let usual = match if version == Version::HTTP_2 { http2_cut_off } else { http1_cut_off } {
            CutOff::Never => None,
            CutOff::After(limit) => Some(*limit),
        };
        let now = self.0.clock.mono();
        let shorter = self.lock().shorter.filter(|(_, until)| now < *until).map(|(limit, _)| limit);
        usual.into_iter().chain(shorter).min()
    }

    fn entity_tag(&self, content: &Content) -> Option<EntityTag> {
        let opaque = &content.digest().as_str()[..32];
        match self.0.parameters.validator {
            Validator::Strong => Some(EntityTag::strong(opaque)),
            Validator::Weak => Some(EntityTag::weak(opaque)),
            Validator::Absent => None,
        }
    }

    fn delivery(&self, name: &str, content: Content, version: Version) -> Delivery {
        let Parameters { rate_bytes_per_s, pace, ranges, .. } = self.0.parameters;
        let (tag, cut_off) = (self.entity_tag(&content), self.cut_off(version));
        // HTTP/1.1 has no streams to reset.
        let reset = if version == Version::HTTP_2 { self.0.parameters.http2_reset } else { ResetCode::INTERNAL_ERROR };
        Delivery { name: name.to_owned(), content, tag, ranges, rate_bytes_per_s, pace, cut_off, reset }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handlers of all three servers, on one host.
pub fn on_one_host(publisher: &Publisher, archive: &Archive, cache: &CacheService) -> Router {
    answers::with_pages(publisher.routes().merge(archive.routes()).merge(cache.routes()))
}

/// `GET /stable/?mode=json`; a page for people without that query.
async fn versions(From(publisher): From<Publisher>, request: Request) -> Response {
    let Some(newest) = publisher.parameters().versions.last() else { return answers::page(StatusCode::NOT_FOUND) };
    if !request.uri().query().unwrap_or_default().split('&').any(|pair| pair == wire::AS_JSON) {
        return answers::page(StatusCode::OK);
    }
    let arch = publisher.parameters().arch.clone();
    answers::json(&VersionList {
        version: newest.clone(),
        tarballs_version: newest.clone(),
        tarballs: BTreeMap::from([(arch, publisher.file_of(newest))]),
    })
}

/// `GET /stable/FILE` and `GET /stable/FILE.sha256`.
async fn file(From(publisher): From<Publisher>, Path(name): Path<String>, request: Request) -> Response {
    let present = |name: &str| publisher.contents(name).pop();
    if let Some(content) = name.strip_suffix(DIGEST_ENDING).and_then(present) {
        return answers::text(content.digest().to_string());
    }
    match present(&name) {
        Some(content) => {
            let delivery = publisher.delivery(&name, content, request.version());
            delivery.answer(&request, &publisher.0.clock, &publisher.0.ledger)
        }
        None => answers::page(StatusCode::NOT_FOUND),
    }
}
