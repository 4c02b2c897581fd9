//! Getting a file from a server: attempts, each of which may bring a part, until the whole has the right digest.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};

use super::line::{Line, with_body};
use super::look_up::{LookUp, Spoken};
use super::meter::Meter;
use super::part::Part;
use super::retries::Retries;
use super::{During, Failure, Settings};
use crate::disk::Disk;
use crate::flox::choices::{Choices, Destination, OnMismatch, Resume, Source, Transfer};
use crate::flox::wire::{self, BY_DIGEST, ContentRange, Digest, EntityTag, Range, TRACK};
use crate::http::{self as http_seam, Body, TransportError};
use crate::random::Random;

/// Every so many attempts one goes to the archive.
const ARCHIVE_EVERY: u32 = 3;

/// The download of one file.
pub(super) struct Download<'a> {
    line: Line,
    disk: Arc<dyn Disk>,
    choices: &'a Choices,
    settings: &'a Settings,
    look_up: &'a mut LookUp,
    part: Part,
    spoken: Spoken,
    retries: Retries,
    /// Attempts that failed.
    failed: u32,
}

/// Where an attempt goes.
struct Origin {
    address: String,
    is_archive: bool,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        line: Line,
        disk: Arc<dyn Disk>,
        choices: &'a Choices,
        settings: &'a Settings,
        look_up: &'a mut LookUp,
        part: Part,
    ) -> Self {
        let retries = Retries::of_file(choices.transfer, look_up.began(), look_up.clock().clone());
        let spoken = Spoken::of_file(choices);
        Self { line, disk, choices, settings, look_up, part, spoken, retries, failed: 0 }
    }

    /// Downloads until the file is whole and lies under its final name.
    ///
    /// Returns its content, and its digest.
    pub(super) async fn run(
        &mut self,
        version: &str,
        file: &str,
        mut expected: Digest,
        random: &mut Random,
    ) -> Result<(Bytes, Digest), Failure> {
        loop {
            self.arrive(version, &expected, random).await?;
            let (content, actual) = self.part.content(&*self.disk)?;
            if actual != expected {
                let mismatch = Failure::Mismatch { expected: expected.clone(), actual: actual.clone() };
                tracing::warn!("{mismatch}");
                if self.choices.on_mismatch == OnMismatch::Fails {
                    self.part.remove(&*self.disk);
                    return Err(mismatch);
                }
                // The publisher may have replaced both.
                expected = self.look_up.digest(version, random).await?;
                if actual != expected {
                    if self.choices.resume != Resume::Unvalidated {
                        self.part.remove(&*self.disk);
                    }
                    self.after(mismatch, random).await?;
                    continue;
                }
            }
            match self.part.finish(&*self.disk, file) {
                Ok(()) => return Ok((content, actual)),
                Err(failure) => self.after(failure, random).await?,
            }
        }
    }

    /// Attempts until one brings the rest of the file.
    async fn arrive(&mut self, version: &str, expected: &Digest, random: &mut Random) -> Result<(), Failure> {
        loop {
            let origin = self.origin(version, expected);
            let mut meter = Meter::started(self.look_up.clock().mono());
            let tried = match self.in_the_way() {
                None => self.line.attempt(self.attempt(&origin, &mut meter)).await,
                Some(exists) => Err(exists),
            };
            tracing::info!("{}", meter.line(self.look_up.clock().mono()));
            let Err(failure) = tried else { return Ok(()) };
            tracing::warn!("{}", failure.line(meter.missing()));
            if meter.received > 0 && self.choices.transfer == Transfer::Patient {
                self.retries.progress();
            }
            self.spoken.failed(&failure);
            let is_own = !matches!(failure, Failure::Exists(_));
            if is_own && self.choices.transfer == Transfer::ToolCache && self.choices.resume == Resume::FromZero {
                self.part.remove(&*self.disk);
            }
            match failure {
                // That it is not in the archive says nothing about the publisher.
                Failure::Status { .. } if origin.is_archive => self.failed += 1,
                failure => self.after(failure, random).await?,
            }
        }
    }

    async fn after(&mut self, failure: Failure, random: &mut Random) -> Result<(), Failure> {
        self.failed += 1;
        self.retries.after(failure, random).await
    }

    /// What is there before an attempt begins, where that is refused: tool-cache looks each time, and has the same patience
    /// with it as with everything else.
    fn in_the_way(&self) -> Option<Failure> {
        let refuses =
            self.choices.transfer == Transfer::ToolCache && self.choices.destination == Destination::SharedAndNew;
        let begins = self.choices.resume == Resume::FromZero || self.failed == 0;
        let there = refuses && begins && self.part.exists(&*self.disk);
        there.then(|| Failure::Exists(self.part.path().to_owned()))
    }

    /// The publisher, and once in a while the archive.
    fn origin(&self, version: &str, expected: &Digest) -> Origin {
        let archive = match self.choices.source {
            Source::PublisherAlone => None,
            Source::ArchiveToo => self.settings.archive.as_ref(),
        };
        match archive.filter(|_| self.failed % ARCHIVE_EVERY == ARCHIVE_EVERY - 1) {
            Some(archive) => Origin { address: format!("{archive}{BY_DIGEST}{expected}"), is_archive: true },
            None => {
                let file = wire::tarball(version, &self.settings.arch);
                Origin { address: format!("{}{TRACK}{file}", self.settings.publisher), is_archive: false }
            }
        }
    }

    async fn attempt(&self, origin: &Origin, meter: &mut Meter) -> Result<(), Failure> {
        let offset = self.offset();
        let mut request = Request::get(&origin.address).version(self.spoken.version());
        if offset > 0 {
            request = request.header(header::RANGE, Range::From(offset, None).to_string());
            if let Some(tag) = self.condition(origin) {
                request = request.header(header::IF_RANGE, tag.to_string());
            }
        }
        let answer = self.line.head(with_body(request, http_seam::empty())?).await?;
        match answer.status() {
            StatusCode::OK => self.take_whole(origin, answer, meter).await,
            StatusCode::PARTIAL_CONTENT => self.take_rest(offset, answer, meter).await,
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                let complete = ContentRange::Unsatisfied { size: offset };
                if content_range(answer.headers()) == Some(complete) {
                    return Ok(());
                }
                self.part.remove(&*self.disk);
                Err(Failure::SomethingElse { expected: "rest of the file" })
            }
            // Without --fail curl saves whatever comes.
            _ if self.choices.transfer == Transfer::CurlWithoutFail => self.take_whole(origin, answer, meter).await,
            _ => Err(self.line.refused(&answer)),
        }
    }

    /// Where this attempt begins.
    fn offset(&self) -> u64 {
        match self.choices.resume {
            Resume::FromZero => 0,
            Resume::Unvalidated | Resume::IfRange => self.part.length(&*self.disk),
        }
    }

    /// What must still hold for bytes to be put together. What an archive has never changes; for a publisher without a
    /// strong validator the digest alone can tell.
    fn condition(&self, origin: &Origin) -> Option<EntityTag> {
        match self.choices.resume {
            Resume::IfRange if !origin.is_archive => self.part.tag(&*self.disk).filter(EntityTag::is_strong),
            _ => None,
        }
    }

    async fn take_whole(&self, origin: &Origin, answer: Response<Body>, meter: &mut Meter) -> Result<(), Failure> {
        // Another page than the file would cost the part that is there already.
        if self.choices.transfer == Transfer::Patient && is_page(answer.headers()) {
            return Err(Failure::SomethingElse { expected: "file" });
        }
        let tag = header(answer.headers(), header::ETAG).and_then(|tag| tag.parse().ok());
        self.part.begin(&*self.disk, tag.as_ref().filter(|_| !origin.is_archive))?;
        self.take(answer, meter).await
    }

    async fn take_rest(&self, offset: u64, answer: Response<Body>, meter: &mut Meter) -> Result<(), Failure> {
        match content_range(answer.headers()) {
            Some(ContentRange::Bytes { first, .. }) if first == offset => self.take(answer, meter).await,
            _ => Err(Failure::SomethingElse { expected: "rest of the file" }),
        }
    }

    async fn take(&self, answer: Response<Body>, meter: &mut Meter) -> Result<(), Failure> {
        meter.announced = header(answer.headers(), header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let mut body = answer.into_body();
        while let Some(bytes) = self.line.next(&mut body).await? {
            self.part.append(&*self.disk, &bytes)?;
            meter.received += bytes.len() as u64;
        }
        match meter.missing() {
            // A stream that is reset by NO_ERROR ends in order, and too early.
            Some(missing) if missing > 0 => {
                Err(Failure::Broken { error: TransportError::ClosedEarly, during: During::Body })
            }
            _ => Ok(()),
        }
    }
}

fn header(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    header(headers, header::CONTENT_RANGE)?.parse().ok()
}

fn is_page(headers: &HeaderMap) -> bool {
    header(headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
}
