//! The case that a seed stands for.

use std::time::Duration;

use rand::RngCore;
use squall_protocol::actions::server::{
    self, AcquireReplay, Addresses, Broker, BusyStatus, Encryption, Flow, IdlessDelete, Lifetime, OnLeaseExpiry,
    RefusalCode, ResultRule, SecondDelete,
};
use squall_protocol::facts::Outcome;
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

use super::{FRONTS, Job, Migration, Parameters, Runner, Workload};

/// Parts of the paths of each front that its gateway's faults may be confined to.
const ROUTES: [(&str, &str); 9] = [
    (FRONTS[0], "sessions"),
    (FRONTS[0], "messages"),
    (FRONTS[0], "jobrequests"),
    (FRONTS[2], "session"),
    (FRONTS[2], "message"),
    (FRONTS[2], "acknowledge"),
    (FRONTS[3], "acquirejob"),
    (FRONTS[3], "renewjob"),
    (FRONTS[3], "completejob"),
];

pub(super) fn draw(seed: u64) -> Drawn<Parameters, Workload> {
    let streams = Streams::new(seed);
    let course = Course::draw(&mut streams.stream("course"));
    let parameters = parameters(&mut streams.stream("parameters"), &course);
    let workload = workload(&mut streams.stream("workload"), &course);
    let parameters = with_migration(&mut streams.stream("migration"), parameters, &workload, course.heal_ms());
    let parameters = with_ephemeral_runners(&mut streams.stream("ephemeral"), parameters, &course);
    let moments_ms: Vec<u64> = workload.jobs.iter().flat_map(Job::moments_ms).collect();
    let plan = FaultPlan::generate_near(&swarm(&parameters, &course), &moments_ms, seed);
    Drawn { end: Duration::from_millis(course.end_ms()), parameters, workload, plan }
}

/// The service with its likely values, on the fronts of this world.
pub(super) fn service() -> server::Parameters {
    server::Parameters::new(Addresses {
        tenant: format!("http://{}/tenant/", FRONTS[0]),
        authorization: format!("http://{}/_apis/oauth2/token", FRONTS[1]),
        broker: format!("http://{}/", FRONTS[2]),
        run_service: format!("http://{}/", FRONTS[3]),
    })
}

fn parameters(random: &mut impl RngCore, course: &Course) -> Parameters {
    // A fleet is of one kind, so that its members can be in step.
    let flows: &[Flow] = match course.is_fleet() {
        true => &[pick(random, &[Flow::V1, Flow::V2])],
        false => &[Flow::V1, Flow::V2],
    };
    let runners = (1..=between(random, course.agents))
        .map(|n| Runner {
            name: format!("runner-{n}"),
            flow: pick(random, flows),
            encryption: pick(random, &[Encryption::Plain, Encryption::Plain, Encryption::KeyUnderRsa]),
            starts_at_ms: random.next_u64() % 60 * 1_000,
            lifetime: Lifetime::Persistent,
        })
        .collect();
    let seconds = Duration::from_secs;
    let service = server::Parameters {
        session_life: pick(random, &[seconds(120), seconds(300), seconds(300), seconds(900)]),
        conflict_extends: pick(
            random,
            &[ConflictExtends::Nothing, ConflictExtends::Nothing, ConflictExtends::LiveSession],
        ),
        redelivery: pick(random, &[seconds(60), seconds(61), seconds(120)]),
        assignment_life: pick(random, &[seconds(30), seconds(60), seconds(120)]),
        lease_life: pick(random, &[seconds(300), seconds(600)]),
        on_lease_expiry: pick(random, &[OnLeaseExpiry::FailJob, OnLeaseExpiry::Requeue]),
        result_rule: pick(random, &[ResultRule::FirstWrite, ResultRule::LastWrite]),
        acquire_replay: pick(random, &[AcquireReplay::Conflict, AcquireReplay::SameAnswer]),
        second_delete: pick(random, &[SecondDelete::Succeeds, SecondDelete::NotFound]),
        idless_delete: pick(random, &[IdlessDelete::EndsLiveSession, IdlessDelete::Ignored]),
        busy_status: pick(random, &[BusyStatus::Counts, BusyStatus::Ignored]),
        cancel_redelivery: pick(random, &[Duration::from_millis(200), seconds(1), seconds(20), seconds(60)]),
        should_acknowledge: pick(random, &[true, false]),
        token_life: pick(random, &[seconds(300), seconds(900), seconds(3_000)]),
        refusal: pick(random, &[RefusalCode::InvalidClient, RefusalCode::UnauthorizedClient, RefusalCode::ServerError]),
        ..service()
    };
    // Whoever minds no cursor has to hide for a while what he has handed out.
    let (cursor, pool_redelivery) = pick(
        random,
        &[
            (Cursor::SkipsSeen, Redelivery::AtOnce),
            (Cursor::SkipsSeen, Redelivery::AtOnce),
            (Cursor::Ignored, Redelivery::After(seconds(60))),
        ],
    );
    let cancel_timeout = pick(random, &[seconds(60), seconds(300), seconds(300)]);
    let service = server::Parameters { cursor, pool_redelivery, cancel_timeout, ..service };
    Parameters { runners, service, migration: None }
}

