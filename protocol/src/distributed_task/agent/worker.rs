//! The worker process: takes one job over its pipe, executes it, and reports how it ended.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, future, select_biased};

use super::conduct::{Conduct, CrashReport, KillDeadline, OrphanedWorker, PipeEnd, ReportReplay};
use crate::clock::{self, Mono};
use crate::disk::Disk;
use crate::distributed_task::failure::Failure;
use crate::distributed_task::line::Line;
use crate::distributed_task::wire::JobMessage;
use crate::distributed_task::wire::TaskResult;
use crate::facts::{Job, Outcome};
use crate::signal::Watch;
use crate::supervise::Shutdown;
use crate::workers::{Parent, Work};

use super::Machine;
use super::complete::{PATIENCE, Report};
use super::dispatch::ORPHAN_LOOK;
use super::execute::{RESULT_CODES, UNREPORTED_CODES, WORKER_STOP_GRACE};
use super::in_hand::{InHand, Recorded};
use super::lease::{KILL_MARGIN, LEASE_MARGIN, LONGEST_LEASE};
use super::pipe::{NewJob, ToWorker};
use super::station::run_service_of;

/// How long a worker waits for its job (`Worker.cs`).
pub const JOB_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a worker goes on reporting that was told to end: less than [`WORKER_STOP_GRACE`], which its listener leaves it.
const REPORT_GRACE: Duration = WORKER_STOP_GRACE.saturating_sub(Duration::from_secs(5));

/// The exit code of a worker that ended by an exception.
pub const CRASHED: i32 = 1;

/// How a worker executes its job.
pub trait Execute: Send + Sync {
    /// Executes a job and says how it ended. `cancelled` ends when it has been asked to stop.
    fn execute<'a>(&'a self, line: &'a Line, job: &'a JobMessage, cancelled: Shutdown) -> BoxFuture<'a, Outcome>;
}

/// A job that is executed as one piece.
pub struct Whole(pub Arc<dyn Work>);

impl Execute for Whole {
    fn execute<'a>(&'a self, _: &'a Line, job: &'a JobMessage, cancelled: Shutdown) -> BoxFuture<'a, Outcome> {
        self.0.execute(name(job), job.attempt(), cancelled)
    }
}

/// The name by which the world knows a job.
pub fn name(job: &JobMessage) -> Job {
    if job.job_name.is_empty() { Job::from(job.job_id.to_string()) } else { Job::from(&job.job_name) }
}

/// A worker process. Its exit code is [`RESULT_CODES`] and the job's result, [`UNREPORTED_CODES`] and a result that it could
/// not report, or anything else when it has none.
pub async fn worker(machine: Machine, conduct: Conduct, mut parent: Box<dyn Parent>, work: &dyn Execute) -> i32 {
    let line = conduct.line(machine.clock, machine.http, machine.random);
    let first = clock::timeout(&*line.clock, JOB_TIMEOUT, parent.receive()).await;
    let Ok(Some(ToWorker::NewJobRequest(job))) =
        first.map(|bytes| bytes.and_then(|bytes| ToWorker::from_bytes(&bytes)))
    else {
        return CRASHED;
    };
    let process = Process { line, disk: machine.disk, conduct, job: *job };
    let code = match process.run(parent, work).await {
        Ok(code) => code,
        Err(failure) => {
            tracing::warn!("Unhandled exception in worker: {failure}");
            CRASHED
        }
    };
    InHand::clear(&*process.disk, process.job.job.job_id);
    code
}

struct Process {
    line: Line,
    disk: Arc<dyn Disk>,
    conduct: Conduct,
    job: NewJob,
}

/// What the listener has said so far.
struct Told {
    cancelled: Watch<bool>,
    lease_ends: Watch<Option<Mono>>,
    /// When the worker has to be gone, if the listener's next process said so.
    end_by: Watch<Option<Mono>>,
}

