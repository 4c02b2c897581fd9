//! One job from its first renewal to its end (`JobDispatcher.RunAsync`).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, future, select_biased};

use super::conduct::{CrashReport, DispatchFailure, KillDeadline, LeaseEnd, OrphanedWorker, PipeEnd, RenewLoop};
use crate::clock::{self, Mono};
use crate::distributed_task::failure::Failure;
use crate::distributed_task::wire::TaskResult;
use crate::facts::Outcome;
use crate::signal::Watch;
use crate::supervise::Exit;
use crate::workers::{Worker, WorkerError};

use super::complete;
use super::dispatch::{Dispatch, Dispatcher, Fate};
use super::in_hand::{InHand, Recorded};
use super::lease::{LEASE_OVERTIME, Lease, RenewEnd, Renewal, run_service_url};
use super::pipe::{NewJob, ToWorker};

/// What a message to a worker may take (`GITHUB_ACTIONS_RUNNER_CHANNEL_TIMEOUT`).
pub const CHANNEL_TIMEOUT: Duration = Duration::from_secs(30);
/// What a worker of the repaired design may take when it is told to end and nothing else says how long: less than the 30 s
/// that the service wrapper leaves to the listener.
pub const WORKER_STOP_GRACE: Duration = Duration::from_secs(20);
/// What a worker of the repaired design may take when the server has given its job to somebody else, who may be at work.
pub const NOT_OURS_GRACE: Duration = Duration::from_secs(5);
/// What telling a worker of its lease may take before it is left for the next time. The repaired design's own.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a job to its end.
pub(super) async fn execute(dispatcher: &Dispatcher, dispatch: &Arc<Dispatch>) -> Result<TaskResult, Failure> {
    let renewal = Renewal::start(dispatcher, dispatch);
    let _until_here = match dispatcher.station.conduct.renew_loop {
        RenewLoop::LeaksOnException => None,
        RenewLoop::EndsWithJob => Some(StopOnDrop(renewal.stop.clone())),
    };
    let execution = Execution { dispatcher, dispatch, renewal };
    let done = execution.run().await;
    Recorded::clear(&*dispatcher.station.disk, &dispatch.job);
    done
}

struct StopOnDrop(Watch<bool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

struct Execution<'a> {
    dispatcher: &'a Dispatcher,
    dispatch: &'a Arc<Dispatch>,
    renewal: Renewal,
}

/// Why the monitor stopped watching.
enum Watched {
    Ended(Exit),
    Renewal(RenewEnd),
    Cancelled,
    Renewed(Lease),
}

