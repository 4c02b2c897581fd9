//! The case that a seed stands for.

use std::time::Duration;

use rand::RngCore;
use squall_protocol::flox::server::{self, CutOff, Ranges, Validator, incident};
use squall_protocol::random::pick;
use squall_sim::fault::families::families_but;
use squall_sim::fault::{FaultPlan, Swarm, SystemFamily};
use squall_sim::random::Streams;
use squall_sim::scenario::Drawn;

use super::furnish::{CACHE_POISONED, OBJECT_CHANGES, SERVER_CUT_OFF, slot};
use super::{ARCHIVE, Archive, CACHE, CacheUse, Host, Job, PUBLISHER, Parameters, SCALE, Workload};

/// The whole of true time that a case takes.
const END: Duration = Duration::from_secs(80 * 60);
/// From here on no fault acts.
const HEAL_MS: u64 = 60 * 60 * 1_000;
/// The last job is queued before this: some jobs find nothing wrong any more.
const QUEUED_BEFORE_MS: u64 = 66 * 60 * 1_000;

/// Parts of the paths of each server that its gateway's faults may be confined to.
const ROUTES: [(&str, &str); 6] = [
    (PUBLISHER, ".tgz"),
    (PUBLISHER, ".sha256"),
    (PUBLISHER, "mode=json"),
    (CACHE, "cache?"),
    (CACHE, "caches"),
    (CACHE, "artifacts"),
];

pub(super) fn draw(seed: u64) -> Drawn<Parameters, Workload> {
    let streams = Streams::new(seed);
    let parameters = parameters(&mut streams.stream("parameters"));
    let workload = workload(&mut streams.stream("workload"), &parameters);
    let transfer_ms = 1_000 * parameters.publisher.size_bytes / parameters.publisher.rate_bytes_per_s.max(1);
    let moments_ms: Vec<u64> = workload.jobs.iter().flat_map(|job| job.moments_ms(transfer_ms)).collect();
    let plan = FaultPlan::generate_near(&swarm(&parameters), &moments_ms, seed);
    Drawn { end: END, parameters, workload, plan }
}

fn parameters(random: &mut impl RngCore) -> Parameters {
    let hosts = (1..=pick(random, &[2, 3, 3, 4]))
        .map(|n| Host { name: format!("host-{n}"), slots: pick(random, &[1, 2, 2]) })
        .collect();
    let kib_per_s = 150 + random.next_u64() % 41;
    let archive = pick(random, &[None, Some(2), Some(4)]);
    let after = |seconds| CutOff::After(Duration::from_secs(seconds));
    let mut publisher = server::Parameters {
        // 30.0M and 32.5M.
        size_bytes: pick(random, &[incident::SIZE_BYTES, incident::SIZE_BYTES / 12 * 13]) / SCALE,
        rate_bytes_per_s: (kib_per_s << 10) / SCALE,
        pace: Duration::from_secs(5),
        http2_cut_off: pick(random, &[after(80), after(80), after(78), after(20), after(0), CutOff::Never]),
        http1_cut_off: pick(random, &[CutOff::Never, CutOff::Never, after(80), after(80), after(20)]),
        ranges: pick(random, &[Ranges::Honoured, Ranges::Honoured, Ranges::Honoured, Ranges::Ignored]),
        validator: pick(random, &[Validator::Strong, Validator::Strong, Validator::Weak, Validator::Absent]),
        versions: ["1.80.3", "1.82.0", "1.82.5"].map(str::to_owned).to_vec(),
        ..server::Parameters::default()
    };
    if archive.is_none() && publisher.http1_cut_off != CutOff::Never {
        // Otherwise nobody could ever get the file.
        publisher.ranges = Ranges::Honoured;
    }
    let archive = archive.map(|times: u64| Archive { rate_bytes_per_s: times * publisher.rate_bytes_per_s });
    let cache = pick(random, &[CacheUse::Used, CacheUse::Used, CacheUse::NotUsed]);
    Parameters { hosts, publisher, archive, cache }
}

fn workload(random: &mut impl RngCore, parameters: &Parameters) -> Workload {
    let count = 8 + random.next_u64() % 9;
    let mut jobs: Vec<Job> = Vec::new();
    for n in 0..count {
        let at_ms = match jobs.last().map(|before| before.at_ms) {
            // Two in three jobs come alone; the others shortly after the one before, as those of one pipeline do.
            Some(before) if random.next_u64().is_multiple_of(3) => before + random.next_u64() % 90 * 1_000,
            _ => random.next_u64() % QUEUED_BEFORE_MS / 1_000 * 1_000,
        };
        let versions: Vec<Option<String>> =
            [None].into_iter().chain(parameters.publisher.versions.iter().cloned().map(Some)).collect();
        let (host, version) = (pick(random, &parameters.hosts).name, pick(random, &versions));
        jobs.push(Job { name: format!("job-{}", n + 1), at_ms, host, version });
    }
    jobs.sort_by_key(|job| job.at_ms);
    for (n, job) in jobs.iter_mut().enumerate() {
        job.name = format!("job-{}", n + 1);
    }
    Workload { jobs }
}

fn swarm(parameters: &Parameters) -> Swarm {
    let nodes: Vec<String> = parameters.hosts.iter().map(|host| host.name.clone()).collect();
    let services = parameters.hosts.iter().flat_map(|host| (1..=host.slots).map(|n| (host.name.clone(), slot(n))));
    let of_servers = |name: &str, amounts| SystemFamily { name: name.to_owned(), nodes: Vec::new(), amounts };
    let archive = parameters.archive.map(|_| ARCHIVE.to_owned());
    Swarm {
        services: services.collect(),
        peers: [PUBLISHER, CACHE].map(str::to_owned).into_iter().chain(archive).collect(),
        routes: ROUTES.map(|(server, route)| (server.to_owned(), route.to_owned())).to_vec(),
        system: vec![
            of_servers(OBJECT_CHANGES, 0..=2),
            of_servers(SERVER_CUT_OFF, 0..=60),
            of_servers(CACHE_POISONED, 0..=0),
        ],
        nodes,
        // Nobody here decides by wall time: a clock that jumps changes nothing.
        // Late requests have not been tried yet on the repaired designs.
        families: families_but(&["clock-step", "late"]),
        begin_ms: 10_000..HEAL_MS - 10_000,
        heal_at_ms: HEAL_MS,
        faults_max: 16,
    }
}
