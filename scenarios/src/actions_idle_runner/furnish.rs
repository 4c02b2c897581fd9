//! The world of a case: the service with its fronts, the runners' machines, and the workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_protocol::Workers;
use squall_protocol::actions::agent::{self, Configuration, Machine, SETTINGS_FILE};
use squall_protocol::actions::server::{JobSpec, Registration, Server};
use squall_protocol::actions::supervisor::Supervision;
use squall_protocol::actions::{Choices, RunnerService};
use squall_protocol::facts::Job as JobName;
use squall_sim::{Node, Process, SimTime, World};

use crate::distributed_task::{faults, keys};

use super::fronts::Fronts;
use super::work::Execution;
use super::{Job, Parameters, Runner, Workload};

/// The runner's service on its machine.
pub(super) const SERVICE: &str = "runner";
/// A fault of this system: a front of the service is started anew, as for a new version. All its connections are reset
/// at once, and it refuses new ones while the fault lasts.
pub(super) const FRONT_RESTARTS: &str = "front-restarts";

pub(super) fn furnish(world: &World, choices: Choices, parameters: Parameters, workload: Workload) {
    let (server, fronts) = Fronts::start(world, &choices, &parameters);
    let jobs: Arc<BTreeMap<JobName, Job>> =
        Arc::new(workload.jobs.iter().map(|job| (job.name.as_str().into(), job.clone())).collect());
    let mut agents = BTreeMap::new();
    for runner in &parameters.runners {
        agents.insert(runner.name.clone(), start_runner(world, &server, runner, &choices, &jobs));
    }
    faults::carry_out(world, &server, agents);
    let world_of = world.clone();
    world.on_system_fault(FRONT_RESTARTS, move |fault| {
        if fronts.restart(&fault) {
            world_of.effects().count(fault.id);
        }
    });
    world.spawn("workload", queue(world.clone(), server, workload));
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
        public_key: key.public(),
    });
    let agent_id = registered.agent_id;
    let node = world.node(&runner.name);
    Configuration::of(&registered, &runner.name, key).store(&*node.disk(), SETTINGS_FILE).expect("a new disk has room");
    switch_on(world, &node, runner.starts_at_ms);
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

/// Lets a machine boot then.
fn switch_on(world: &World, node: &Node, at_ms: u64) {
    if at_ms > 0 {
        node.crash();
        let (booting, waiting) = (node.clone(), world.clone());
        world.spawn("power", async move {
            waiting.sleep_until(SimTime::from_millis(at_ms)).await;
            booting.boot();
        });
    }
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
