//! The world of a case: the server with its engine and its Redis, the agents' machines, and the workload.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use squall_protocol::Workers;
use squall_protocol::bkci::Choices;
use squall_protocol::bkci::agent::{self, Configuration, Machine};
use squall_protocol::bkci::server::{BuildSpec, Import, Keys, Nuisance, Parts, Place, Server};
use squall_protocol::bkci::wire::BuildInfo;
use squall_protocol::effect::OnEffect;
use squall_protocol::facts::Outcome;
use squall_protocol::workers::Parent;
use squall_sim::fault::{Phase, SystemFault};
use squall_sim::scenario::Misfit;
use squall_sim::{Process, SimTime, World};

use super::disk::ToldDisk;
use super::draw::LOOKED_BEFORE_MS;
use super::work::{self, Execution, Plan};
use super::{Agent, Bot, Parameters, REDIS, SERVER, Workload};

/// The service that keeps an agent running.
pub(super) const DAEMON: &str = "agent";
/// The server's process.
pub(super) const ENGINE: &str = "engine";
/// The faults of this system, and how much of each there may be: seconds, or for failures a hundredth.
pub(super) const AMOUNTS: [(&str, RangeInclusive<i64>); 8] = [
    (EVENTS_DELAYED, 5..=300),
    (EVENTS_DUPLICATED, 1..=300),
    (EVENTS_REORDERED, 2..=60),
    (DATABASE_SLOW, 1..=45),
    (DATABASE_FAILS, 10..=60),
    (CALLS_REPEATED, 10..=100),
    (REDIS_RESTART, 0..=1),
    (REDIS_FAIL_OVER, 1..=10),
];

/// What a reader is told about each of them.
pub(super) const SYSTEM_FAULTS: &[(&str, &str)] = &[
    (EVENTS_DELAYED, "Events of builds are delivered as many seconds late as the amount."),
    (EVENTS_DUPLICATED, "Events of builds are delivered, and once more as many seconds later as the amount."),
    (EVENTS_REORDERED, "Events of builds arrive in any order within as many seconds as the amount."),
    (DATABASE_SLOW, "Each access to the database takes as many seconds more as the amount."),
    (DATABASE_FAILS, "The database refuses as many transactions in a hundred as the amount."),
    (CALLS_REPEATED, "The proxy before the server sends as many calls in a hundred twice as the amount."),
    (REDIS_RESTART, "Redis restarts: with its keys if the amount is 1, without them if it is 0."),
    (REDIS_FAIL_OVER, "A replica of Redis takes over that lags as many seconds behind as the amount."),
];

/// Events of builds are delivered late.
const EVENTS_DELAYED: &str = "event-delayed";
/// Events of builds are delivered, and later once more.
const EVENTS_DUPLICATED: &str = "event-duplicated";
/// Events of builds overtake each other.
const EVENTS_REORDERED: &str = "event-reordered";
/// Each access to the database takes so many seconds more, which may be longer than a lock lives.
const DATABASE_SLOW: &str = "database-slow";
/// The database refuses transactions.
const DATABASE_FAILS: &str = "database-fails";
/// The proxy before the server sends calls twice.
const CALLS_REPEATED: &str = "call-repeated";
/// Redis restarts, with its keys (1) or without (0).
const REDIS_RESTART: &str = "redis-restart";
/// A replica of Redis takes over that lags so many seconds behind.
const REDIS_FAIL_OVER: &str = "redis-fail-over";

/// The port of the server.
const PORT: u16 = 80;
/// The project of everything.
const PROJECT: &str = "squall";

