//! The case that a seed stands for.

use std::time::Duration;

use rand::RngCore;
use squall_protocol::arc::server::{self, Addresses, Assignment, RefreshAnswer, SecondDelete};
use squall_protocol::facts::Outcome;
use squall_protocol::random::pick;
use squall_protocol::session::ConflictExtends;
use squall_sim::fault::families::families_but;
use squall_sim::fault::{FaultPlan, Swarm, SystemFamily};
use squall_sim::random::Streams;
use squall_sim::scenario::Drawn;

use super::furnish::SYSTEM_FAULTS;
use super::{FRONTS, Job, Parameters, Rollout, SERVICE, Set, Workload};

/// The whole of true time that a case takes.
const END: Duration = Duration::from_secs(3 * 3_600);
/// From here on no fault acts.
const HEAL_MS: u64 = 60 * 60 * 1_000;
/// The last job is queued before this.
const QUEUED_BEFORE_MS: u64 = 100 * 60 * 1_000;
/// The last pod is replaced before this.
const ROLLED_OUT_BEFORE_MS: u64 = 98 * 60 * 1_000;

/// Parts of the paths of each front that its gateway's faults may be confined to.
const ROUTES: [(&str, &str); 8] = [
    (FRONTS[0], "registration-token"),
    (FRONTS[0], "runner-registration"),
    (FRONTS[1], "sessions"),
    (FRONTS[1], "message"),
    (FRONTS[1], "acquirejobs"),
    (FRONTS[2], "ephemeralrunnersets"),
    (FRONTS[2], "ephemeralrunners/"),
    (FRONTS[2], "status"),
];

pub(super) fn draw(seed: u64) -> Drawn<Parameters, Workload> {
    let streams = Streams::new(seed);
    let parameters = parameters(&mut streams.stream("parameters"));
    let workload = workload(&parameters, &mut streams.stream("workload"));
    let plan = FaultPlan::generate(&swarm(&parameters), seed);
    Drawn { end: END, parameters, workload, plan }
}

/// The service with its likely values, on the fronts of this world.
pub(super) fn service() -> server::Parameters {
    server::Parameters::new(Addresses {
        config: format!("http://{}/org", FRONTS[0]),
        service: format!("http://{}/tenant/", FRONTS[1]),
    })
}

fn parameters(random: &mut impl RngCore) -> Parameters {
    let sets = (1..=pick(random, &[1, 1, 2, 3]))
        .map(|n| Set {
            name: format!("arc-runner-set-{n}"),
            min_runners: pick(random, &[0, 0, 1]),
            max_runners: pick(random, &[2, 3, 5]),
        })
        .collect();
    let seconds = Duration::from_secs;
    let service = server::Parameters {
        session_life: pick(random, &[seconds(60), seconds(300), seconds(300), seconds(3_600)]),
        conflict_extends: pick(
            random,
            &[ConflictExtends::Nothing, ConflictExtends::Nothing, ConflictExtends::LiveSession],
        ),
        second_delete: pick(random, &[SecondDelete::Succeeds, SecondDelete::NotFound]),
        refresh_answer: pick(
            random,
            &[RefreshAnswer::WholeSession, RefreshAnswer::WholeSession, RefreshAnswer::TokenAlone],
        ),
        admin_token_life: pick(random, &[seconds(900), seconds(3_600)]),
        queue_token_life: pick(random, &[seconds(600), seconds(3_000)]),
        queue_token_lag: pick(random, &[Duration::ZERO, Duration::ZERO, seconds(5)]),
        assignment: pick(random, &[Assignment::Acquired, Assignment::Acquired, Assignment::Automatic]),
        acquired_at_once: pick(random, &[None, None, Some(1)]),
        offered_again: pick(random, &[None, Some(seconds(300))]),
        batch: pick(random, &[50, 50, 2]),
        ..service()
    };
    Parameters { sets, service }
}

fn workload(parameters: &Parameters, random: &mut impl RngCore) -> Workload {
    let sets: Vec<String> = parameters.sets.iter().map(|set| set.name.clone()).collect();
    let count = 6 + random.next_u64() % 12;
    let mut at_ms = 0;
    let mut jobs: Vec<Job> = (0..count)
        .map(|_| {
            // Jobs of a workflow come together.
            if random.next_u64().is_multiple_of(2) {
                at_ms = random.next_u64() % QUEUED_BEFORE_MS / 1_000 * 1_000;
            }
            Job {
                name: String::new(),
                set: pick(random, &sets),
                at_ms,
                takes_ms: pick(random, &[10_000, 30_000, 60_000, 180_000, 420_000]) + random.next_u64() % 30 * 1_000,
                outcome: pick(random, &[Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed]),
            }
        })
        .collect();
    jobs.sort_by_key(|job| job.at_ms);
    for (n, job) in jobs.iter_mut().enumerate() {
        job.name = format!("job-{}", n + 1);
    }
    let mut rollouts: Vec<Rollout> = (0..random.next_u64() % 4)
        .map(|_| Rollout { set: pick(random, &sets), at_ms: 60_000 + random.next_u64() % ROLLED_OUT_BEFORE_MS })
        .collect();
    rollouts.sort_by_key(|rollout| rollout.at_ms);
    Workload { jobs, rollouts }
}

fn swarm(parameters: &Parameters) -> Swarm {
    let nodes: Vec<String> = parameters.sets.iter().map(|set| set.name.clone()).collect();
    Swarm {
        services: nodes.iter().map(|node| (node.clone(), SERVICE.to_owned())).collect(),
        peers: FRONTS.map(str::to_owned).to_vec(),
        routes: ROUTES.map(|(front, route)| (front.to_owned(), route.to_owned())).to_vec(),
        system: SYSTEM_FAULTS
            .iter()
            .map(|(name, _)| SystemFamily { name: (*name).to_owned(), nodes: nodes.clone(), amounts: 0..=0 })
            .collect(),
        nodes,
        // A pod keeps nothing on its disk, and its node does not fall asleep.
        // Late requests have not been tried yet on the repaired designs.
        families: families_but(&["suspend", "disk-full", "late"]),
        begin_ms: 60_000..HEAL_MS - 60_000,
        heal_at_ms: HEAL_MS,
        faults_max: 20,
    }
}
