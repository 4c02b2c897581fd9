//! The world of a case: the service with its fronts, the runners' machines, and the workload.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use squall_protocol::Workers;
use squall_protocol::actions::agent::{self, Configuration, Machine, SETTINGS_FILE};
use squall_protocol::actions::server::{Encryption, JobSpec, Registration, Server};
use squall_protocol::actions::supervisor::Supervision;
use squall_protocol::actions::{Choices, RunnerService};
use squall_protocol::facts::Job as JobName;
use squall_protocol::jwt::PrivateKey;
use squall_sim::fault::Phase;
use squall_sim::{Process, SimTime, World};

use super::work::Execution;
use super::{FRONTS, Job, Parameters, Runner, Workload};

/// The runner's service on its machine.
pub(super) const SERVICE: &str = "runner";
/// A fault of this system: the token service does not find a runner's registration while it lasts.
pub(super) const REGISTRATION_REFUSED: &str = "registration-refused";
/// A fault of this system: every token of a runner becomes invalid.
pub(super) const TOKENS_REVOKED: &str = "tokens-revoked";

/// The port of every front.
const PORT: u16 = 80;
/// As small as PS256 allows: a real runner's key has 2,048 bits.
const SIGNING_KEY_BITS: usize = 576;
/// As small as an AES key of 256 bits under RSA-OAEP with SHA-256 allows.
const DECRYPTING_KEY_BITS: usize = 832;

/// Simulated runners share a key; the service tells them apart by their client's id.
static SIGNING_KEY: LazyLock<PrivateKey> = LazyLock::new(|| key(SIGNING_KEY_BITS));
/// The same for runners whose session keys travel under RSA.
static DECRYPTING_KEY: LazyLock<PrivateKey> = LazyLock::new(|| key(DECRYPTING_KEY_BITS));

fn key(bits: usize) -> PrivateKey {
    let mut random: squall_protocol::Random = Box::new(ChaCha8Rng::seed_from_u64(bits as u64));
    PrivateKey::generate(bits, &mut random).expect("a size that RSA allows")
}

pub(super) fn furnish(world: &World, choices: Choices, parameters: Parameters, workload: Workload) {
    let server = start_service(world, &choices, &parameters);
    let jobs: Arc<BTreeMap<JobName, Job>> =
        Arc::new(workload.jobs.iter().map(|job| (job.name.as_str().into(), job.clone())).collect());
    let mut agents = BTreeMap::new();
    for runner in &parameters.runners {
        agents.insert(runner.name.clone(), start_runner(world, &server, runner, &choices, &jobs));
    }
    carry_out_system_faults(world, &server, agents);
    world.spawn("workload", queue(world.clone(), server, workload));
}

/// One store, and a machine for each front of it.
fn start_service(world: &World, choices: &Choices, parameters: &Parameters) -> Server {
    let fronts = FRONTS.map(|name| world.node(name));
    let store = &fronts[0];
    let server = Server::new(
        parameters.service.clone(),
        choices.policy(),
        store.clock(),
        store.ledger(),
        store.random("service"),
    );
    for front in &fronts {
        let router = server.router();
        front.start("http", |process| async move {
            squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
        });
    }
    let housekeeping = server.clone();
    world.spawn("housekeeping", async move { match housekeeping.housekeeping().await {} });
    server
}

/// Registers a runner and starts its service. Returns its number.
fn start_runner(
    world: &World,
    server: &Server,
    runner: &Runner,
    choices: &Choices,
    jobs: &Arc<BTreeMap<JobName, Job>>,
) -> i64 {
    let key = match runner.encryption {
        Encryption::KeyUnderRsa => DECRYPTING_KEY.clone(),
        Encryption::Plain | Encryption::KeyInClear => SIGNING_KEY.clone(),
    };
    let registered = server.register(Registration {
        name: runner.name.clone(),
        pool: 1,
        flow: runner.flow,
        encryption: runner.encryption,
        public_key: key.public(),
    });
    let agent_id = registered.agent_id;
    let node = world.node(&runner.name);
    Configuration::of(&registered, &runner.name, key).store(&*node.disk(), SETTINGS_FILE).expect("a new disk has room");
    let (choices, jobs) = (choices.clone(), jobs.clone());
    node.service(
        SERVICE,
        &runner.name,
        || RunnerService::new(Supervision::StopsOnTerminalCodes),
        move |process| {
            let workers = workers(&process, &choices, &jobs);
            agent::run(machine(&process, workers), choices.clone(), process.shutdown())
        },
    );
    agent_id
}

fn workers(process: &Process, choices: &Choices, jobs: &Arc<BTreeMap<JobName, Job>>) -> Arc<dyn Workers> {
    let (choices, jobs) = (choices.clone(), jobs.clone());
    process.workers(move |process, parent| {
        let work = Arc::new(Execution::new(&process, jobs.clone()));
        let none = process.workers(|_, _| std::future::ready(0));
        agent::worker(machine(&process, none), choices.clone(), parent, work)
    })
}

fn machine(process: &Process, workers: Arc<dyn Workers>) -> Machine {
    Machine { clock: process.clock(), http: process.http(), random: process.random(), workers, disk: process.disk() }
}

fn carry_out_system_faults(world: &World, server: &Server, agents: BTreeMap<String, i64>) {
    let agents = Arc::new(agents);
    for name in [REGISTRATION_REFUSED, TOKENS_REVOKED] {
        let (world_of, server, agents) = (world.clone(), server.clone(), agents.clone());
        world.on_system_fault(name, move |fault| {
            let agent = fault.target.node.as_ref().and_then(|node| agents.get(node));
            let (Some(agent), Phase::Begins) = (agent, fault.phase) else { return };
            let done = match name {
                REGISTRATION_REFUSED => server.refuse_registration(*agent, fault.lasts),
                _ => server.revoke_tokens(*agent),
            };
            if done.is_ok() {
                world_of.effects().count(fault.id);
            }
        });
    }
}

async fn queue(world: World, server: Server, workload: Workload) {
    let mut asked: Vec<(u64, Asked)> = Vec::new();
    for job in &workload.jobs {
        asked.push((job.at_ms, Asked::Queue(job.name.clone())));
        asked.extend(job.cancel_at_ms.map(|at| (at, Asked::Cancel(job.name.clone()))));
    }
    asked.sort_by_key(|(at, _)| *at);
    for (at_ms, what) in asked {
        world.sleep_until(SimTime::from_millis(at_ms)).await;
        match what {
            Asked::Queue(name) => drop(server.queue_job(JobSpec::named(name))),
            // A job is cancelled after it was queued, so it is known.
            Asked::Cancel(name) => drop(server.cancel_job(&name)),
        }
    }
}

/// What the workload asks of the service.
enum Asked {
    Queue(String),
    Cancel(String),
}
