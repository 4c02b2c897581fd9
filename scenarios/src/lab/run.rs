//! One run: a fleet, a plan and a seed become a record.

use std::sync::Arc;
use std::time::Duration;

use squall_protocol::clock::Mono;
use squall_protocol::retry::Caller;
use squall_protocol::supervise::Exit;
use squall_protocol::{Clock, Restart, Supervise, random};
use squall_sim::fault::FaultPlan;
use squall_sim::trace::Keep;
use squall_sim::{Halt, Service, SimTime, World};

use super::agent::Agent;
use super::fleet::{FRONTS, Fleet, Transport};
use super::record::{Record, Recorder};
use super::server::{self, Front};
use super::transport;
use super::trial::{self, SERVICE, TROUBLE_AT_MS, Trial};

/// The port of every front.
const PORT: u16 = 80;
/// How long load is measured, and a fleet that is back is still watched.
pub const MINUTE: Duration = Duration::from_secs(60);
/// When fleets that are in step renew for the first time: all have a session by then, and it is before any trouble.
const IN_STEP_AT: Duration = Duration::from_secs(60);
/// How often it is looked whether the run is over.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The fleet that was observed.
    pub fleet: Fleet,
    /// What happened to it.
    pub record: Record,
    /// The digest of every event.
    pub digest: String,
    /// Why the world ended, when it was not meant to.
    pub broken: Option<Halt>,
}

/// Puts a fleet through a trial.
pub fn observe(fleet: &Fleet, trial: Trial, seed: u64) -> Observed {
    let plan = trial.plan();
    let end_ms = trial::end_ms(trial, &plan);
    observe_plan(fleet, &plan, end_ms, seed)
}

/// Puts a fleet through a trial whose agents call with a policy that is code: `start` makes the caller of each. What
/// `fleet.policy` says about leases holds all the same.
pub fn observe_with(fleet: &Fleet, trial: Trial, seed: u64, start: &StartCaller) -> Observed {
    let plan = trial.plan();
    let end_ms = trial::end_ms(trial, &plan);
    observed(fleet, &plan, end_ms, seed, start)
}

/// Makes an agent's caller.
pub type StartCaller = Arc<dyn Fn(&Fleet) -> Caller + Send + Sync>;

/// Puts a fleet through what a plan says, until `end_ms` at the latest.
pub fn observe_plan(fleet: &Fleet, plan: &FaultPlan, end_ms: u64, seed: u64) -> Observed {
    observed(fleet, plan, end_ms, seed, &as_the_fleet_says())
}

fn as_the_fleet_says() -> StartCaller {
    Arc::new(|fleet| Caller::new(&fleet.policy))
}

fn observed(fleet: &Fleet, plan: &FaultPlan, end_ms: u64, seed: u64, start: &StartCaller) -> Observed {
    let mut recorder = None;
    let ended = squall_sim::run(seed, Keep::Digest, SimTime::from_millis(end_ms), |world| {
        recorder = Some(furnished(world, fleet, plan, end_ms, start));
        world.inject(plan).expect("plans of the laboratory fit its worlds");
    });
    let record = recorder.expect("the world was furnished").finish(ended.at);
    let broken = (ended.halt != Halt::End).then_some(ended.halt);
    Observed { fleet: fleet.clone(), record, digest: ended.digest, broken }
}

/// Furnishes a world with a fleet and its server.
pub fn furnish(world: &World, fleet: &Fleet, plan: &FaultPlan, end_ms: u64) -> Recorder {
    furnished(world, fleet, plan, end_ms, &as_the_fleet_says())
}

fn furnished(world: &World, fleet: &Fleet, plan: &FaultPlan, end_ms: u64, start: &StartCaller) -> Recorder {
    let from = SimTime::from_millis(trial::measured_from_ms(plan, end_ms));
    let recorder = Recorder::new(world, fleet.agents, SimTime::from_millis(TROUBLE_AT_MS), from);
    let nodes: Vec<_> = (0..FRONTS).map(|front| world.node(&trial::front(front))).collect();
    let clocks = nodes.iter().map(|node| node.clock()).collect();
    let fronts = server::fronts(world, fleet, &recorder, clocks);
    let services: Vec<Service> = nodes.iter().zip(&fronts).map(|(node, front)| serve(node, front, fleet)).collect();
    let fleet = Arc::new(fleet.clone());
    for number in 0..fleet.agents {
        let front = (number % FRONTS) as usize;
        start_agent(world, number, &fleet, &recorder, (&services[front], &fronts[front]), start);
    }
    // Trouble that lasts as long as the run is watched to its end.
    let enough_at = if from.as_millis() >= plan.heal_at_ms { from + MINUTE } else { SimTime::MAX };
    world.spawn("watch", watch(world.clone(), recorder.clone(), fleet.requests_max, enough_at));
    recorder
}

fn serve(node: &squall_sim::Node, front: &Front, fleet: &Fleet) -> Service {
    let (front, transport) = (front.clone(), fleet.transport);
    let name = node.name().to_owned();
    node.service(
        SERVICE,
        name.as_str(),
        || AtOnce,
        move |process| {
            front.restarts();
            let router = front.router();
            async move {
                match transport {
                    Transport::Http => squall_sim::http::serve(process, PORT, router).await.map_or(1, |()| 0),
                    Transport::Exchange => std::future::pending().await,
                }
            }
        },
    )
}

/// A supervisor that starts its service again at once.
struct AtOnce;

impl Supervise for AtOnce {
    fn ended(&mut self, _: Exit, _: Duration) -> Restart {
        Restart::After(Duration::from_secs(1))
    }
}

fn start_agent(
    world: &World,
    number: u32,
    fleet: &Arc<Fleet>,
    recorder: &Recorder,
    (server, front): (&Service, &Front),
    start: &StartCaller,
) {
    let name = format!("agent-{number}");
    let node = world.node(&name);
    let (fleet, recorder, world) = (fleet.clone(), recorder.clone(), world.clone());
    let (server, front, start) = (server.clone(), front.clone(), start.clone());
    node.start("agent", move |process| {
        let clock: Arc<dyn Clock> = process.clock();
        let http = match fleet.transport {
            Transport::Http => process.http(),
            Transport::Exchange => {
                let (gateway, draws) = (server.node().gateway(), process.node().random("link"));
                transport::http(&name, &server, &gateway, front.router(), clock.clone(), draws)
            }
        };
        let mut random = process.node().random("agent");
        let starts_after = random::uniform(&mut *random, Duration::ZERO..fleet.start_within());
        let url = format!("http://{}:{PORT}", server.node().name());
        let caller = start(&fleet);
        let first_renewal = fleet.in_step.then(|| {
            let mut draws = process.node().random("step");
            Mono::from_start(IN_STEP_AT + random::uniform(&mut *draws, Duration::ZERO..fleet.renewed_within()))
        });
        let agent =
            Agent { number, url, clock: clock.clone(), http, random, fleet, recorder, world, caller, first_renewal };
        async move {
            clock.sleep(starts_after).await;
            agent.run().await;
        }
    });
}

/// Ends the world when the fleet is back and was watched for a minute, or when it sends without measure.
async fn watch(world: World, recorder: Recorder, requests_max: u64, enough_at: SimTime) {
    loop {
        world.sleep(LOOKS_EVERY).await;
        let (requests, all_back) = recorder.progress();
        if requests > requests_max {
            recorder.cut_short();
            return world.stop();
        }
        if all_back && world.now() > enough_at {
            return world.stop();
        }
    }
}
