//! Bounds that follow from what the service promises in a case.

use std::time::Duration;

use squall_protocol::distributed_task::agent;
use squall_protocol::distributed_task::retry_request::{ATTEMPTS, PAUSE};
use squall_protocol::distributed_task::server::{LapsedOffer, Parameters};
use squall_protocol::distributed_task::task_server::SendTimeouts;

/// How long an agent may take to get in again after it lost its session.
///
/// However long sessions live: the repaired agents take their own over. They wait a minute at the most, and a call that
/// was under way times out.
pub const RECONNECT: Duration = Duration::from_secs(200);

/// How long a job may take to reach an agent that is ready for it.
pub fn redelivery(service: &Parameters) -> Duration {
    service.assignment_life.max(service.redelivery) + service.poll_hold + RECONNECT
}

/// How long after an extension that it knows of an agent may stop a job, on a clock that is fast, not knowing whether it
/// was extended again. It counts from when it asked, a call's time-out earlier at the most.
pub fn fence(service: &Parameters) -> Duration {
    let told = agent::SLOWEST_CLOCK.measures(service.lease_life).saturating_sub(agent::LEASE_MARGIN);
    (told * 9 / 10).saturating_sub(RENEWAL)
}

/// How long an agent may renew a lease whose worker has ended: it reports, and the last renewal is under way.
pub fn report() -> Duration {
    on_slow_clock(agent::PATIENCE + agent::SHORTEST_ROUND + RENEWAL)
}

/// How long after a message was acknowledged what it asked for may take: at the worst, the lease that the agent has taken
/// runs out.
pub fn handling(service: &Parameters) -> Duration {
    service.lease_life + RECONNECT
}

/// How long a lease may be without a worker: a call of its agent times out, and the next one tells.
pub const UNUSED_LEASE: Duration = RECONNECT;

/// How long an agent may renew a lease that it knows of before a worker has the job.
pub fn start_up() -> Duration {
    on_slow_clock(agent::FIRST_RENEW_PATIENCE + agent::CHANNEL_TIMEOUT)
}

/// An agent that has not extended a lease for longer than this has let go of it: who renews leaves no longer pause.
pub fn let_go() -> Duration {
    on_slow_clock(agent::RENEW_PAUSE)
}

/// How long an agent that is asked to stop may take.
pub fn shutdown() -> Duration {
    on_slow_clock(agent::SHUTDOWN_LIMIT)
}

/// How long an agent may wait for bytes that do not come. A poll that is under way is looked at again when the job that
/// came before it is acquired, which takes all attempts of that.
pub fn silence() -> Duration {
    on_slow_clock((ATTEMPTS + 1) * (agent::SEND_TIMEOUT + PAUSE.end))
}

/// How long an agent may take to take a job that it is offered. One whose number it has seen is hidden from the poll that is
/// held.
pub fn taking(service: &Parameters) -> Duration {
    match service.lapsed_offer {
        LapsedOffer::Withdrawn => TAKING,
        LapsedOffer::SameNumber => service.poll_hold + TAKING,
    }
}

/// How long an agent may take to end that gets no more work: it is told so often enough to believe it, ends, is started
/// again by its supervisor, and is told as often when it asks for a session.
pub const LEAVING: Duration = Duration::from_secs(20 * 60);

/// How long all jobs may take: leases of lost attempts expire, agents come back, and what is left is done, by all agents
/// but for the longest.
pub fn jobs_end(service: &Parameters, agents: usize, takes: impl Iterator<Item = Duration>) -> Duration {
    let (sum, longest) = takes
        .map(|takes| takes + TURNAROUND)
        .fold((Duration::ZERO, Duration::ZERO), |(sum, longest), takes| (sum + takes, longest.max(takes)));
    service.lease_life + RECONNECT + sum / agents.max(1) as u32 + longest
}

/// How many requests in one second are no sign of agents that act in step. A few agents are no fleet: one of them alone
/// sends as many when it connects.
pub fn clump(agents: usize) -> u32 {
    match agents as u32 {
        few if few < FLEET => u32::MAX,
        agents => agents * 3 / 4,
    }
}

/// How long after the heal agents may be busy with what went wrong before: the longest waits, and one after another.
pub const SETTLED: Duration = Duration::from_secs(300);

/// After the heal: leases expire, jobs are offered again, and the longest job runs. For jobs that nobody knows before.
pub const JOBS_END: Duration = Duration::from_secs(55 * 60);

/// The true time that passes while a slow clock measures this. The slowest that is drawn is the slowest that agents allow
/// for.
fn on_slow_clock(measured: Duration) -> Duration {
    agent::SLOWEST_CLOCK.passes(measured)
}

/// What an agent may take over a message that has arrived before its job is its own.
const TAKING: Duration = Duration::from_secs(10);
/// What a renewal may take.
const RENEWAL: Duration = SendTimeouts::RUNNER.job_request;
/// What a job takes besides its own time: to be offered, started and reported.
const TURNAROUND: Duration = Duration::from_secs(60);
/// From so many agents on it shows whether they act in step.
const FLEET: u32 = 10;
