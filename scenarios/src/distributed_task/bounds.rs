//! Bounds that follow from what the service promises in a case.

use std::time::Duration;

use squall_protocol::distributed_task::server::Parameters;

/// How long an agent may take to get in again after it lost its session.
pub fn reconnect(service: &Parameters) -> Duration {
    service.session_life + RESTART_AND_RETRY
}

/// How long a job may take to reach an agent that is ready for it.
pub fn redelivery(service: &Parameters) -> Duration {
    service.assignment_life.max(service.redelivery) + service.poll_hold + RESTART_AND_RETRY
}

/// A restart, a call that times out, and the longest wait before the next one.
pub const RESTART_AND_RETRY: Duration = Duration::from_secs(300);
/// Six attempts at the first renewal, each with a time-out and a wait; or sixty attempts to report, 10 s apart.
pub const START_UP_OR_REPORT: Duration = Duration::from_secs(15 * 60);
/// How long before a lease's end its holder may stop the job, not knowing whether it was renewed.
pub const FENCE_MARGIN: Duration = Duration::from_secs(120);
/// After the heal: leases expire, jobs are offered again, and the longest job runs.
pub const JOBS_END: Duration = Duration::from_secs(55 * 60);
