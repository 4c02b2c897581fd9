//! A machine that runs jobs, a few at once: each job gets its file and uses it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::{self, Either};
use squall_protocol::facts::{Agent, Artifact, Job as JobName, Outcome, WorkerId};
use squall_protocol::flox::Choices;
use squall_protocol::flox::agent::{self, Install, Machine, Settings, Wanted};
use squall_protocol::flox::server::Publisher;
use squall_protocol::flox::wire::Digest;
use squall_protocol::signal::Watch;
use squall_protocol::{Disk, Fact, Ledger};
use squall_sim::Process;

use super::{ARCHIVE, CACHE, CacheUse, Job, PUBLISHER, Parameters};

/// The jobs of one machine, as whoever assigns them knows them: they outlive its processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Assigned {
    waiting: VecDeque<Job>,
    /// The job that each slot is at, and how often it was started.
    in_hand: BTreeMap<String, (Job, u32)>,
}

impl Assigned {
    pub(super) fn queue(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    fn has_work(&self, slot: &str) -> bool {
        self.in_hand.contains_key(slot) || !self.waiting.is_empty()
    }

    /// What a slot is to do: what it was at when its process ended, or the next job.
    fn next(&mut self, slot: &str) -> Option<(Job, u32)> {
        if !self.in_hand.contains_key(slot) {
            self.in_hand.insert(slot.to_owned(), (self.waiting.pop_front()?, 0));
        }
        let (job, started) = self.in_hand.get_mut(slot)?;
        *started += 1;
        Some((job.clone(), *started))
    }
}

/// What all processes of a machine's slot are made of.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) agent: String,
    pub(super) assigned: Watch<Assigned>,
    pub(super) publisher: Publisher,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) choices: Choices,
    pub(super) parameters: Arc<Parameters>,
}

impl Slot {
    /// One process: a job after the other, until it is asked to stop.
    pub(super) async fn run(self, process: Process) -> i32 {
        let shutdown = process.shutdown();
        match future::select(Box::pin(self.work(&process)), Box::pin(shutdown.requested())).await {
            Either::Left((never, _)) => match never {},
            Either::Right(_) => 0,
        }
    }

    async fn work(&self, process: &Process) -> Infallible {
        loop {
            // Looking is no change: whoever waits is woken by each.
            self.assigned.is(|assigned| assigned.has_work(&self.name)).await;
            let Some((job, attempt)) = self.assigned.change(|assigned| assigned.next(&self.name)) else { continue };
            self.execute(process, &job, attempt).await;
            self.assigned.change(|assigned| assigned.in_hand.remove(&self.name));
        }
    }

    async fn execute(&self, process: &Process, job: &Job, attempt: u32) {
        let newest = self.publisher.parameters().versions.last().cloned().unwrap_or_default();
        let artifact = Artifact::from(self.publisher.file_of(job.version.as_ref().unwrap_or(&newest)));
        let worker = process.as_worker();
        let mut told =
            Told { ledger: process.ledger(), job: job.name.as_str().into(), attempt, worker, stopped: false };
        told.started(self.agent.as_str().into());
        process.ledger().record(Fact::ArtifactWanted { artifact: artifact.clone(), job: told.job.clone() });
        let usage = Usage {
            artifact: artifact.clone(),
            job: told.job.clone(),
            revisions_before: self.publisher.published(job.version.as_ref().unwrap_or(&newest)).len(),
            publisher: self.publisher.clone(),
            disk: self.disk.clone(),
            ledger: process.ledger(),
        };
        let machine =
            Machine { clock: process.clock(), http: process.http(), random: process.random(), disk: self.disk.clone() };
        match agent::fetch(machine, self.choices.clone(), self.settings(job), &usage).await {
            Ok(()) => told.stopped(Outcome::Succeeded),
            Err(_) => {
                process.ledger().record(Fact::ArtifactMissed { artifact, job: told.job.clone() });
                told.stopped(Outcome::Failed);
            }
        }
    }

    fn settings(&self, job: &Job) -> Settings {
        let at = |host: &str| format!("http://{host}");
        let Parameters { publisher, archive, cache, .. } = &*self.parameters;
        Settings {
            publisher: at(PUBLISHER),
            archive: archive.map(|_| at(ARCHIVE)),
            cache: (*cache == CacheUse::Used).then(|| at(CACHE)),
            version: job.version.clone().map_or(Wanted::Latest, Wanted::Exactly),
            arch: publisher.arch.clone(),
            job: job.name.clone(),
        }
    }
}

/// The step of the job that uses the file: the journal hears from here what was used.
struct Usage {
    artifact: Artifact,
    job: JobName,
    /// How many contents the file had had when the job began: the last of them, and all later ones, are right.
    revisions_before: usize,
    publisher: Publisher,
    disk: Arc<dyn Disk>,
    ledger: Arc<dyn Ledger>,
}

impl Install for Usage {
    fn install(&self, version: &str, file: &str) {
        let content = self.disk.read(file).unwrap_or_default();
        let digest = Digest::of(&content);
        let published = self.publisher.published(version);
        let right = published.get(self.revisions_before.saturating_sub(1)..).unwrap_or_default();
        let Some(expected) = right.iter().find(|known| **known == digest).or(right.last()) else { return };
        self.ledger.record(Fact::ArtifactUsed {
            artifact: self.artifact.clone(),
            job: self.job.clone(),
            digest: digest.to_string(),
            published: expected.to_string(),
        });
    }
}

/// Tells the journal of one execution, to its end however it ends.
struct Told {
    ledger: Arc<dyn Ledger>,
    job: JobName,
    attempt: u32,
    worker: WorkerId,
    stopped: bool,
}

impl Told {
    fn started(&self, agent: Agent) {
        let (job, attempt, worker) = (self.job.clone(), self.attempt, self.worker.clone());
        self.ledger.record(Fact::JobStarted { job, attempt, agent, worker });
    }

    fn stopped(&mut self, outcome: Outcome) {
        self.stopped = true;
        let (job, attempt, worker) = (self.job.clone(), self.attempt, self.worker.clone());
        self.ledger.record(Fact::JobStopped { job: job.clone(), attempt, worker, outcome });
        if outcome != Outcome::Abandoned {
            self.ledger.record(Fact::JobReported { job, attempt, outcome, accepted: true });
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if !self.stopped {
            self.stopped(Outcome::Abandoned);
        }
    }
}
