//! The case that a seed stands for.

use std::time::Duration;

use rand::RngCore;
use squall_protocol::bkci::agent::Preparation;
use squall_protocol::bkci::server::{JobSpec, Place};
use squall_protocol::bkci::wire::path;
use squall_protocol::facts::Outcome;
use squall_protocol::random::pick;
use squall_sim::fault::families::families_but;
use squall_sim::fault::{FaultPlan, Swarm, SystemFamily};
use squall_sim::random::Streams;
use squall_sim::scenario::Drawn;

use super::furnish::{self, AMOUNTS, DAEMON};
use super::{Agent, Bot, Build, Job, Parameters, SERVER, Workload};

/// The whole of true time that a case takes.
const END: Duration = Duration::from_secs(76 * 60);
/// From here on no fault acts.
const HEAL_MS: u64 = 30 * 60 * 1_000;
/// The last build is started before this.
const STARTED_BEFORE_MS: u64 = 22 * 60 * 1_000;
/// No user and no bot looks after this.
pub(super) const LOOKED_BEFORE_MS: u64 = HEAL_MS + 120_000;

/// What the longest job takes.
const LONG_MS: u64 = 14 * 60 * 1_000;

/// Parts of the paths that the gateway's faults may be confined to.
const ROUTES: [&str; 8] =
    [path::ASK, path::FINISH, path::STARTUP, path::STARTED, path::CLAIM, path::COMPLETE, path::END, path::HEARTBEAT];

/// A machine that falls asleep measures its lease with a clock that stands still: no client alone can be safe. No agent
/// and no worker reads the wall clock. Late requests have not been tried yet on the repaired design.
const UNFIT: [&str; 3] = ["suspend", "clock-step", "late"];

pub(super) fn draw(seed: u64) -> Drawn<Parameters, Workload> {
    let streams = Streams::new(seed);
    let parameters = parameters(&mut streams.stream("parameters"));
    let mut workload = workload(&mut streams.stream("workload"), &parameters);
    follow_habits(&mut streams.stream("habits"), &mut workload);
    let plan = FaultPlan::generate_near(&swarm(&parameters), &workload.moments_ms(), seed);
    Drawn { end: END + super::preparations(&parameters, &workload), parameters, workload, plan }
}

fn parameters(random: &mut impl RngCore) -> Parameters {
    let agents = (1..=pick(random, &[1, 2, 2, 3]))
        .map(|n| Agent { name: format!("agent-{n}"), parallel_task_count: pick(random, &[1, 2, 2]) })
        .collect();
    let seconds = Duration::from_secs;
    let slow = pick(random, &[seconds(20), seconds(60), seconds(240)]);
    let preparation = Preparation {
        usual: seconds(1)..seconds(8),
        slow: slow..slow + seconds(60),
        slow_percent: pick(random, &[0, 10, 30]),
    };
    Parameters { agents, preparation }
}

fn workload(random: &mut impl RngCore, parameters: &Parameters) -> Workload {
    let mut builds: Vec<Build> = (0..pick(random, &[2, 3, 3, 4, 5])).map(|_| build(random, parameters)).collect();
    // One job outlasts the lease of a worker that is not heard.
    if random.next_u64().is_multiple_of(2) {
        let build = random.next_u64() as usize % builds.len();
        let jobs = &mut builds[build].jobs;
        let job = random.next_u64() as usize % jobs.len();
        jobs[job].takes_ms = LONG_MS;
    }
    Workload { builds }
}

/// Half of the fleets have a schedule by which their builds start together, and half of the builds are retried by a bot as
/// soon as it sees that they have failed.
fn follow_habits(random: &mut impl RngCore, workload: &mut Workload) {
    let wave_at_ms = random.next_u64() % WAVES_BEFORE_MS / 1_000 * 1_000;
    let scheduled = random.next_u64().is_multiple_of(2);
    for build in &mut workload.builds {
        if scheduled {
            build.shift_to(wave_at_ms + build.at_ms % WAVE_MS);
        }
        if random.next_u64().is_multiple_of(2) {
            build.bot = Some(Bot { looks_every_ms: pick(random, &[5_000, 10_000, 30_000]), retries: 2 });
        }
        build.retry_at_ms.retain(|at_ms| *at_ms < LOOKED_BEFORE_MS);
    }
    workload.builds.sort_by_key(|build| build.at_ms);
    for (n, build) in workload.builds.iter_mut().enumerate() {
        build.name = format!("build-{}", n + 1);
    }
}

