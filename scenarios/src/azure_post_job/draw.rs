//! The case that a seed stands for.

use std::time::Duration;

use rand::RngCore;
use squall_protocol::azure::agent::HttpHandler;
use squall_protocol::azure::server::{self, LATEST_VERSION, ProgressiveBackoff};
use squall_protocol::distributed_task::server::{
    self as shared, Addresses, Encryption, LapsedOffer, OnLeaseExpiry, RefusalCode, Removal, ResultRule, SecondDelete,
};
use squall_protocol::queue::{Cursor, Redelivery};
use squall_protocol::random::pick;
use squall_protocol::session::ConflictExtends;
use squall_sim::fault::families::families_but;
use squall_sim::fault::{FaultPlan, Swarm};
use squall_sim::random::Streams;
use squall_sim::scenario::Drawn;

use crate::distributed_task::course::{Course, between};
use crate::distributed_task::faults;
use crate::execution::WhenAsked;

use super::{Agent, Dismissal, Ends, FRONTS, Job, POST_JOB, Parameters, Purpose, SAVE, StagePlan, Update, Workload};

/// Parts of the paths of each front that its gateway's faults may be confined to.
const ROUTES: [(&str, &str); 7] = [
    (FRONTS[0], "sessions"),
    (FRONTS[0], "messages"),
    (FRONTS[0], "jobrequests"),
    (FRONTS[0], "events"),
    (FRONTS[0], "FeatureFlags"),
    (FRONTS[0], "CustomerIntelligence"),
    (FRONTS[2], "connectionData"),
];

pub(super) fn draw(seed: u64) -> Drawn<Parameters, Workload> {
    let streams = Streams::new(seed);
    let course = Course::draw(&mut streams.stream("course"));
    let mut parameters = parameters(&mut streams.stream("parameters"), &course);
    let (unknown, tasks) = (&mut streams.stream("offers and removals"), &mut parameters.service.tasks);
    tasks.lapsed_offer = pick(unknown, &[LapsedOffer::Withdrawn, LapsedOffer::SameNumber]);
    tasks.removal = pick(unknown, &[Removal::WaitsForJob, Removal::AtOnce]);
    let workload = workload(&mut streams.stream("workload"), &course, &parameters.agents);
    let workload = with_dismissal(&mut streams.stream("dismissal"), workload, &parameters.agents);
    let plan = FaultPlan::generate_near(&swarm(&parameters, &course), &workload.moments_ms(), seed);
    Drawn { end: Duration::from_millis(course.end_ms()), parameters, workload, plan }
}

/// The service with its likely values, on the fronts of this world.
fn service() -> server::Parameters {
    let addresses = Addresses {
        tenant: format!("http://{}/tenant/", FRONTS[0]),
        authorization: format!("http://{}/oauth2/token", FRONTS[1]),
        ..Addresses::on(&format!("http://{}", FRONTS[0]))
    };
    server::Parameters::new(addresses, format!("http://{}/A1/", FRONTS[2]))
}

fn parameters(random: &mut impl RngCore, course: &Course) -> Parameters {
    let agents = (1..=between(random, course.agents))
        .map(|n| Agent {
            name: format!("agent-{n}"),
            encryption: pick(random, &[Encryption::Plain, Encryption::Plain, Encryption::KeyUnderRsa]),
            starts_at_ms: random.next_u64() % 60 * 1_000,
            handler: HttpHandler::default(),
        })
        .collect();
    let seconds = Duration::from_secs;
    let likely = service();
    let tasks = shared::Parameters {
        session_life: pick(random, &[seconds(120), seconds(300), seconds(300), seconds(900)]),
        conflict_extends: pick(
            random,
            &[ConflictExtends::Nothing, ConflictExtends::Nothing, ConflictExtends::LiveSession],
        ),
        pool_redelivery: pick(random, &[Redelivery::AtOnce, Redelivery::AtOnce, Redelivery::After(seconds(60))]),
        assignment_life: pick(random, &[seconds(60), seconds(120)]),
        lease_life: pick(random, &[seconds(300), seconds(600)]),
        on_lease_expiry: pick(random, &[OnLeaseExpiry::FailJob, OnLeaseExpiry::Requeue]),
        result_rule: pick(random, &[ResultRule::FirstWrite, ResultRule::LastWrite]),
        second_delete: pick(random, &[SecondDelete::Succeeds, SecondDelete::NotFound]),
        token_life: pick(random, &[seconds(900), seconds(3_000)]),
        refusal: pick(random, &[RefusalCode::InvalidClient, RefusalCode::UnauthorizedClient, RefusalCode::ServerError]),
        ..likely.tasks
    };
    let progressive_backoff = pick(random, &[ProgressiveBackoff::On, ProgressiveBackoff::Off]);
    // Whoever minds no cursor has to hide for a while what he has handed out.
    let cursor = match tasks.pool_redelivery {
        Redelivery::AtOnce => Cursor::SkipsSeen,
        Redelivery::After(_) => pick(random, &[Cursor::SkipsSeen, Cursor::Ignored]),
    };
    let cancel_timeout = pick(random, &[seconds(60), seconds(300), seconds(300)]);
    let tasks = shared::Parameters { cursor, cancel_timeout, ..tasks };
    Parameters { agents, service: server::Parameters { tasks, progressive_backoff, ..likely } }
}