/// Every third pool sends its runners to the broker for a while, which begins while something is going on and ends
/// before the heal: it is one trouble more.
fn with_migration(random: &mut impl RngCore, parameters: Parameters, workload: &Workload, heal_ms: u64) -> Parameters {
    let jobs: Vec<&Job> = workload.jobs.iter().filter(|job| job.at_ms < heal_ms).collect();
    if jobs.is_empty() || !random.next_u64().is_multiple_of(3) {
        return parameters;
    }
    let job = pick(random, &jobs);
    let from_ms = job.at_ms + random.next_u64() % job.takes_ms / 1_000 * 1_000;
    let until_ms = from_ms + pick(random, &[60_000, 300_000, 1_200_000]);
    let migration = Migration { from_ms: from_ms.min(heal_ms), until_ms: until_ms.min(heal_ms) };
    let service = server::Parameters { broker: pick(random, &[Broker::OfPool, Broker::Apart]), ..parameters.service };
    Parameters { service, migration: Some(migration), ..parameters }
}

/// Every third pool has ephemeral runners besides, which are switched on at any time before the heal.
fn with_ephemeral_runners(random: &mut impl RngCore, mut parameters: Parameters, course: &Course) -> Parameters {
    if course.is_fleet() || !random.next_u64().is_multiple_of(3) {
        return parameters;
    }
    for n in 1..=between(random, (1, 3)) {
        parameters.runners.push(Runner {
            name: format!("ephemeral-{n}"),
            flow: Flow::V2,
            encryption: pick(random, &[Encryption::Plain, Encryption::KeyUnderRsa]),
            starts_at_ms: random.next_u64() % course.heal_ms() / 1_000 * 1_000,
            lifetime: Lifetime::Ephemeral,
        });
    }
    parameters
}

fn workload(random: &mut impl RngCore, course: &Course) -> Workload {
    let queued = course.queued_at_ms(random);
    let jobs = (1..).zip(queued).map(|(n, at_ms)| job(random, format!("job-{n}"), at_ms)).collect();
    Workload { jobs }
}

fn job(random: &mut impl RngCore, name: String, at_ms: u64) -> Job {
    let takes_ms = pick(random, &[15_000, 45_000, 180_000, 420_000, 900_000]) + random.next_u64() % 30 * 1_000;
    let cancelled = random.next_u64().is_multiple_of(5);
    Job {
        name,
        at_ms,
        takes_ms,
        outcome: pick(random, &[Outcome::Succeeded, Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed]),
        cancel_at_ms: cancelled.then(|| at_ms + 5_000 + random.next_u64() % takes_ms / 1_000 * 1_000),
        when_asked: pick(random, &[WhenAsked::Ends, WhenAsked::Ends, WhenAsked::GoesOn]),
    }
}

fn swarm(parameters: &Parameters, course: &Course) -> Swarm {
    let nodes: Vec<String> = parameters.runners.iter().map(|runner| runner.name.clone()).collect();
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
