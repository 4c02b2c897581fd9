//! The download: which version, which digest, from the cache or from a server, under its final name, and into use.
//!
//! It is one future over the seams of its [`Machine`]. With the choices of the real action it does what curl does, with
//! the repaired ones what curl could be made to do.

mod cache;
mod download;
mod failure;
mod line;
mod look_up;
mod meter;
mod part;
mod patience;
mod retries;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use self::cache::Cache;
use self::download::Download;
pub use self::failure::{During, Failure, NOT_OF_CURL};
use self::line::Line;
pub use self::line::{HEAD_TIMEOUT, MAX_TIME, STALLED};
use self::look_up::LookUp;
use self::part::Part;
pub use self::patience::BUDGET;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::flox::choices::{self, Choices, Destination, Placement, Transfer};
use crate::flox::wire::{self, Digest};
use crate::http::Http;
use crate::random::Random;

/// What a job has of its machine.
pub struct Machine {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's network.
    pub http: Http,
    /// The process's generator.
    pub random: Random,
    /// The machine's disk, which all of its jobs share.
    pub disk: Arc<dyn Disk>,
}

/// What a job asks for, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The publisher, such as `http://pkgs`.
    pub publisher: String,
    /// An archive that knows files by their digest, if there is one.
    pub archive: Option<String>,
    /// The cache service, if it is used.
    pub cache: Option<String>,
    /// The version.
    pub version: Wanted,
    /// The architecture.
    pub arch: String,
    /// The job's name.
    pub job: String,
}

/// Which version a job wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest one that there is.
    Latest,
    /// This one.
    Exactly(String),
}

/// Puts a file to use.
pub trait Install: Send + Sync {
    /// The file of this version lies under this name and is used now.
    fn install(&self, version: &str, file: &str);
}

/// Where files have their final names, by which all jobs of a machine look for them.
pub const FOLDER: &str = "tools/";

/// Gets a version's file and puts it to use.
///
/// # Errors
/// [`Failure`], when the job ends without it.
pub async fn fetch(
    machine: Machine,
    choices: Choices,
    settings: Settings,
    install: &dyn Install,
) -> Result<(), Failure> {
    let transfer = choices.transfer;
    let done = Job::new(machine, choices, settings).run(install).await;
    if let Err(failure) = &done {
        let code = failure.exit_code();
        let is_step_of_shell = !matches!(transfer, Transfer::ToolCache | Transfer::Patient);
        // Of everything else curl has told already.
        if code == NOT_OF_CURL || !is_step_of_shell {
            tracing::error!("{failure}");
        }
        if is_step_of_shell {
            tracing::error!("Process completed with exit code {code}.");
        }
    }
    done
}

struct Job {
    choices: Choices,
    settings: Settings,
    disk: Arc<dyn Disk>,
    random: Random,
    line: Line,
    look_up: LookUp,
    cache: Option<Cache>,
}

impl Job {
    fn new(machine: Machine, choices: Choices, settings: Settings) -> Self {
        let Machine { clock, http, random, disk } = machine;
        let line = Line::new(http, clock.clone(), choices.stall);
        let cache = settings.cache.as_ref().map(|origin| Cache::at(origin, line.clone()));
        let look_up = LookUp::new(line.clone(), clock, &choices, &settings);
        Self { choices, settings, disk, random, line, look_up, cache }
    }

    async fn run(&mut self, install: &dyn Install) -> Result<(), Failure> {
        let version = self.look_up.version(&mut self.random).await?;
        let file = format!("{FOLDER}{}", wire::tarball(&version, &self.settings.arch));
        // Only v4 looks into the cache before it knows what should be there.
        let known = match self.choices.cache {
            choices::Cache::ByVersionAlone => None,
            choices::Cache::Unverified | choices::Cache::Verified => {
                Some(self.look_up.digest(&version, &mut self.random).await?)
            }
        };
        if known.as_ref().is_some_and(|digest| self.is_there(&file, digest))
            || self.restore(&version, &file, known.as_ref()).await
        {
            install.install(&version, &file);
            return Ok(());
        }
        let expected = match known {
            Some(digest) => digest,
            None => self.look_up.digest(&version, &mut self.random).await?,
        };
        let (content, digest) = self.download(&version, &file, expected).await?;
        install.install(&version, &file);
        if let Some(cache) = &self.cache {
            cache.save(&self.key(&version, Some(&digest)), content).await;
        }
        Ok(())
    }

    /// The key of a version's file in the cache.
    fn key(&self, version: &str, digest: Option<&Digest>) -> String {
        let digest = digest.filter(|_| self.choices.cache != choices::Cache::ByVersionAlone);
        cache::key(version, &self.settings.arch, digest)
    }

    /// Is the whole file there already? What arrives under its final name may be a part at any time.
    fn is_there(&self, file: &str, expected: &Digest) -> bool {
        self.choices.placement == Placement::Renamed
            && self.disk.read(file).is_ok_and(|content| Digest::of(&content) == *expected)
    }

    /// Takes the file from the cache, if it is there and good enough.
    async fn restore(&self, version: &str, file: &str, expected: Option<&Digest>) -> bool {
        let Some(cache) = &self.cache else { return false };
        let key = self.key(version, expected);
        let Some(content) = cache.restore(&key).await else { return false };
        let verified = self.choices.cache == choices::Cache::Verified;
        if verified && expected.is_some_and(|expected| Digest::of(&content) != *expected) {
            tracing::warn!("What was restored from the cache under {key} has the wrong digest");
            return false;
        }
        let part = self.part(file);
        let placed = part.begin(&*self.disk, None).and_then(|()| part.append(&*self.disk, &content));
        match placed.and_then(|()| part.finish(&*self.disk, file)) {
            Ok(()) => true,
            Err(failure) => {
                tracing::warn!("Failed to restore: {failure}");
                false
            }
        }
    }

    async fn download(&mut self, version: &str, file: &str, expected: Digest) -> Result<(Bytes, Digest), Failure> {
        let part = self.part(file);
        let refuses = self.choices.destination == Destination::SharedAndNew;
        // The attempts of tool-cache look for themselves.
        if refuses && self.choices.transfer != Transfer::ToolCache && part.exists(&*self.disk) {
            return Err(Failure::Exists(part.path().to_owned()));
        }
        let (line, disk) = (self.line.clone(), self.disk.clone());
        let mut download = Download::new(line, disk, &self.choices, &self.settings, &mut self.look_up, part);
        download.run(version, file, expected, &mut self.random).await
    }

    /// Where the bytes of a file arrive.
    fn part(&self, file: &str) -> Part {
        Part::at(match (self.choices.placement, self.choices.destination) {
            (Placement::InPlace, _) => file.to_owned(),
            (Placement::Renamed, Destination::Shared | Destination::SharedAndNew) => format!("{file}.part"),
            (Placement::Renamed, Destination::PerJob) => format!("{file}.{}.part", self.settings.job),
        })
    }
}
