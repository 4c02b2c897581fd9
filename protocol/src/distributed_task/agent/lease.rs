//! Renewing the lease of a job (`RenewJobRequestAsync` for V1 and V2), beside the job.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, future, select_biased};
use jiff::Timestamp;
use uuid::Uuid;

use super::conduct::{Fencing, LeaseEnd, NestedRetries, OnRenewFailure};
use crate::clock::Mono;
use crate::deadlines::after;
use crate::distributed_task::client::{self, Reply};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::line::seconds;
use crate::distributed_task::retry_request::retry_request;
use crate::distributed_task::task_server::{Connection, JOB_REQUEST_TIMEOUT_AFTER_ERROR};
use crate::distributed_task::wire::v2::RenewJobRequest;
use crate::distributed_task::wire::{JobMessage, TaskAgentJobRequest};
use crate::signal::Watch;

use super::complete::PATIENCE;
use super::dispatch::{Dispatch, Dispatcher, Fate, Origin};
use super::in_hand::Recorded;
use super::run_service::SEND_TIMEOUT;
use super::station::{Station, system_url};

/// Pause after each success (`JobDispatcher.cs:748-973`).
pub const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// Retries of the first renewal, without which no worker starts, and the pause between them.
pub const FIRST_RENEW_RETRIES: u32 = 5;
/// See [`FIRST_RENEW_RETRIES`].
pub const FIRST_RENEW_WAIT: Range<Duration> = seconds(1..10);
/// How long the repaired runner tries the first renewal: each attempt whose answer is lost keeps the job from others.
pub const FIRST_RENEW_PATIENCE: Duration = Duration::from_secs(120);
/// Pause after each of the first five errors in a row, and after later ones.
pub const RENEW_ERROR_WAIT: Range<Duration> = seconds(5..15);
/// See [`RENEW_ERROR_WAIT`].
pub const RENEW_LATER_ERROR_WAIT: Range<Duration> = seconds(15..30);
/// How long after the server's `lockedUntil` the real runner goes on.
pub const LEASE_OVERTIME: Duration = Duration::from_secs(300);

/// The slowest clock that the repaired runner allows for: it measures nine seconds in ten.
pub const SLOWEST_CLOCK: SlowClock = SlowClock { seconds: 9, in_true_seconds: 10 };

/// A clock that loses a part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowClock {
    seconds: u32,
    in_true_seconds: u32,
}

impl SlowClock {
    /// What it measures while so much time passes.
    pub fn measures(self, passes: Duration) -> Duration {
        passes * self.seconds / self.in_true_seconds
    }

    /// How much time passes while it measures so much.
    pub fn passes(self, measured: Duration) -> Duration {
        measured * self.in_true_seconds / self.seconds
    }
}

/// The repaired runner begins to stop a job so long before its lease ends, and kills it [`KILL_MARGIN`] before: room for
/// a server time in whole seconds, and for a worker that takes its time.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// See [`LEASE_MARGIN`].
pub const KILL_MARGIN: Duration = Duration::from_secs(10);

/// The length of a lease about which no clock says anything plausible: the shortest that was ever seen (logs of 2018,
/// microsoft/azure-pipelines-agent#1495).
const ASSUMED_LEASE: Duration = Duration::from_secs(300);
/// No lease is longer; what says so comes from a clock that cannot be right.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// The lease of a job, as last granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// The server's wall time.
    pub locked_until: Timestamp,
    /// The same on this machine's monotonic clock, counted from when the answer was asked for: never later, even where
    /// that clock loses as much as [`SLOWEST_CLOCK`] says.
    pub ends: Mono,
    /// How long it was granted for.
    pub length: Duration,
}

