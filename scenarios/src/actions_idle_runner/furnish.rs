//! The world of a case: the service with its fronts, the runners' machines, and the workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_protocol::Workers;
use squall_protocol::actions::agent::{self, Configuration, Machine, SETTINGS_FILE};
use squall_protocol::actions::server::{Flow, JobSpec, Registration, Server};
use squall_protocol::actions::supervisor::Supervision;
use squall_protocol::actions::{Choices, RunnerService};
use squall_protocol::facts::Job as JobName;
use squall_sim::{Process, SimTime, World};

use crate::distributed_task::{faults, fronts, keys, power};

use super::work::Execution;
use super::{FRONTS, Job, Migration, Parameters, Runner, Workload};

/// The runner's service on its machine.
pub(super) const SERVICE: &str = "runner";

pub(super) fn furnish(world: &World, choices: Choices, parameters: Parameters, workload: Workload) {
    let server = start_service(world, &choices, &parameters);
    let jobs: Arc<BTreeMap<JobName, Job>> =
        Arc::new(workload.jobs.iter().map(|job| (job.name.as_str().into(), job.clone())).collect());
    let mut agents = BTreeMap::new();
    for runner in &parameters.runners {
        agents.insert(runner.name.clone(), start_runner(world, &server, runner, &choices, &jobs));
    }
    faults::carry_out(world, &server, agents);
    world.spawn("workload", ask(world.clone(), server, workload, parameters.migration));
}

/// One store, and a machine for each front of it.
fn start_service(world: &World, choices: &Choices, parameters: &Parameters) -> Server {
    let nodes = FRONTS.map(|name| world.node(name));
    let store = &nodes[0];
    let server = Server::new(
        parameters.service.clone(),
        choices.policy(),
        store.clock(),
        store.ledger(),
        store.random("service"),
    );
    let served = server.clone();
    fronts::serve(world, &nodes, move || served.router());
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
    let key = keys::fitting(runner.encryption);
    let registered = server.register(Registration {
        name: runner.name.clone(),
        pool: 1,
        flow: runner.flow,
        encryption: runner.encryption,
        lifetime: runner.lifetime,
        public_key: key.public(),
    });
    let agent_id = registered.agent_id;
    let node = world.node(&runner.name);
    Configuration::of(&registered, &runner.name, key).store(&*node.disk(), SETTINGS_FILE).expect("a new disk has room");
    power::switch_on(world, &node, runner.starts_at_ms);
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

async fn ask(world: World, server: Server, workload: Workload, migration: Option<Migration>) {
    let mut asked: Vec<(u64, Asked)> = Vec::new();
    for job in &workload.jobs {
        asked.push((job.at_ms, Asked::Queue(job.name.clone())));
        asked.extend(job.cancel_at_ms.map(|at| (at, Asked::Cancel(job.name.clone()))));
    }
    if let Some(Migration { from_ms, until_ms }) = migration {
        asked.extend([(from_ms, Asked::ServePoolBy(Flow::V2)), (until_ms, Asked::ServePoolBy(Flow::V1))]);
    }
    asked.sort_by_key(|(at, _)| *at);
    for (at_ms, what) in asked {
        world.sleep_until(SimTime::from_millis(at_ms)).await;
        match what {
            Asked::Queue(name) => drop(server.queue_job(JobSpec::named(name))),
            // A job is cancelled after it was queued, so it is known.
            Asked::Cancel(name) => drop(server.cancel_job(&name)),
            Asked::ServePoolBy(flow) => server.serve_pool_by(flow),
        }
    }
}

/// What the workload asks of the service.
enum Asked {
    Queue(String),
    Cancel(String),
    ServePoolBy(Flow),
}
