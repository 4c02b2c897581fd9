//! What is asked before a file is: the newest version, and the digest of its file.

use std::sync::Arc;

use http::{Request, Version};

use super::line::Line;
use super::retries::Retries;
use super::{Failure, Settings, Wanted};
use crate::clock::{Clock, Mono};
use crate::flox::choices::{Choices, Lookup, Protocol, Transfer};
use crate::flox::wire::{self, AS_JSON, DIGEST_ENDING, Digest, TRACK, VersionList};
use crate::random::Random;

/// Asks the publisher.
pub(super) struct LookUp {
    line: Line,
    clock: Arc<dyn Clock>,
    lookup: Lookup,
    transfer: Transfer,
    settings: Settings,
    protocol: Spoken,
    began: Mono,
}

impl LookUp {
    pub(super) fn new(line: Line, clock: Arc<dyn Clock>, choices: &Choices, settings: &Settings) -> Self {
        let (lookup, transfer, settings) = (choices.lookup, choices.transfer, settings.clone());
        let (protocol, began) = (Spoken::by_curl(choices.protocol), clock.mono());
        Self { line, clock, lookup, transfer, settings, protocol, began }
    }

    /// When the job began, by its machine's monotonic clock.
    pub(super) fn began(&self) -> Mono {
        self.began
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The version that is wanted.
    pub(super) async fn version(&mut self, random: &mut Random) -> Result<String, Failure> {
        let address = match &self.settings.version {
            Wanted::Exactly(version) => return Ok(version.clone()),
            Wanted::Latest => format!("{}{TRACK}?{AS_JSON}", self.settings.publisher),
        };
        match self.lookup {
            Lookup::Unchecked => {
                let (_, text) = self.line.text(self.request(&address)).await?.into_parts();
                newest(&text)
            }
            Lookup::Checked => self.ask(&address, newest, random).await,
        }
    }

    /// The digest that is published for a version's file.
    pub(super) async fn digest(&mut self, version: &str, random: &mut Random) -> Result<Digest, Failure> {
        let file = wire::tarball(version, &self.settings.arch);
        let address = format!("{}{TRACK}{file}{DIGEST_ENDING}", self.settings.publisher);
        let parse = |text: &str| text.parse().map_err(|_| Failure::SomethingElse { expected: "digest" });
        self.ask(&address, parse, random).await
    }

    /// Asks until there is an answer that makes sense. curl asks again after what is a failure to curl alone.
    async fn ask<T>(
        &mut self,
        address: &str,
        parse: impl Fn(&str) -> Result<T, Failure>,
        random: &mut Random,
    ) -> Result<T, Failure> {
        let mut retries = Retries::of_text(self.transfer, self.began, self.clock.clone());
        loop {
            let failure = match self.line.text(self.request(address)).await {
                Ok(answer) if answer.status().is_success() || self.transfer == Transfer::CurlWithoutFail => {
                    match parse(answer.body()) {
                        Err(senseless) if self.transfer == Transfer::Patient => senseless,
                        parsed => return parsed,
                    }
                }
                Ok(answer) => self.line.refused(&answer),
                Err(failure) => failure,
            };
            tracing::warn!("{}", failure.line(None));
            self.protocol.failed(&failure);
            retries.after(failure, random).await?;
        }
    }

    fn request(&self, address: &str) -> http::request::Builder {
        Request::get(address).version(self.protocol.version())
    }
}

/// The newest version of a list.
fn newest(list: &str) -> Result<String, Failure> {
    let senseless = Failure::SomethingElse { expected: "version list" };
    let list: VersionList = serde_json::from_str(list).map_err(|_| senseless.clone())?;
    let version = list.tarballs_version;
    let plain =
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if plain { Ok(version) } else { Err(senseless) }
}

/// The version of HTTP that is spoken at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spoken {
    version: Version,
    /// The one that is worth a try after an exchange that broke.
    other: Option<Version>,
}

impl Spoken {
    /// For the transfer of a file. tool-cache is on Node's `http`, which speaks HTTP/1.1 alone.
    pub(super) fn of_file(choices: &Choices) -> Self {
        match choices.transfer {
            Transfer::ToolCache => Self { version: Version::HTTP_11, other: None },
            _ => Self::by_curl(choices.protocol),
        }
    }

    /// For what is asked beside it, by curl.
    fn by_curl(protocol: Protocol) -> Self {
        let other = match protocol {
            Protocol::Http2Alone => None,
            Protocol::FallsBack => Some(Version::HTTP_11),
        };
        Self { version: Version::HTTP_2, other }
    }

    pub(super) fn version(self) -> Version {
        self.version
    }

    /// After an exchange that broke the other version is spoken, if there is one.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let broke = matches!(failure, Failure::Broken { .. } | Failure::TimedOut(_));
        if let Some(other) = self.other.as_mut().filter(|_| broke) {
            std::mem::swap(&mut self.version, other);
        }
    }
}
