//! `flox-download`: CI jobs that need a file whose server cuts every download off (flox/flox#2916).
//!
//! Over an hour jobs on several machines each need a published file before they can go on. A publisher with a rate and a
//! time limit has it, perhaps an archive that knows files by their digest, and perhaps a cache that earlier jobs filled.
//! Sizes and rates are those of the incident, both divided by [`SCALE`], so that times are the incident's.

mod disk;
mod draw;
mod furnish;
mod live;
mod machine;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::flox::{Choices, server};
use squall_sim::World;
use squall_sim::invariant::Invariant;
use squall_sim::invariant::artifacts::{NotGivenUpEarly, UsedAsPublished, WantedArtifactArrives, WholeUnderFinalName};
use squall_sim::invariant::coverage;
use squall_sim::invariant::load::RequestRateBounded;
use squall_sim::invariant::patience::SilenceBounded;
use squall_sim::scenario::{Drawn, Misfit, Model};

/// The scenario.
#[derive(Clone, Copy, Debug)]
pub struct FloxDownload;

/// The scenario's name on the command line and in cases.
pub const NAME: &str = "flox-download";

/// The publisher's host name.
pub const PUBLISHER: &str = "pkgs";
/// The archive's host name.
pub const ARCHIVE: &str = "tarballs";
/// The cache service's host name.
pub const CACHE: &str = "cache";

/// By how much drawn files are smaller, and slower, than real ones.
pub const SCALE: u64 = 256;

/// What the world consists of, and the unknowns of the real servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The machines that run jobs.
    pub hosts: Vec<Host>,
    /// The publisher.
    pub publisher: server::Parameters,
    /// The archive, if there is one.
    pub archive: Option<Archive>,
    /// Whether jobs use a cache.
    pub cache: CacheUse,
}

/// A machine that runs jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// How many jobs it runs at once.
    pub slots: u32,
}

/// An archive that knows files by their digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// How fast it sends.
    pub rate_bytes_per_s: u64,
}

/// Whether jobs use a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheUse {
    /// They look there first and store what they downloaded.
    Used,
    /// They do not.
    NotUsed,
}

/// What is asked of the world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The jobs.
    pub jobs: Vec<Job>,
}

/// A job that needs a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// When it is queued, in milliseconds of true time.
    pub at_ms: u64,
    /// The machine that it runs on.
    pub host: String,
    /// The version that it needs; the newest if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Job {
    /// When something happens to it unless it is disturbed: it is queued, and its file has come after so long.
    fn moments_ms(&self, transfer_ms: u64) -> impl Iterator<Item = u64> + use<> {
        [self.at_ms, self.at_ms + transfer_ms].into_iter()
    }
}

impl Model for FloxDownload {
    type Choices = Choices;
    type Parameters = Parameters;
    type Workload = Workload;

    const NAME: &'static str = NAME;
    const SUMMARY: &'static str =
        "CI jobs need a file whose server cuts every download off before its end (flox/flox#2916).";
    const SYSTEM_FAULTS: &'static [(&'static str, &'static str)] = furnish::SYSTEM_FAULTS;

    fn draw(&self, seed: u64) -> Drawn<Parameters, Workload> {
        draw::draw(seed)
    }

    fn furnish(
        &self,
        world: &World,
        choices: Choices,
        parameters: Parameters,
        workload: Workload,
    ) -> Result<(), Misfit> {
        furnish::furnish(world, choices, parameters, workload)
    }

    fn invariants(&self, parameters: &Parameters, _: &Workload) -> Vec<Box<dyn Invariant>> {
        vec![
            Box::new(UsedAsPublished),
            Box::new(WholeUnderFinalName),
            Box::new(NotGivenUpEarly { patience: PATIENCE }),
            Box::new(WantedArtifactArrives { bound: arrival(&parameters.publisher) }),
            Box::new(RequestRateBounded { per_minute: 240 }),
            Box::new(SilenceBounded { bound: SILENCE }),
            Box::new(coverage::agent_killed()),
            Box::new(coverage::artifact_cut_off()),
            Box::new(coverage::artifact_used()),
        ]
    }
}

/// How long a job tries at least before it may end without its file.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long a file may take to arrive when nothing is wrong: the transfer at the publisher's rate, once more for what
/// its time limit and a fall-back cost, and the longest silence and pause that began before.
fn arrival(publisher: &server::Parameters) -> Duration {
    Duration::from_secs(2 * publisher.size_bytes / publisher.rate_bytes_per_s.max(1)) + SILENCE_AND_PAUSE
}

/// 30 s without a byte, on a slow clock, and as much again: nobody waits for long in vain.
const SILENCE: Duration = Duration::from_secs(60);
/// 30 s without a byte, a minute of Retry-After, and what slow connections add to both.
const SILENCE_AND_PAUSE: Duration = Duration::from_secs(120);