impl Lease {
    /// From an answer that says until when, and what the server's time is.
    ///
    /// An answer that does not tell the server's time, or one that cannot be right, is read by the local wall clock; what
    /// comes out of that must be a lease that a server may grant, too.
    pub fn granted(locked_until: Timestamp, reply: &Reply, wall: Timestamp) -> Self {
        let since = |now: Timestamp| Duration::try_from(locked_until.duration_since(now)).ok();
        let plausible = |length: &Duration| !length.is_zero() && *length <= LONGEST_LEASE;
        let told = client::server_time(&reply.headers).and_then(since).filter(plausible);
        let length = told.or_else(|| since(wall).filter(plausible)).unwrap_or(ASSUMED_LEASE);
        Self { locked_until, ends: reply.sent + SLOWEST_CLOCK.measures(length), length }
    }

    /// Where it ends if this machine's clock is right.
    pub fn ends_by_right_clock(self) -> Mono {
        self.ends + (self.length - SLOWEST_CLOCK.measures(self.length))
    }

    /// When the repaired runner begins to stop the job.
    pub fn stop_at(self) -> Mono {
        Mono::from_start(self.ends.since_start().saturating_sub(LEASE_MARGIN))
    }

    /// When the worker has to be gone.
    pub fn kill_at(self) -> Mono {
        Mono::from_start(self.ends.since_start().saturating_sub(KILL_MARGIN))
    }
}

/// Why the renewals ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RenewEnd {
    /// They were told to.
    Stopped,
    /// The server has closed the job or given it to somebody else.
    NotOurs,
    /// The first renewal never succeeded.
    NeverOurs,
    /// The lease ran out.
    Lost,
    /// The loop itself ended by an exception.
    Faulted(Failure),
}

/// The renewals of one job. They go on until they are stopped, whoever holds this.
#[derive(Clone)]
pub(super) struct Renewal {
    pub stop: Watch<bool>,
    pub lease: Watch<Option<Lease>>,
    pub ended: Watch<Option<RenewEnd>>,
    /// When it was last asked for.
    asked: Watch<Mono>,
}

impl Renewal {
    /// Starts to renew, beside the main line.
    pub fn start(dispatcher: &Dispatcher, dispatch: &Arc<Dispatch>) -> Self {
        let asked = Watch::new(dispatcher.station.line.mono());
        let renewal = Self { stop: Watch::new(false), lease: Watch::new(None), ended: Watch::new(None), asked };
        let work = Loop {
            station: dispatcher.station.clone(),
            dispatch: dispatch.clone(),
            target: Target::of(dispatcher, dispatch),
            lease: renewal.lease.clone(),
            asked: renewal.asked.clone(),
        };
        let Self { stop, ended, .. } = renewal.clone();
        dispatcher.station.tasks.add(async move {
            let end = select_biased! {
                () = stop.is(|stop| *stop).fuse() => RenewEnd::Stopped,
                end = work.renew_until_lost().fuse() => end,
            };
            tracing::info!("Renewal of job {} ends: {end:?}", work.dispatch.job.job_id);
            ended.set(Some(end));
        });
        renewal
    }

    /// Ends with the renewals.
    pub async fn over(&self) -> RenewEnd {
        self.ended.until(Clone::clone).await
    }

    /// Ends with the first success.
    pub async fn first(&self) {
        self.lease.is(Option::is_some).await;
    }

    /// Until when the server may keep the lease: an extension whose answer was lost counts, too.
    pub fn may_last_until(&self) -> Mono {
        let length = self.lease.get().map_or(ASSUMED_LEASE, |lease| lease.length);
        self.asked.get() + length
    }