/// Does every job have a place?
///
/// # Errors
/// The first that has none.
pub(super) fn check(parameters: &Parameters, workload: &Workload) -> Result<(), Misfit> {
    let misfit = |why: String| Err(Misfit { part: "workload", why });
    for build in &workload.builds {
        let name = &build.name;
        for (seq, job) in (1..).zip(&build.jobs) {
            match &job.spec.place {
                Place::Agent(agent) if parameters.agents.iter().all(|known| known.name != *agent) => {
                    return misfit(format!("job {seq} of {name} runs on {agent}, which is no agent"));
                }
                Place::SameAs(earlier) if !(1..seq).contains(earlier) => {
                    return misfit(format!(
                        "job {seq} of {name} runs where job {earlier} does, which is no earlier one"
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) fn furnish(world: &World, choices: Choices, parameters: Parameters, workload: Workload) {
    let server = start_server(world, &choices);
    let plan = Arc::new(Plan::of(&workload));
    for agent in &parameters.agents {
        start_agent(world, &server, agent, &parameters, &choices, &plan);
    }
    carry_out_system_faults(world, &server);
    for build in &workload.builds {
        if let Some(bot) = build.bot.clone() {
            let name = build.name.clone();
            world.spawn(&format!("bot of {name}"), look_after(world.clone(), server.clone(), name, bot));
        }
    }
    world.spawn("workload", ask(world.clone(), server, workload));
}

fn start_server(world: &World, choices: &Choices) -> Server {
    let (node, redis) = (world.node(SERVER), world.node(REDIS));
    let server = Server::new(Parts {
        choices: choices.clone(),
        clock: node.clock(),
        ledger: node.ledger(),
        random: node.random("server"),
        mischance: node.random("mischance"),
        redis_clock: redis.clock(),
        redis_ledger: redis.ledger(),
        admin_token: None,
    });
    let router = server.router();
    node.start("http", |process| async move {
        squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
    });
    let engine = server.clone();
    node.service(ENGINE, SERVER, agent::daemon, move |process| {
        let (engine, shutdown) = (engine.clone(), process.shutdown());
        async move {
            future::select(pin!(engine.run()), pin!(shutdown.requested())).await;
            0
        }
    });
    server
}

fn start_agent(
    world: &World,
    server: &Server,
    agent: &Agent,
    parameters: &Parameters,
    choices: &Choices,
    plan: &Arc<Plan>,
) {
    let configuration = Configuration {
        gateway: format!("http://{SERVER}"),
        project_id: PROJECT.to_owned(),
        agent_id: agent.name.clone(),
        secret_key: format!("secret of {}", agent.name),
        parallel_task_count: agent.parallel_task_count,
        preparation: parameters.preparation.clone(),
    };
    server.import(Import {
        project_id: configuration.project_id.clone(),
        agent_id: configuration.agent_id.clone(),
        secret_key: configuration.secret_key.clone(),
        parallel_task_count: configuration.parallel_task_count,
    });
    let (choices, plan) = (choices.clone(), plan.clone());
    world.node(&agent.name).service(DAEMON, &agent.name, agent::daemon, move |process| {
        let workers = workers(&process, &choices, &configuration, &plan);
        agent::run(machine(&process, workers), choices.clone(), configuration.clone(), process.shutdown())
    });
}

fn workers(process: &Process, choices: &Choices, configuration: &Configuration, plan: &Arc<Plan>) -> Arc<dyn Workers> {
    let (choices, configuration, plan) = (choices.clone(), configuration.clone(), plan.clone());
    process
        .workers(move |process, parent| work_for(process, parent, choices.clone(), configuration.clone(), plan.clone()))
}

/// A worker's process. The journal hears of its beginning and of its end from here.
async fn work_for(
    process: Process,
    mut parent: Box<dyn Parent>,
    choices: Choices,
    configuration: Configuration,
    plan: Arc<Plan>,
) -> i32 {
    let told = parent.receive().await;
    let Some(build) = told.and_then(|bytes| serde_json::from_slice::<BuildInfo>(&bytes).ok()) else { return 1 };
    let _alive = work::Alive::began(&process, &build);
    let execution = Arc::new(Execution::new(&process, plan));
    let none = process.workers(|_, _| std::future::ready(0));
    agent::worker(machine(&process, none), choices, &configuration, build, execution).await
}

fn machine(process: &Process, workers: Arc<dyn Workers>) -> Machine {
    let disk = ToldDisk::new(process.disk(), process.ledger(), process.node().name().into());
    Machine { clock: process.clock(), http: process.http(), random: process.random(), workers, disk: Arc::new(disk) }
}

fn carry_out_system_faults(world: &World, server: &Server) {
    for (name, _) in AMOUNTS {
        let (world_of, server) = (world.clone(), server.clone());
        world.on_system_fault(name, move |fault| carry_out(&world_of, &server, name, fault));
    }
}

fn carry_out(world: &World, server: &Server, name: &str, fault: SystemFault<'_>) {
    let (number, amount) = (fault.id as u64, fault.amount.unsigned_abs());
    let (span, percent) = (Duration::from_secs(amount), u8::try_from(amount).unwrap_or(100));
    let nuisance = match name {
        EVENTS_DELAYED => Some(Nuisance::EventsDelayed(span)),
        EVENTS_DUPLICATED => Some(Nuisance::EventsDuplicated(span)),
        EVENTS_REORDERED => Some(Nuisance::EventsReordered(span)),
        DATABASE_SLOW => Some(Nuisance::DatabaseSlow(span)),
        DATABASE_FAILS => Some(Nuisance::DatabaseFails(percent)),
        CALLS_REPEATED => Some(Nuisance::CallsRepeated(percent)),
        _ => None,
    };
    let (effects, id) = (world.effects().clone(), fault.id);
    match (fault.phase, nuisance) {
        (Phase::Begins, Some(nuisance)) => server.disturb(number, nuisance, OnEffect::new(move || effects.count(id))),
        (Phase::Ends, Some(_)) => server.calm(number),
        (Phase::Begins, None) => {
            match name {
                REDIS_RESTART => server.redis_restarts(number, if amount == 0 { Keys::Lost } else { Keys::Kept }),
                _ => server.redis_fails_over(number, span),
            }
            effects.count(id);
        }
        (Phase::Ends, None) => server.redis_answers(number),
    }
}

/// Retries a build when it has failed, not when somebody has cancelled it.
async fn look_after(world: World, server: Server, build: String, bot: Bot) {
    let mut left = bot.retries;
    let looks = (1..).map(|n| bot.looks_every_ms.max(1) * n).take_while(|at_ms| *at_ms < LOOKED_BEFORE_MS);
    for at_ms in looks {
        if left == 0 {
            return;
        }
        world.sleep_until(SimTime::from_millis(at_ms)).await;
        let builds = server.snapshot();
        let failed = builds.iter().any(|other| other.name == build && other.outcome == Some(Outcome::Failed));
        if failed && server.retry_build(&build).is_ok() {
            left -= 1;
        }
    }
}

/// What the workload asks of the server.
enum Asked {
    Start(BuildSpec),
    Retry(String),
    Cancel(String),
}

async fn ask(world: World, server: Server, workload: Workload) {
    let mut asked: Vec<(u64, Asked)> = Vec::new();
    for build in workload.builds {
        let jobs = build.jobs.iter().map(|job| job.spec.clone()).collect();
        asked.push((build.at_ms, Asked::Start(BuildSpec { name: build.name.clone(), jobs })));
        asked.extend(build.retry_at_ms.iter().map(|at| (*at, Asked::Retry(build.name.clone()))));
        asked.extend(build.cancel_at_ms.map(|at| (at, Asked::Cancel(build.name.clone()))));
    }
    asked.sort_by_key(|(at, _)| *at);
    for (at_ms, what) in asked {
        world.sleep_until(SimTime::from_millis(at_ms)).await;
        // A user who comes too early or too late sees so, and does nothing.
        let _ = match what {
            Asked::Start(spec) => server.start_build(spec),
            Asked::Retry(build) => server.retry_build(&build),
            Asked::Cancel(build) => server.cancel_build(&build),
        };
    }
}
