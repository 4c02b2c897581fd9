//! The world of a case: the servers, the machines that run jobs, and the workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use squall_protocol::Fact;
use squall_protocol::flox::Choices;
use squall_protocol::flox::server::{Archive as ArchiveServer, CacheService, Publisher};
use squall_protocol::signal::Watch;
use squall_protocol::supervise::Always;
use squall_sim::fault::Phase;
use squall_sim::scenario::Misfit;
use squall_sim::{Node, SimTime, World};

use super::disk::WatchedDisk;
use super::machine::{Assigned, Slot};
use super::{ARCHIVE, CACHE, Host, PUBLISHER, Parameters, Workload};

/// Faults of this system, as a reader is told about them.
pub(super) const SYSTEM_FAULTS: &[(&str, &str)] = &[
    (OBJECT_CHANGES, "The publisher replaces a version's file: the version is counted by the amount, from 0."),
    (SERVER_CUT_OFF, "The publisher cuts answers off after as many seconds as the amount."),
    (CACHE_POISONED, "What is in the cache is spoilt."),
];

/// A fault of this system: the publisher replaces the file of a version, whose place among the versions is the amount.
pub(super) const OBJECT_CHANGES: &str = "object-changes";
/// A fault of this system: the publisher cuts answers off after as many seconds as the amount says.
pub(super) const SERVER_CUT_OFF: &str = "server-cut-off";
/// A fault of this system: what is in the cache is spoilt.
pub(super) const CACHE_POISONED: &str = "cache-poisoned";

/// The port of every server.
const PORT: u16 = 80;
/// How long after its end the process of a slot is started again.
const RESTART_DELAY: Duration = Duration::from_secs(5);

/// The largest file, in bytes: its bytes are made one by one, so a larger one is a slip of the finger.
const SIZE_BYTES_MAX: u64 = 1_000_000_000;

/// The name of a machine's slot.
pub(super) fn slot(n: u32) -> String {
    format!("slot-{n}")
}

pub(super) fn furnish(
    world: &World,
    choices: Choices,
    parameters: Parameters,
    workload: Workload,
) -> Result<(), Misfit> {
    check(&parameters, &workload)?;
    let store = world.node(PUBLISHER);
    let publisher = Publisher::new(parameters.publisher.clone(), store.clock(), store.ledger());
    serve(&store, publisher.router());
    if let Some(archive) = parameters.archive {
        let node = world.node(ARCHIVE);
        let server = ArchiveServer::of(publisher.clone(), archive.rate_bytes_per_s, node.clock(), node.ledger());
        serve(&node, server.router());
    }
    let cache = CacheService::default();
    serve(&world.node(CACHE), cache.router());
    let parameters = Arc::new(parameters);
    let mut assigned = BTreeMap::new();
    for host in &parameters.hosts {
        assigned.insert(host.name.clone(), start_host(world, host, &publisher, &choices, &parameters));
    }
    carry_out_system_faults(world, &publisher, &cache);
    world.spawn("workload", queue(world.clone(), assigned, workload));
    Ok(())
}

fn check(parameters: &Parameters, workload: &Workload) -> Result<(), Misfit> {
    let misfit = |part, why: String| Err(Misfit { part, why });
    let publisher = &parameters.publisher;
    if publisher.versions.is_empty() || publisher.rate_bytes_per_s == 0 || publisher.pace.is_zero() {
        return misfit("parameters", "the publisher needs a version, a rate and a pace".to_owned());
    }
    if publisher.size_bytes > SIZE_BYTES_MAX {
        return misfit(
            "parameters",
            format!("a file has {} bytes, and may have {SIZE_BYTES_MAX}", publisher.size_bytes),
        );
    }
    for job in &workload.jobs {
        if !parameters.hosts.iter().any(|host| host.name == job.host) {
            return misfit("workload", format!("{} runs on {}, which is no host", job.name, job.host));
        }
        if job.version.as_ref().is_some_and(|version| !publisher.versions.contains(version)) {
            return misfit("workload", format!("{} needs a version that nobody published", job.name));
        }
    }
    Ok(())
}

fn serve(node: &Node, router: Router) {
    node.start("http", |process| async move {
        squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
    });
}

/// Starts the slots of a machine. Returns where its jobs are queued.
fn start_host(
    world: &World,
    host: &Host,
    publisher: &Publisher,
    choices: &Choices,
    parameters: &Arc<Parameters>,
) -> Watch<Assigned> {
    let node = world.node(&host.name);
    let assigned = Watch::new(Assigned::default());
    let disk = Arc::new(WatchedDisk::new(node.disk(), publisher.clone(), node.ledger()));
    for n in 1..=host.slots {
        let slot = Slot {
            name: slot(n),
            agent: format!("{}.{n}", host.name),
            assigned: assigned.clone(),
            publisher: publisher.clone(),
            disk: disk.clone(),
            choices: choices.clone(),
            parameters: parameters.clone(),
        };
        let (name, agent) = (slot.name.clone(), slot.agent.clone());
        node.service(&name, &agent, || Always { delay: RESTART_DELAY }, move |process| slot.clone().run(process));
    }
    assigned
}

fn carry_out_system_faults(world: &World, publisher: &Publisher, cache: &CacheService) {
    let (effects, server) = (world.effects().clone(), publisher.clone());
    world.on_system_fault(OBJECT_CHANGES, move |fault| {
        let versions = &server.parameters().versions;
        let place = usize::try_from(fault.amount).ok().and_then(|place| versions.get(place));
        if let (Phase::Begins, Some(version)) = (fault.phase, place) {
            server.publish(version);
            effects.count(fault.id);
        }
    });
    let (effects, server) = (world.effects().clone(), publisher.clone());
    world.on_system_fault(SERVER_CUT_OFF, move |fault| {
        if fault.phase == Phase::Begins {
            server.cut_off_sooner(Duration::from_secs(fault.amount.unsigned_abs()), fault.lasts);
            effects.count(fault.id);
        }
    });
    let (effects, cache) = (world.effects().clone(), cache.clone());
    world.on_system_fault(CACHE_POISONED, move |fault| {
        if fault.phase == Phase::Begins && cache.poison() > 0 {
            effects.count(fault.id);
        }
    });
}

async fn queue(world: World, assigned: BTreeMap<String, Watch<Assigned>>, workload: Workload) {
    let mut jobs = workload.jobs;
    jobs.sort_by_key(|job| job.at_ms);
    for job in jobs {
        world.sleep_until(SimTime::from_millis(job.at_ms)).await;
        world.record(Fact::JobQueued { job: job.name.as_str().into() });
        if let Some(assigned) = assigned.get(&job.host) {
            assigned.change(|assigned| assigned.queue(job));
        }
    }
}