impl Execution<'_> {
    async fn run(&self) -> Result<TaskResult, Failure> {
        select_biased! {
            () = self.renewal.first().fuse() => {}
            end = self.renewal.over().fuse() => {
                tracing::warn!("Unable to renew job request for the first time, stop dispatching job to worker.");
                // Whoever asks for the message again before that is reported gets it again and again.
                if end != RenewEnd::NotOurs {
                    self.report_not_started().await;
                }
                self.dispatch.fate.set(Some(if end == RenewEnd::NotOurs { Fate::NotOurs } else { Fate::Nothing }));
                return Ok(TaskResult::Abandoned);
            }
            () = self.dispatch.cancelled().fuse() => return self.cancelled_before_start().await,
        }
        let station = &self.dispatcher.station;
        station.profile.preparation.prepare(station, &self.dispatch.job).await?;
        let mut worker = match self.start().await {
            Ok(worker) => worker,
            Err(failure) => return self.not_started(failure).await,
        };
        let lease = self.renewal.lease.get();
        self.note(lease);
        match self.send(&mut *worker, &self.new_job(lease), CHANNEL_TIMEOUT).await {
            Ok(()) => self.monitor(worker, lease).await,
            Err(Unsent::TimedOut) => {
                tracing::warn!("The job message was not taken within {CHANNEL_TIMEOUT:?}, kill the worker.");
                worker.kill();
                worker.ended().await;
                self.not_in_hand();
                self.renewal.finish().await?;
                self.report_not_started().await;
                Ok(TaskResult::Failed)
            }
            Err(Unsent::Broken(error)) => self.not_started(Failure::InvalidOperation(error.to_string())).await,
        }
    }

    /// Upstream catches only time-outs here: everything else leaves the function, and the renewals go on.
    async fn not_started(&self, failure: Failure) -> Result<TaskResult, Failure> {
        match self.dispatcher.station.conduct.dispatch_failure {
            DispatchFailure::Silent => {
                self.not_in_hand();
                Err(failure)
            }
            DispatchFailure::Reported => {
                tracing::warn!("The job could not be handed to its worker: {failure}");
                self.worker_gone().await;
                self.report_not_started().await;
                match self.dispatcher.station.conduct.renew_loop {
                    RenewLoop::LeaksOnException => Err(failure),
                    RenewLoop::EndsWithJob => self.renewal.finish().await.map(|()| TaskResult::Failed),
                }
            }
        }
    }

    /// No worker is left. Reporting that may take long, and is no reason to hold the lease any longer than it lasts, nor
    /// for the next process, if this one ends meanwhile, to wait for a worker.
    async fn worker_gone(&self) {
        self.not_in_hand();
        if self.dispatcher.station.conduct.renew_loop == RenewLoop::EndsWithJob {
            // Whoever asks for the end of the renewals later hears how they ended.
            let _ = self.renewal.finish().await;
        }
    }

    async fn report_not_started(&self) {
        if self.dispatcher.station.conduct.dispatch_failure == DispatchFailure::Reported {
            complete::report_in_place_of_worker(
                self.dispatcher,
                self.dispatch,
                TaskResult::Failed,
                None,
                self.renewal.may_last_until(),
            )
            .await;
        }
    }

    async fn cancelled_before_start(&self) -> Result<TaskResult, Failure> {
        self.renewal.finish().await?;
        if self.dispatcher.station.conduct.dispatch_failure == DispatchFailure::Reported {
            let until = self.renewal.may_last_until();
            complete::report_in_place_of_worker(self.dispatcher, self.dispatch, TaskResult::Canceled, None, until)
                .await;
        } else {
            complete::finish_request(self.dispatcher, self.dispatch, TaskResult::Canceled).await?;
        }
        Ok(TaskResult::Canceled)
    }

    async fn start(&self) -> Result<Box<dyn Worker>, Failure> {
        let started = self.dispatcher.station.workers.start().await;
        started.map_err(|error| Failure::InvalidOperation(error.to_string()))
    }

    /// Watches worker, renewals and cancellation until one of them ends the job.
    async fn monitor(&self, mut worker: Box<dyn Worker>, mut told: Option<Lease>) -> Result<TaskResult, Failure> {
        let (on_end, grace) = loop {
            match self.watch(&mut *worker, told).await {
                Watched::Ended(exit) => return self.worker_ended(exit).await,
                Watched::Renewed(lease) => told = self.tell(&mut *worker, lease).await,
                Watched::Renewal(end) => break (TaskResult::Abandoned, self.grace(&end)),
                Watched::Cancelled => break (TaskResult::Canceled, self.grace(&RenewEnd::Stopped)),
            }
        };
        let limit = grace.map_or(CHANNEL_TIMEOUT, |grace| grace.min(CHANNEL_TIMEOUT));
        if let Err(Unsent::TimedOut) = self.send(&mut *worker, &ToWorker::CancelRequest, limit).await {
            worker.kill();
        }
        let exit = self.wait_for_end(&mut *worker, told, grace).await;
        self.worker_gone().await;
        if !matches!(exit, Exit::Code(code) if outcome_of(code).is_some()) && !self.is_not_ours() {
            self.report_unreported(unreported(exit).unwrap_or(on_end)).await;
        }
        self.renewal.finish().await?;
        complete::finish_request(self.dispatcher, self.dispatch, on_end).await?;
        Ok(on_end)
    }

    /// A worker that had to be killed, or that stopped for want of a lease, has reported nothing, and a plan with events
    /// hears of no end but by one. What the worker had finished before stays as it was. The server's lease may be longer
    /// than the last answer that arrived: without a report the job would wait for its end.
    async fn report_unreported(&self, on_end: TaskResult) {
        if self.dispatcher.station.conduct.crash_report == CrashReport::RecordedResult {
            let recorded = complete::recorded(self.dispatcher, self.dispatch);
            complete::report_in_place_of_worker(
                self.dispatcher,
                self.dispatch,
                on_end,
                recorded,
                self.renewal.may_last_until(),
            )
            .await;
        }
    }

    /// Has the server closed the job or given it to somebody else?
    fn is_not_ours(&self) -> bool {
        self.renewal.ended.see(|end| *end == Some(RenewEnd::NotOurs))
    }

    async fn watch(&self, worker: &mut dyn Worker, told: Option<Lease>) -> Watched {
        select_biased! {
            exit = worker.ended().fuse() => Watched::Ended(exit),
            end = self.renewal.over().fuse() => Watched::Renewal(end),
            () = self.dispatch.cancelled().fuse() => Watched::Cancelled,
            lease = self.newer_than(told).fuse() => Watched::Renewed(lease),
        }
    }

    async fn worker_ended(&self, exit: Exit) -> Result<TaskResult, Failure> {
        let (result, unreported) = (result_of(exit), unreported(exit));
        self.worker_gone().await;
        match result.or(unreported) {
            None => {
                tracing::warn!("Worker finished for job {}. {exit:?} is no result.", self.dispatch.job.job_id);
                complete::report_crash(self.dispatcher, self.dispatch, self.renewal.may_last_until()).await;
            }
            Some(result) if unreported.is_some() || result == TaskResult::Abandoned => {
                self.report_unreported(result).await;
            }
            Some(_) => {}
        }
        self.renewal.finish().await?;
        let result = result.or(unreported).unwrap_or(TaskResult::Failed);
        complete::finish_request(self.dispatcher, self.dispatch, result).await?;
        Ok(result)
    }

    /// The worker was told to end; it is killed when its time is over, if anything says how long it has.
    async fn wait_for_end(&self, worker: &mut dyn Worker, mut told: Option<Lease>, grace: Option<Duration>) -> Exit {
        let line = &self.dispatcher.station.line;
        let (told_when, kill_deadline) =
            (self.dispatch.cancel.get().kill_at, self.dispatcher.station.conduct.kill_deadline);
        let deadline = async {
            match (grace, told_when) {
                (Some(grace), None) => line.clock.sleep(grace).await,
                _ => future::pending().await,
            }
        };
        let lease_due = async {
            match kill_deadline {
                KillDeadline::OnServerCancelOnly => future::pending().await,
                KillDeadline::Always => self.lease_due().await,
            }
        };
        let over = async {
            select_biased! {
                () = self.dispatch.kill_due(&*line.clock).fuse() => {}
                () = lease_due.fuse() => {}
                () = deadline.fuse() => {}
            }
        };
        let mut over = pin!(over.fuse());
        loop {
            select_biased! {
                exit = worker.ended().fuse() => return exit,
                () = over => break,
                lease = self.newer_than(told).fuse() => told = self.tell(worker, lease).await,
            }
        }
        tracing::warn!("Worker of job {} does not end, kill it.", self.dispatch.job.job_id);
        worker.kill();
        worker.ended().await
    }

    /// The next lease.
    async fn newer_than(&self, told: Option<Lease>) -> Lease {
        self.renewal.lease.until(|lease| lease.filter(|lease| Some(*lease) != told)).await
    }

    /// The lease was extended: the worker and the next process have to know. A worker that is told late stops early,
    /// which is the safe side.
    async fn tell(&self, worker: &mut dyn Worker, lease: Lease) -> Option<Lease> {
        self.note(Some(lease));
        if self.dispatcher.station.conduct.pipe_end == PipeEnd::StopsAtLeaseEnd {
            let _ = self.send(worker, &ToWorker::lease(self.runs_until(lease)), TELL_TIMEOUT).await;
        }
        Some(lease)
    }

    /// However long a cancellation leaves to the worker, its lease is no longer than it is.
    async fn lease_due(&self) {
        let line = &self.dispatcher.station.line;
        while let Some(lease) = self.renewal.lease.get() {
            line.clock.sleep(lease.kill_at().since(line.mono())).await;
            if self.renewal.lease.get() == Some(lease) {
                return;
            }
        }
    }

    /// How long a worker that is told to end now may take; `None`: as long as it likes, unless the server said.
    fn grace(&self, why: &RenewEnd) -> Option<Duration> {
        match (self.dispatcher.station.conduct.kill_deadline, why) {
            (KillDeadline::OnServerCancelOnly, _) => None,
            (KillDeadline::Always, RenewEnd::NotOurs) => Some(NOT_OURS_GRACE),
            (KillDeadline::Always, _) => Some(WORKER_STOP_GRACE),
        }
    }

    /// Until when a job with this lease runs if it cannot be renewed.
    fn runs_until(&self, lease: Lease) -> Mono {
        match self.dispatcher.station.conduct.lease_end {
            LeaseEnd::FiveMinutesPast => lease.ends_by_right_clock() + LEASE_OVERTIME,
            LeaseEnd::WithinLease => lease.ends,
        }
    }

    /// Notes on the disk that a worker of this process has the job, and until when.
    fn note(&self, lease: Option<Lease>) {
        let station = &self.dispatcher.station;
        if let (OrphanedWorker::WaitedFor, Some(lease)) = (station.conduct.orphaned_worker, lease) {
            let until = self.runs_until(lease);
            InHand::note(self.dispatch.job.job_id, station.line.mono(), until, &*station.disk);
        }
    }

    /// Notes on the disk that no worker has the job any more.
    fn not_in_hand(&self) {
        InHand::clear(&*self.dispatcher.station.disk, self.dispatch.job.job_id);
    }

    fn new_job(&self, lease: Option<Lease>) -> ToWorker {
        let run_service = self.dispatcher.is_run_service(self.dispatch).then(|| run_service_url(self.dispatch));
        ToWorker::NewJobRequest(Box::new(NewJob::new(
            self.dispatch.job.clone(),
            run_service,
            lease.map(|lease| self.runs_until(lease)),
        )))
    }

    async fn send(&self, worker: &mut dyn Worker, message: &ToWorker, limit: Duration) -> Result<(), Unsent> {
        let clock = &*self.dispatcher.station.line.clock;
        match clock::timeout(clock, limit, worker.send(message.to_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Unsent::Broken(error)),
            Err(_) => Err(Unsent::TimedOut),
        }
    }
}