/// Builds of one schedule start within this time.
const WAVE_MS: u64 = 3 * 60 * 1_000;
/// The schedule is before this: those that wait for one agent need their time.
const WAVES_BEFORE_MS: u64 = 10 * 60 * 1_000;

fn build(random: &mut impl RngCore, parameters: &Parameters) -> Build {
    let at_ms = random.next_u64() % STARTED_BEFORE_MS / 1_000 * 1_000;
    let root = match random.next_u64() % 3 {
        0 => Place::Environment,
        _ => Place::Agent(pick(random, &parameters.agents).name),
    };
    // Siblings of its own stage, and jobs of later stages.
    let shapes: [&[u32]; 5] = [&[0], &[0, 1], &[0, 1], &[0, 0, 1], &[0, 1, 2]];
    let stages = pick(random, &shapes);
    let jobs: Vec<Job> = (0..)
        .zip(stages)
        .map(|(n, stage)| {
            let place = if n == 0 { root.clone() } else { Place::SameAs(1) };
            let takes_ms =
                pick(random, &[15_000, 40_000, 40_000, 90_000, 150_000, 240_000]) + random.next_u64() % 20 * 1_000;
            let fails = if n == 0 { random.next_u64().is_multiple_of(6) } else { random.next_u64().is_multiple_of(3) };
            let first = if fails { Outcome::Failed } else { Outcome::Succeeded };
            Job { spec: JobSpec { stage: *stage, place }, takes_ms, outcomes: vec![first, Outcome::Succeeded] }
        })
        .collect();
    let takes_ms: u64 = jobs.iter().map(|job| job.takes_ms).sum();
    // A user looks from time to time, and impatiently.
    let mut looks_at_ms = at_ms + takes_ms / 2;
    let retry_at_ms = (0..random.next_u64() % 5)
        .map(|_| {
            looks_at_ms += 5_000 + random.next_u64() % (takes_ms + 120_000) / 1_000 * 1_000;
            looks_at_ms
        })
        .collect();
    let cancelled = random.next_u64().is_multiple_of(4);
    let cancel_at_ms = cancelled.then(|| at_ms + 5_000 + random.next_u64() % (takes_ms + 60_000) / 1_000 * 1_000);
    Build { name: String::new(), at_ms, jobs, retry_at_ms, bot: None, cancel_at_ms }
}

fn swarm(parameters: &Parameters) -> Swarm {
    let nodes: Vec<String> = parameters.agents.iter().map(|agent| agent.name.clone()).collect();
    let daemons = nodes.iter().map(|node| (node.clone(), DAEMON.to_owned()));
    let system = AMOUNTS.map(|(name, amounts)| SystemFamily { name: name.to_owned(), nodes: vec![], amounts });
    Swarm {
        services: daemons.chain([(SERVER.to_owned(), furnish::ENGINE.to_owned())]).collect(),
        peers: vec![SERVER.to_owned()],
        routes: ROUTES.map(|route| (SERVER.to_owned(), route.to_owned())).to_vec(),
        system: system.to_vec(),
        nodes,
        families: families_but(&UNFIT),
        begin_ms: 30_000..HEAL_MS - 60_000,
        heal_at_ms: HEAL_MS,
        faults_max: 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_fleets_start_together_and_nobody_looks_before_a_build_or_too_late() {
        let (mut together, mut by_a_bot) = (0, 0);
        for seed in 0..200 {
            let builds = draw(seed).workload.builds;
            let started: Vec<u64> = builds.iter().map(|build| build.at_ms).collect();
            assert!(started.is_sorted());
            together += u32::from(started[started.len() - 1] - started[0] <= WAVE_MS);
            by_a_bot += builds.iter().filter(|build| build.bot.is_some()).count();
            for build in &builds {
                let looks = build.retry_at_ms.iter().chain(&build.cancel_at_ms);
                assert!(looks.clone().all(|at_ms| *at_ms > build.at_ms));
                assert!(build.retry_at_ms.iter().all(|at_ms| *at_ms < LOOKED_BEFORE_MS));
            }
        }
        assert!((80..150).contains(&together), "{together}");
        assert!(by_a_bot > 100, "{by_a_bot}");
    }
}