fn workload(random: &mut impl RngCore, course: &Course, agents: &[Agent]) -> Workload {
    let queued = course.queued_at_ms(random);
    let jobs: Vec<Job> = (1..).zip(queued).map(|(n, at_ms)| job(random, format!("job-{n}"), at_ms)).collect();
    let updates = match jobs.is_empty() {
        true => Vec::new(),
        false => (0..random.next_u64() % 4).map(|_| update(random, &jobs, agents)).collect(),
    };
    Workload { jobs, updates, dismissal: None }
}

/// The owner of every third pool takes one of its agents out of it, while something is going on.
fn with_dismissal(random: &mut impl RngCore, workload: Workload, agents: &[Agent]) -> Workload {
    if workload.jobs.is_empty() || agents.len() < 2 || !random.next_u64().is_multiple_of(3) {
        return workload;
    }
    let job = &workload.jobs[(random.next_u64() % workload.jobs.len() as u64) as usize];
    let at_ms = job.at_ms + random.next_u64() % job.takes().as_millis().max(1) as u64 / 1_000 * 1_000;
    let agent = agents[(random.next_u64() % agents.len() as u64) as usize].name.clone();
    Workload { dismissal: Some(Dismissal { at_ms, agent }), ..workload }
}

fn job(random: &mut impl RngCore, name: String, at_ms: u64) -> Job {
    let stages = stages(random);
    let takes_ms = stages.iter().map(|stage| stage.takes_ms).sum::<u64>();
    let cancelled = random.next_u64().is_multiple_of(5);
    Job {
        name,
        at_ms,
        cancel_at_ms: cancelled.then(|| at_ms + 5_000 + random.next_u64() % takes_ms / 1_000 * 1_000),
        stages,
        when_asked: pick(random, &[WhenAsked::Ends, WhenAsked::Ends, WhenAsked::GoesOn]),
    }
}

/// A checkout, one long task and a few short ones, and what cleans up after them in reverse order.
fn stages(random: &mut impl RngCore) -> Vec<StagePlan> {
    let checkout = 5_000 + random.next_u64() % 56 * 1_000;
    let mut stages = vec![stage(random, "Checkout".to_owned(), Purpose::Work, checkout)];
    let tasks = 1 + random.next_u64() % 5;
    for n in 1..=tasks {
        let scale: &[u64] = if n == 1 { &[30_000, 180_000, 420_000, 900_000] } else { &[1_000, 5_000, 20_000] };
        let takes_ms = pick(random, scale) + random.next_u64() % 10 * 1_000;
        stages.push(stage(random, format!("Task {n}"), Purpose::Work, takes_ms));
    }
    let fatal = (random.next_u64() % (1 + tasks)) as usize;
    stages[fatal].ends = match random.next_u64() % 12 {
        0 => Ends::WithItsWorker,
        1..=3 => Ends::Badly,
        _ => Ends::Well,
    };
    for n in (2..=tasks).rev().filter(|_| random.next_u64().is_multiple_of(2)).collect::<Vec<_>>() {
        stages.push(clean_up(random, format!("Post-job: Task {n}")));
    }
    if random.next_u64().is_multiple_of(2) {
        stages.push(saves(random));
    }
    stages.push(clean_up(random, POST_JOB.to_owned()));
    stages
}

fn stage(random: &mut impl RngCore, name: String, purpose: Purpose, takes_ms: u64) -> StagePlan {
    StagePlan { name, purpose, takes_ms, events: (random.next_u64() % 3) as u32, ends: Ends::Well }
}

fn clean_up(random: &mut impl RngCore, name: String) -> StagePlan {
    let takes_ms = 1_000 + random.next_u64() % 3 * 1_000;
    stage(random, name, Purpose::CleanUp, takes_ms)
}

/// Mostly there is little to save; sometimes it takes so long that somebody has to hear of it.
fn saves(random: &mut impl RngCore) -> StagePlan {
    let takes_ms = pick(random, &[1_000, 2_000, 5_000, 10_000, 30_000, 120_000]);
    stage(random, SAVE.to_owned(), Purpose::CleanUp, takes_ms)
}

/// Updates come when they may meet a job: shortly before one is queued.
fn update(random: &mut impl RngCore, jobs: &[Job], agents: &[Agent]) -> Update {
    let near = jobs[(random.next_u64() % jobs.len() as u64) as usize].at_ms;
    Update {
        at_ms: near.saturating_sub(pick(random, &[0, 100, 1_000, 10_000, 60_000])),
        agent: agents[(random.next_u64() % agents.len() as u64) as usize].name.clone(),
        version: pick(random, &[LATEST_VERSION, "3.999.0"]).to_owned(),
    }
}

fn swarm(parameters: &Parameters, course: &Course) -> Swarm {
    let nodes: Vec<String> = parameters.agents.iter().map(|agent| agent.name.clone()).collect();
    let services = nodes.iter().map(|node| (node.clone(), super::furnish::SERVICE.to_owned())).collect();
    Swarm {
        services,
        peers: FRONTS.map(str::to_owned).to_vec(),
        routes: ROUTES.map(|(front, route)| (front.to_owned(), route.to_owned())).to_vec(),
        system: faults::swarm(&nodes, &FRONTS),
        nodes,
        // A machine that falls asleep measures its lease with a clock that stands still: no client alone can be safe.
        // Late requests have not been tried yet on the repaired designs.
        families: families_but(&["suspend", "late"]),
        begin_ms: 0..course.heal_ms() - 30_000,
        heal_at_ms: course.heal_ms(),
        faults_max: 24,
    }
}
