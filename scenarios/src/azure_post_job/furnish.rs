//! The world of a case: the service with its fronts, the agents' machines, the monitor and the workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_protocol::Workers;
use squall_protocol::azure::agent::{self, HttpHandler};
use squall_protocol::azure::server::Server;
use squall_protocol::azure::{AgentService, Choices};
use squall_protocol::distributed_task::agent::{AGENT_FILE, Configuration, Machine};
use squall_protocol::distributed_task::server::{Flow, JobSpec, Lifetime, Registration};
use squall_protocol::facts::Job as JobName;
use squall_sim::{Process, SimTime, World};

use crate::distributed_task::{faults, fronts, keys, power};

use super::watch::Watch;
use super::work::Execution;
use super::{Agent, FRONTS, Job, Parameters, Workload};

/// The agent's service on its machine.
pub(super) const SERVICE: &str = "agent";
/// The machine of the monitor.
const MONITOR: &str = "monitor";

pub(super) fn furnish(world: &World, choices: Choices, parameters: Parameters, workload: Workload) {
    let server = start_service(world, &choices, &parameters);
    let watch = Watch::on(&world.node(MONITOR));
    let jobs: Arc<BTreeMap<JobName, Job>> =
        Arc::new(workload.jobs.iter().map(|job| (job.name.as_str().into(), job.clone())).collect());
    let mut agents = BTreeMap::new();
    for agent in &parameters.agents {
        let handler = agent.handler;
        let starter = Starter { choices: choices.clone(), handler, jobs: jobs.clone(), watch: watch.clone() };
        agents.insert(agent.name.clone(), start_agent(world, &server, agent, &parameters, starter));
    }
    faults::carry_out(world, server.tasks(), agents.clone());
    world.spawn("monitor", async move { match watch.go_on().await {} });
    world.spawn("workload", ask(world.clone(), server, workload, agents));
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

/// What every process of an agent is made of.
#[derive(Clone)]
struct Starter {
    choices: Choices,
    handler: HttpHandler,
    jobs: Arc<BTreeMap<JobName, Job>>,
    watch: Watch,
}

/// Registers an agent and starts its service. Returns its number.
fn start_agent(world: &World, server: &Server, agent: &Agent, parameters: &Parameters, starter: Starter) -> i64 {
    let key = keys::fitting(agent.encryption);
    let registered = server.tasks().register(Registration {
        name: agent.name.clone(),
        pool: 1,
        flow: Flow::V1,
        encryption: agent.encryption,
        lifetime: Lifetime::Persistent,
        public_key: key.public(),
    });
    let node = world.node(&agent.name);
    let mut configuration = Configuration::of(&registered, &agent.name, key);
    configuration.settings.location_url = Some(parameters.service.location.clone());
    configuration.store(&*node.disk(), AGENT_FILE).expect("a new disk has room");
    power::switch_on(world, &node, agent.starts_at_ms);
    node.service(
        SERVICE,
        &agent.name,
        || AgentService,
        move |process| {
            let workers = workers(&process, &starter);
            agent::run(machine(&process, workers, starter.handler), starter.choices.clone(), process.shutdown())
        },
    );
    registered.agent_id
}

fn workers(process: &Process, starter: &Starter) -> Arc<dyn Workers> {
    let starter = starter.clone();
    process.workers(move |process, parent| {
        let Starter { choices, handler, jobs, watch } = starter.clone();
        let stages = Arc::new(Execution { process: process.clone(), jobs, watch });
        let none = process.workers(|_, _| std::future::ready(0));
        agent::worker(machine(&process, none, handler), choices, parent, stages)
    })
}

fn machine(process: &Process, workers: Arc<dyn Workers>, handler: HttpHandler) -> Machine {
    let http = handler.over(process.http());
    Machine { clock: process.clock(), http, random: process.random(), workers, disk: process.disk() }
}

async fn ask(world: World, server: Server, workload: Workload, agents: BTreeMap<String, i64>) {
    let mut asked: Vec<(u64, Asked)> = Vec::new();
    for job in &workload.jobs {
        asked.push((job.at_ms, Asked::Queue(job.name.clone())));
        asked.extend(job.cancel_at_ms.map(|at| (at, Asked::Cancel(job.name.clone()))));
    }
    asked
        .extend(workload.updates.into_iter().map(|update| (update.at_ms, Asked::Update(update.agent, update.version))));
    asked.extend(workload.dismissal.map(|dismissal| (dismissal.at_ms, Asked::Dismiss(dismissal.agent))));
    asked.sort_by_key(|(at, _)| *at);
    for (at_ms, what) in asked {
        world.sleep_until(SimTime::from_millis(at_ms)).await;
        match what {
            Asked::Queue(name) => drop(server.tasks().queue_job(JobSpec::named(name))),
            // A job is cancelled after it was queued, so it is known; an agent is registered from the start.
            Asked::Cancel(name) => drop(server.tasks().cancel_job(&name)),
            Asked::Update(agent, version) => {
                if let Some(agent) = agents.get(&agent) {
                    let _ = server.tasks().update_agent(*agent, &version);
                }
            }
            Asked::Dismiss(agent) => {
                if let Some(agent) = agents.get(&agent) {
                    let _ = server.tasks().dismiss(*agent);
                }
            }
        }
    }
}

/// What the workload asks of the service.
enum Asked {
    Queue(String),
    Cancel(String),
    Update(String, String),
    Dismiss(String),
}