/// The exit code of a worker that has reported this result.
const fn reported(result: TaskResult) -> i32 {
    RESULT_CODES + result as i32
}

impl Process {
    async fn run(&self, parent: Box<dyn Parent>, work: &dyn Execute) -> Result<i32, Failure> {
        let told = Told {
            cancelled: Watch::new(false),
            lease_ends: Watch::new(self.job.lease_ends()),
            end_by: Watch::new(None),
        };
        let result = Watch::new(None);
        select_biased! {
            // First of all, so that a process that was frozen does not go on before it looks at the clock.
            () = self.must_end(&told).fuse() => {
                tracing::warn!("The lease of job {} is over, stop.", self.job.job.job_id);
                Ok(self.given_up(result.get()))
            }
            () = self.must_end_for_next_process(&told).fuse() => {
                tracing::warn!("Job {} was cancelled and does not end, stop.", self.job.job.job_id);
                Ok(self.given_up(result.get()))
            }
            () = self.must_end_with(&result, &told).fuse() => {
                tracing::warn!("The end of job {} could not be reported, stop.", self.job.job.job_id);
                Ok(self.given_up(result.get()))
            }
            done = self.execute_and_report(&told, work, &result).fuse() => done.map(reported),
            never = self.listen(parent, &told).fuse() => match never {},
        }
    }

    /// The exit code of a process that has to end now. A result that is known by then, and may be nowhere else, is not lost.
    fn given_up(&self, result: Option<TaskResult>) -> i32 {
        match (self.conduct.crash_report, result) {
            (CrashReport::RecordedResult, Some(result)) => UNREPORTED_CODES + result as i32,
            _ => reported(TaskResult::Abandoned),
        }
    }

    async fn execute_and_report(
        &self,
        told: &Told,
        work: &dyn Execute,
        known: &Watch<Option<TaskResult>>,
    ) -> Result<TaskResult, Failure> {
        let job = &self.job.job;
        let cancelled = told.cancelled.clone();
        let asked = Shutdown::when(async move { cancelled.is(|cancelled| *cancelled).await });
        let result = TaskResult::from(work.execute(&self.line, job, asked).await);
        known.set(Some(result));
        self.report(result).await
    }

    /// Writes the result down and reports it. The one does not wait for the other.
    async fn report(&self, result: TaskResult) -> Result<TaskResult, Failure> {
        let recorded = Recorded::now(result, &self.line);
        let (until, written) = match self.conduct.crash_report {
            CrashReport::AlwaysFailed => (recorded.since() + PATIENCE, future::ready(()).left_future()),
            // The listener sees what was written and stops renewing: the lease's end is that of this process.
            CrashReport::RecordedResult => {
                let written = recorded.write(&*self.line.clock, &*self.disk, &self.job.job);
                (recorded.since() + PATIENCE + LONGEST_LEASE, written.right_future())
            }
        };
        let mut written = pin!(written.then(|()| future::pending::<Infallible>()).fuse());
        let mut reported = pin!(self.report_until(&recorded, until).fuse());
        select_biased! {
            never = written => match never {},
            reported = reported => reported,
        }
    }

    async fn report_until(&self, recorded: &Recorded, until: Mono) -> Result<TaskResult, Failure> {
        let (job, result) = (&self.job.job, recorded.result);
        let report = Report::until(&self.line, &self.conduct, job, until);
        match &self.job.run_service {
            Some(url) => {
                let service = run_service_of(&self.line, &self.conduct, job, url);
                report.by_run_service(&service, result, Some(recorded.key)).await?;
                Ok(result)
            }
            None => match report.by_event(result, Some(recorded.key)).await {
                Ok(()) => Ok(result),
                Err(failure) if report.is_over(&failure) => match self.conduct.report_replay {
                    ReportReplay::Blind => Ok(TaskResult::Failed),
                    ReportReplay::Keyed => Ok(result),
                },
                Err(failure) => Err(failure),
            },
        }
    }