/// The job's result that a worker's exit code tells, if it does.
fn result_of(exit: Exit) -> Option<TaskResult> {
    result_above(RESULT_CODES, exit)
}

/// The result that a worker knew and had no time to report.
fn unreported(exit: Exit) -> Option<TaskResult> {
    result_above(UNREPORTED_CODES, exit)
}

fn result_above(codes: i32, exit: Exit) -> Option<TaskResult> {
    match exit {
        Exit::Code(code) => code.checked_sub(codes).and_then(|number| TaskResult::from_number(number.try_into().ok()?)),
        Exit::Killed => None,
    }
}

/// How the job ended, as a worker's exit code tells whoever reads it: that of a worker which has reported a result. One
/// that crashed, gave its job up or could not report it tells nothing.
pub fn outcome_of(code: i32) -> Option<Outcome> {
    result_of(Exit::Code(code)).filter(|result| *result != TaskResult::Abandoned).map(TaskResult::outcome)
}

/// Why a message did not reach the worker.
enum Unsent {
    TimedOut,
    Broken(WorkerError),
}

/// A worker's exit code is its result and this (`TaskResultUtil`).
pub const RESULT_CODES: i32 = 100;
/// The repaired worker has these besides, for a result that it could not report.
pub const UNREPORTED_CODES: i32 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_tells_the_outcome_that_was_reported() {
        let told = [100, 101, 102, 103, 104].map(outcome_of);
        let (succeeded, failed) = (Some(Outcome::Succeeded), Some(Outcome::Failed));
        assert_eq!(told, [succeeded, succeeded, failed, Some(Outcome::Cancelled), succeeded]);
        for nothing in [0, super::super::CRASHED, 99, 105, 106, 200, 202, i32::MIN, i32::MAX] {
            assert_eq!(outcome_of(nothing), None, "{nothing}");
        }
    }
}
