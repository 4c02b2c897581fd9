//! The case that a seed stands for.

use std::time::Duration;

use rand::RngCore;
use squall_protocol::actions::server::{
    self, AcquireReplay, Addresses, BusyStatus, Encryption, Flow, IdlessDelete, OnLeaseExpiry, RefusalCode, ResultRule,
    SecondDelete,
};
use squall_protocol::facts::Outcome;
use squall_protocol::session::ConflictExtends;
use squall_sim::fault::generate::families;
use squall_sim::fault::{FaultPlan, Swarm, SystemFamily};
use squall_sim::random::Streams;
use squall_sim::scenario::Drawn;

use crate::distributed_task::faults;
use crate::execution::WhenAsked;

use super::{FRONTS, Job, Parameters, Runner, Workload};

/// The whole of true time that a case takes.
const END: Duration = Duration::from_secs(3 * 3_600);
/// From here on no fault acts.
const HEAL_MS: u64 = 110 * 60 * 1_000;
/// The last job is queued before this.
const QUEUED_BEFORE_MS: u64 = 100 * 60 * 1_000;

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
    let parameters = parameters(&mut streams.stream("parameters"));
    let workload = workload(&mut streams.stream("workload"));
    let plan = FaultPlan::generate(&swarm(&parameters), seed);
    Drawn { end: END, parameters, workload, plan }
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

fn parameters(random: &mut impl RngCore) -> Parameters {
    let runners = (1..=pick(random, &[2, 3, 3, 4]))
        .map(|n| Runner {
            name: format!("runner-{n}"),
            flow: pick(random, &[Flow::V1, Flow::V2]),
            encryption: pick(random, &[Encryption::Plain, Encryption::Plain, Encryption::KeyUnderRsa]),
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
        assignment_life: pick(random, &[seconds(60), seconds(120)]),
        lease_life: pick(random, &[seconds(300), seconds(600)]),
        on_lease_expiry: pick(random, &[OnLeaseExpiry::FailJob, OnLeaseExpiry::Requeue]),
        result_rule: pick(random, &[ResultRule::FirstWrite, ResultRule::LastWrite]),
        acquire_replay: pick(random, &[AcquireReplay::Conflict, AcquireReplay::SameAnswer]),
        second_delete: pick(random, &[SecondDelete::Succeeds, SecondDelete::NotFound]),
        idless_delete: pick(random, &[IdlessDelete::EndsLiveSession, IdlessDelete::Ignored]),
        busy_status: pick(random, &[BusyStatus::Counts, BusyStatus::Ignored]),
        cancel_redelivery: pick(random, &[seconds(1), seconds(20), seconds(60)]),
        should_acknowledge: pick(random, &[true, false]),
        token_life: pick(random, &[seconds(900), seconds(3_000)]),
        refusal: pick(random, &[RefusalCode::InvalidClient, RefusalCode::UnauthorizedClient, RefusalCode::ServerError]),
        ..service()
    };
    Parameters { runners, service }
}

fn workload(random: &mut impl RngCore) -> Workload {
    let count = 4 + random.next_u64() % 9;
    let mut jobs: Vec<Job> = (0..count)
        .map(|_| {
            let at_ms = random.next_u64() % QUEUED_BEFORE_MS / 1_000 * 1_000;
            let takes_ms = pick(random, &[15_000, 45_000, 180_000, 420_000, 900_000]) + random.next_u64() % 30 * 1_000;
            let cancelled = random.next_u64().is_multiple_of(6);
            Job {
                name: String::new(),
                at_ms,
                takes_ms,
                outcome: pick(random, &[Outcome::Succeeded, Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed]),
                cancel_at_ms: cancelled.then(|| at_ms + 5_000 + random.next_u64() % takes_ms / 1_000 * 1_000),
                when_asked: pick(random, &[WhenAsked::Ends, WhenAsked::Ends, WhenAsked::GoesOn]),
            }
        })
        .collect();
    jobs.sort_by_key(|job| job.at_ms);
    for (n, job) in jobs.iter_mut().enumerate() {
        job.name = format!("job-{}", n + 1);
    }
    Workload { jobs }
}

fn swarm(parameters: &Parameters) -> Swarm {
    let nodes: Vec<String> = parameters.runners.iter().map(|runner| runner.name.clone()).collect();
    let services = nodes.iter().map(|node| (node.clone(), super::furnish::SERVICE.to_owned())).collect();
    Swarm {
        services,
        peers: FRONTS.map(str::to_owned).to_vec(),
        routes: ROUTES.map(|(front, route)| (front.to_owned(), route.to_owned())).to_vec(),
        system: faults::ALL
            .map(|name| SystemFamily { name: name.to_owned(), nodes: nodes.clone(), amounts: 0..=0 })
            .to_vec(),
        nodes,
        // A machine that falls asleep measures its lease with a clock that stands still: no client alone can be safe.
        families: families().filter(|family| *family != "suspend").map(str::to_owned).collect(),
        begin_ms: 60_000..HEAL_MS - 120_000,
        heal_at_ms: HEAL_MS,
        faults_max: 24,
    }
}

fn pick<T: Clone>(random: &mut impl RngCore, from: &[T]) -> T {
    from[(random.next_u64() % from.len() as u64) as usize].clone()
}