    /// Asks the job to stop before its lease ends, and ends when the process has to.
    async fn must_end(&self, told: &Told) {
        if self.conduct.pipe_end == PipeEnd::RunsOn {
            future::pending::<()>().await;
        }
        loop {
            let ends = told.lease_ends.until(|ends| *ends).await;
            if self.passes(told, ends, LEASE_MARGIN).await {
                told.cancelled.set(true);
                if self.conduct.kill_deadline == KillDeadline::OnServerCancelOnly {
                    future::pending::<()>().await;
                }
                if self.passes(told, ends, KILL_MARGIN).await {
                    return;
                }
            }
        }
    }

    /// Waits until `margin` before the lease's end; false when the lease was extended meanwhile.
    async fn passes(&self, told: &Told, ends: Mono, margin: Duration) -> bool {
        let left = ends.since(self.line.mono()).saturating_sub(margin);
        if left.is_zero() {
            return true;
        }
        select_biased! {
            () = told.lease_ends.is(|now| *now != Some(ends)).fuse() => false,
            () = self.line.clock.sleep(left).fuse() => true,
        }
    }

    /// Told to end when only the report is left to be made: the result goes to the listener before that kills the process.
    async fn must_end_with(&self, result: &Watch<Option<TaskResult>>, told: &Told) {
        if self.conduct.crash_report == CrashReport::AlwaysFailed {
            future::pending::<()>().await;
        }
        told.cancelled.is(|cancelled| *cancelled).await;
        let asked = self.line.mono();
        result.is(Option::is_some).await;
        // Who is still alive after that time has been left more of it.
        let left = REPORT_GRACE.checked_sub(self.line.mono().since(asked)).unwrap_or(REPORT_GRACE);
        self.line.clock.sleep(left).await;
    }

    async fn must_end_for_next_process(&self, told: &Told) {
        let end_by = told.end_by.until(|end_by| *end_by).await;
        self.line.clock.sleep(end_by.since(self.line.mono())).await;
    }

    /// Takes what comes down the pipe. To the real worker its end says nothing: the reader spins on it
    /// (`StreamString.ReadInt32Async`).
    async fn listen(&self, mut parent: Box<dyn Parent>, told: &Told) -> Infallible {
        while let Some(bytes) = parent.receive().await {
            match ToWorker::from_bytes(&bytes) {
                Some(ToWorker::CancelRequest) => told.cancelled.set(true),
                Some(ToWorker::LeaseExtended { ends }) => {
                    told.lease_ends.set(Some(Mono::from_start(Duration::from_nanos(ends))));
                }
                _ => {}
            }
        }
        match self.conduct.orphaned_worker {
            OrphanedWorker::Ignored => future::pending().await,
            OrphanedWorker::WaitedFor => self.outlive_listener(told).await,
        }
    }

    /// The listener is gone. Its next process has to know of this one, and may write that the job was cancelled.
    async fn outlive_listener(&self, told: &Told) -> Infallible {
        let mut known = false;
        loop {
            known = known || self.make_known(told);
            self.line.clock.sleep(ORPHAN_LOOK).await;
            let in_hand = InHand::read(&*self.disk).filter(|in_hand| in_hand.job_id == self.job.job.job_id);
            if let Some(end_by) = in_hand.and_then(|in_hand| in_hand.end_by()) {
                told.end_by.set(Some(end_by));
                told.cancelled.set(true);
                return future::pending().await;
            }
        }
    }

    /// The disk may have been full whenever the listener wrote. A job that is another worker's by now is not overwritten.
    fn make_known(&self, told: &Told) -> bool {
        let (now, job_id) = (self.line.mono(), self.job.job.job_id);
        let other = InHand::read(&*self.disk).filter(|in_hand| in_hand.job_id != job_id && in_hand.may_live(now));
        match told.lease_ends.get() {
            Some(ends) if other.is_none() => InHand::note(job_id, now, ends, &*self.disk),
            _ => false,
        }
    }
}