    /// Stops and waits.
    ///
    /// # Errors
    /// What the loop itself failed with.
    pub async fn finish(&self) -> Result<(), Failure> {
        self.stop.set(true);
        match self.over().await {
            RenewEnd::Faulted(failure) => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Where renewals go.
enum Target {
    Pool,
    RunService(String),
}

impl Target {
    fn of(dispatcher: &Dispatcher, dispatch: &Dispatch) -> Self {
        match dispatcher.is_run_service(dispatch) {
            true => Target::RunService(run_service_url(dispatch)),
            false => Target::Pool,
        }
    }
}

/// The address of a job's run service: its own server, as its message has it.
pub(super) fn run_service_url(dispatch: &Dispatch) -> String {
    match (&dispatch.origin, system_url(&dispatch.job)) {
        (Origin::RunService(url), _) => url.clone(),
        (Origin::V1, url) => url.unwrap_or_default().to_owned(),
    }
}

/// The token that goes with renewals and completions.
pub(super) fn lock_token(fencing: Fencing, job: &JobMessage) -> Option<Uuid> {
    match fencing {
        Fencing::ZeroGuid => None,
        Fencing::LockToken => job.lock_token,
    }
}

struct Loop {
    station: Arc<Station>,
    dispatch: Arc<Dispatch>,
    target: Target,
    lease: Watch<Option<Lease>>,
    asked: Watch<Mono>,
}

impl Loop {
    async fn renew_until_lost(&self) -> RenewEnd {
        match self.station.conduct.lease_end {
            LeaseEnd::FiveMinutesPast => self.renew().await,
            LeaseEnd::WithinLease => select_biased! {
                () = self.never_granted().fuse() => RenewEnd::NeverOurs,
                () = self.lease_over().fuse() => RenewEnd::Lost,
                end = self.renew().fuse() => end,
            },
        }
    }

    /// Ends when the first renewal has been tried for long enough.
    async fn never_granted(&self) {
        self.station.line.clock.sleep(FIRST_RENEW_PATIENCE).await;
        if self.lease.see(Option::is_some) {
            future::pending().await
        }
    }

    /// Ends when the last granted lease is about to.
    async fn lease_over(&self) {
        let mut lease = self.lease.until(|lease| *lease).await;
        loop {
            self.station.line.clock.sleep(lease.stop_at().since(self.station.line.mono())).await;
            match self.lease.get() {
                Some(newer) if newer != lease => lease = newer,
                _ => return,
            }
        }
    }

    async fn renew(&self) -> RenewEnd {
        let mut first_retries = FIRST_RENEW_RETRIES;
        let mut errors = 0;
        loop {
            if self.is_long_finished() {
                tracing::info!("Job {} has had its result for long, leave its lease.", self.dispatch.job.job_id);
                return future::pending().await;
            }
            self.asked.set(self.station.line.mono());
            match self.once().await {
                Ok(lease) => {
                    let (job, until) = (&self.dispatch.job, lease.locked_until);
                    match self.target {
                        Target::RunService(_) => {
                            tracing::info!("Successfully renew job {}, job is valid till {until}", job.job_id);
                        }
                        Target::Pool => {
                            tracing::info!(
                                "Successfully renew job request {}, job is valid till {until}",
                                job.request_id
                            );
                        }
                    }
                    self.granted(lease);
                    if errors > 0 {
                        errors = 0;
                        let usual = self.station.profile.timeouts.job_request;
                        self.station.server.set_send_timeout(Connection::JobRequest, usual);
                    }
                    self.station.line.clock.sleep(RENEW_PAUSE).await;
                }
                Err(failure) if self.is_not_ours(&failure) => return RenewEnd::NotOurs,
                Err(failure) => {
                    tracing::warn!("Catch exception during renew runner jobrequest: {failure}");
                    errors += 1;
                    if let Some(end) = self.after_error(errors, &mut first_retries).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Has the worker been trying to report the result it wrote down for as long as the lease is worth it?
    fn is_long_finished(&self) -> bool {
        let known = Recorded::read(&*self.station.disk, &self.dispatch.job).map(|recorded| recorded.since());
        known.is_some_and(|known| self.station.line.mono().since(known) >= PATIENCE)
    }

    /// Waits for the next try; an end when there is none.
    async fn after_error(&self, errors: u32, first_retries: &mut u32) -> Option<RenewEnd> {
        let line = &self.station.line;
        let Some(lease) = self.lease.get() else {
            if *first_retries == 0 {
                return Some(RenewEnd::NeverOurs);
            }
            *first_retries -= 1;
            line.sleep_uniform(FIRST_RENEW_WAIT).await;
            return None;
        };
        let on_run_service = matches!(self.target, Target::RunService(_));
        if on_run_service && self.station.conduct.on_renew_failure == OnRenewFailure::NullDereference {
            return Some(RenewEnd::Faulted(Failure::NullReference));
        }
        if self.station.conduct.lease_end == LeaseEnd::FiveMinutesPast
            && after(lease.locked_until, LEASE_OVERTIME) <= line.clock.wall()
        {
            return Some(RenewEnd::Lost);
        }
        match self.station.conduct.nested_retries {
            _ if on_run_service => {}
            NestedRetries::Multiplied => {
                self.station.server.refresh(Connection::JobRequest, JOB_REQUEST_TIMEOUT_AFTER_ERROR).await;
            }
            NestedRetries::OneLayer => {
                self.station.server.set_send_timeout(Connection::JobRequest, JOB_REQUEST_TIMEOUT_AFTER_ERROR);
            }
        }
        line.sleep_uniform(if errors > 5 { RENEW_LATER_ERROR_WAIT } else { RENEW_ERROR_WAIT }).await;
        None
    }

    async fn once(&self) -> Result<Lease, Failure> {
        let job = &self.dispatch.job;
        let lock = lock_token(self.station.conduct.fencing, job);
        match &self.target {
            Target::Pool => {
                let request = TaskAgentJobRequest { request_id: job.request_id, ..TaskAgentJobRequest::default() };
                let plan = job.plan.plan_id.to_string();
                let lock = lock.unwrap_or_default();
                let (request, reply) = self.station.server.update_job_request(&request, lock, Some(&plan)).await?;
                let locked_until = request.locked_until.ok_or(Failure::NullReference)?;
                Ok(Lease::granted(locked_until, &reply, self.station.line.clock.wall()))
            }
            Target::RunService(url) => {
                let service = self.station.run_service_of(job, url);
                let request = RenewJobRequest { plan_id: job.plan.plan_id, job_id: job.job_id, lock_token: lock };
                let retriable = |failure: &Failure| !self.is_not_ours(failure);
                let renewed = match self.station.conduct.nested_retries {
                    NestedRetries::Multiplied => {
                        retry_request(&self.station.line, retriable, || service.renew(&request, SEND_TIMEOUT)).await?
                    }
                    NestedRetries::OneLayer => service.renew(&request, JOB_REQUEST_TIMEOUT_AFTER_ERROR).await?,
                };
                let (renewed, reply) = renewed.ok_or(Failure::NullReference)?;
                let locked_until = renewed.locked_until.ok_or(Failure::NullReference)?;
                Ok(Lease::granted(locked_until, &reply, self.station.line.clock.wall()))
            }
        }
    }

    fn granted(&self, lease: Lease) {
        self.lease.set(Some(lease));
        self.dispatch.fate.change(|known| _ = known.get_or_insert(Fate::Heeded));
    }

    /// The server has closed the job, or the lease is another attempt's.
    fn is_not_ours(&self, failure: &Failure) -> bool {
        failure.is_any(&[key::JOB_NOT_FOUND, key::JOB_TOKEN_EXPIRED, key::ORCHESTRATION_JOB_NOT_FOUND])
            || is_stale(self.station.conduct.fencing, failure)
    }
}

/// Servers that fence answer so to a token that is not that of the present lease. Others have no reason to.
pub(super) fn is_stale(fencing: Fencing, failure: &Failure) -> bool {
    fencing == Fencing::LockToken && failure.is_any(&[key::ORCHESTRATION_JOB_ALREADY_ACQUIRED, key::JOB_TOKEN_EXPIRED])
}
