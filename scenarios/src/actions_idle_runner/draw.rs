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

/// The three kinds of cases, as likely as they are often named.
const COURSES: [Course; 12] = [
    Course::SHIFT,
    Course::SHIFT,
    Course::SHIFT,
    Course::SHIFT,
    Course::SHIFT,
    Course::SHIFT,
    Course::SHIFT,
    Course::SHIFT,
    Course::HOURS,
    Course::HOURS,
    Course::HOURS,
    Course::FLEET,
];

/// How a case goes: for how long there is trouble, and how much there is to do.
#[derive(Clone, Copy)]
struct Course {
    runners: (u64, u64),
    /// What the runners of one case may speak.
    flows: [&'static [Flow]; 2],
    /// From here on no fault acts.
    heal_min: u64,
    /// Everything has to have come right by then.
    end_min: u64,
    /// The least and the most jobs, before the heal and after it.
    jobs: (u64, u64),
    jobs_after: (u64, u64),
}

impl Course {
    /// Trouble and work close together.
    const SHIFT: Self = Self {
        runners: (2, 4),
        flows: [&[Flow::V1, Flow::V2]; 2],
        heal_min: 26,
        end_min: 96,
        jobs: (4, 10),
        jobs_after: (2, 6),
    };
    /// Trouble far apart, as tokens and counters grow old.
    const HOURS: Self = Self {
        runners: (2, 3),
        flows: [&[Flow::V1, Flow::V2]; 2],
        heal_min: 110,
        end_min: 180,
        jobs: (4, 12),
        jobs_after: (2, 6),
    };
    /// So many runners that they can be in each other's way.
    const FLEET: Self = Self {
        runners: (12, 16),
        flows: [&[Flow::V1], &[Flow::V2]],
        heal_min: 12,
        end_min: 45,
        jobs: (0, 4),
        jobs_after: (0, 2),
    };

    fn heal_ms(&self) -> u64 {
        self.heal_min * MINUTE_MS
    }
}

const MINUTE_MS: u64 = 60_000;
/// The last job is queued so long after the heal.
const QUEUED_AFTER_MS: u64 = 12 * MINUTE_MS;

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
    let course = pick(&mut streams.stream("course"), &COURSES);
    let parameters = parameters(&mut streams.stream("parameters"), &course);
    let workload = workload(&mut streams.stream("workload"), &course);
    let moments_ms: Vec<u64> = workload.jobs.iter().flat_map(Job::moments_ms).collect();
    let plan = FaultPlan::generate_near(&swarm(&parameters, &course), &moments_ms, seed);
    Drawn { end: Duration::from_millis(course.end_min * MINUTE_MS), parameters, workload, plan }
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
    let flows = pick(random, &course.flows);
    let runners = (1..=between(random, course.runners))
        .map(|n| Runner {
            name: format!("runner-{n}"),
            flow: pick(random, flows),
            encryption: pick(random, &[Encryption::Plain, Encryption::Plain, Encryption::KeyUnderRsa]),
            starts_at_ms: random.next_u64() % 60 * 1_000,
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
        cancel_redelivery: pick(random, &[Duration::from_millis(200), seconds(1), seconds(20), seconds(60)]),
        should_acknowledge: pick(random, &[true, false]),
        token_life: pick(random, &[seconds(300), seconds(900), seconds(3_000)]),
        refusal: pick(random, &[RefusalCode::InvalidClient, RefusalCode::UnauthorizedClient, RefusalCode::ServerError]),
        ..service()
    };
    Parameters { runners, service }
}

fn workload(random: &mut impl RngCore, course: &Course) -> Workload {
    let heal_ms = course.heal_ms();
    let mut jobs = Vec::new();
    for (count, span) in [(course.jobs, 0..heal_ms), (course.jobs_after, heal_ms..heal_ms + QUEUED_AFTER_MS)] {
        for _ in 0..between(random, count) {
            let near = jobs.last().map(|before: &Job| before.at_ms).filter(|_| random.next_u64().is_multiple_of(2));
            let at_ms = match near {
                Some(near_ms) => near_ms + random.next_u64() % 10 * 1_000,
                None => span.start + random.next_u64() % (span.end - span.start) / 1_000 * 1_000,
            };
            jobs.push(job(random, at_ms));
        }
    }
    jobs.sort_by_key(|job| job.at_ms);
    for (n, job) in jobs.iter_mut().enumerate() {
        job.name = format!("job-{}", n + 1);
    }
    Workload { jobs }
}

fn job(random: &mut impl RngCore, at_ms: u64) -> Job {
    let takes_ms = pick(random, &[15_000, 45_000, 180_000, 420_000, 900_000]) + random.next_u64() % 30 * 1_000;
    let cancelled = random.next_u64().is_multiple_of(5);
    Job {
        name: String::new(),
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
        system: faults::ALL
            .map(|name| (name, nodes.clone()))
            .into_iter()
            .chain([(super::furnish::FRONT_RESTARTS, FRONTS.map(str::to_owned).to_vec())])
            .map(|(name, nodes)| SystemFamily { name: name.to_owned(), nodes, amounts: 0..=0 })
            .collect(),
        nodes,
        // A machine that falls asleep measures its lease with a clock that stands still: no client alone can be safe.
        families: families().filter(|family| *family != "suspend").map(str::to_owned).collect(),
        begin_ms: 0..course.heal_ms() - 30_000,
        heal_at_ms: course.heal_ms(),
        faults_max: 24,
    }
}

fn between(random: &mut impl RngCore, (least, most): (u64, u64)) -> u64 {
    least + random.next_u64() % (most - least + 1)
}

fn pick<T: Clone>(random: &mut impl RngCore, from: &[T]) -> T {
    from[(random.next_u64() % from.len() as u64) as usize].clone()
}
