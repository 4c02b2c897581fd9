//! One job at a time (`JobDispatcher.cs`): starting, cancelling, and what a second job does to the first.

use std::collections::{BTreeMap, BTreeSet};
use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, select_biased};
use uuid::Uuid;

use super::conduct::{JobKindField, KillDeadline, OrphanedWorker, RepeatedCancel, SecondJob};
use crate::clock::{self, Mono};
use crate::distributed_task::failure::{Failure, key};
use crate::distributed_task::wire::{JobMessage, TaskAgentMessage, TaskResult, message_type, status};
use crate::signal::Watch;

use super::execute::{self, WORKER_STOP_GRACE};
use super::in_hand::InHand;
use super::station::Station;

/// How long a first job that has its result may take to end when a second one arrives (`JobDispatcher.cs:238-341`).
pub const FINISHED_JOB_GRACE: Duration = Duration::from_secs(45);

/// How often the repaired runner looks whether an orphaned worker has ended, and an orphaned worker whether it is to.
pub(super) const ORPHAN_LOOK: Duration = Duration::from_secs(5);

/// The repaired listener ends so long after it was told to: its supervisor would kill it after 30 s
/// (`RunnerService.js`).
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);

/// By which flow a job came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Whole, in a message of the pool.
    V1,
    /// From the run service at this address.
    RunService(String),
}

/// What became of the message that brought a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The job is ours, or is dealt with.
    Heeded,
    /// The server has given the job to somebody else, or takes it for over.
    NotOurs,
    /// It came to nothing.
    Nothing,
}

/// A job that was handed to the dispatcher.
pub struct Dispatch {
    pub(super) job: JobMessage,
    pub(super) origin: Origin,
    pub(super) cancel: Watch<Cancel>,
    /// Set when its first renewal is answered, or never will be.
    pub(super) fate: Watch<Option<Fate>>,
    /// The messages that wait for that.
    pub(super) settling: Watch<BTreeSet<i64>>,
    done: Watch<Option<Result<TaskResult, Failure>>>,
}

/// What a job was told about its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cancel {
    pub requested: bool,
    /// The worker is to be killed then.
    pub kill_at: Option<Mono>,
}

/// Runs jobs, one after the other as far as it can.
pub struct Dispatcher {
    pub(super) station: Arc<Station>,
    status: Watch<&'static str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The queue of at most one job.
    last: Option<Arc<Dispatch>>,
    /// `_jobInfos`: a second job with the same id is not registered.
    jobs: BTreeMap<Uuid, Arc<Dispatch>>,
    /// `_isRunServiceJob`: how the job came that arrived last.
    by_run_service: bool,
    running: u32,
    orphan: bool,
    /// Cancelled before they came: their messages wait, or come again.
    cancelled: BTreeMap<Uuid, Mono>,
    /// Messages that are deleted once nothing of their jobs is in hand.
    kept: BTreeSet<i64>,
}

impl Dispatcher {
    /// A dispatcher without a job; an orphan of a former process may still have one.
    pub fn new(station: Arc<Station>) -> Arc<Self> {
        let dispatcher =
            Arc::new(Self { station, status: Watch::new(status::ONLINE), state: Mutex::new(State::default()) });
        dispatcher.look_for_orphan();
        dispatcher
    }

    /// What the runner says about itself.
    pub fn status(&self) -> &Watch<&'static str> {
        &self.status
    }

    /// Is a job in hand, or may an orphan of a former process have one?
    pub fn is_busy(&self) -> bool {
        let state = self.state();
        state.running > 0 || state.orphan
    }

    /// Ends when no job is in hand.
    pub async fn idle(&self) {
        // Every change between busy and idle goes through the status.
        self.status.is(|_| !self.is_busy()).await;
    }

    /// A job's message has arrived: from now on all jobs may count as having come its way. An orphan may have made itself
    /// known since this process began.
    pub fn job_arrived(self: &Arc<Self>, message: &TaskAgentMessage) {
        self.state().by_run_service = message.message_type == message_type::RUNNER_JOB_REQUEST;
        self.look_for_orphan();
    }

    /// This very attempt, if it is in hand.
    pub fn in_hand(&self, job: &JobMessage) -> Option<Arc<Dispatch>> {
        let state = self.state();
        let known = state.jobs.get(&job.job_id).filter(|known| known.job.attempt() == job.attempt());
        known.filter(|known| known.done.get().is_none()).cloned()
    }

    /// `JobDispatcher.Run`: starts a job beside the main line.
    pub fn run(self: &Arc<Self>, job: JobMessage, origin: Origin) -> Arc<Dispatch> {
        tracing::info!("Job request {} for plan {} job {} received.", job.request_id, job.plan.plan_id, job.job_id);
        let dispatch = Arc::new(Dispatch {
            job,
            origin,
            cancel: Watch::new(Cancel::default()),
            fate: Watch::new(None),
            settling: Watch::new(BTreeSet::new()),
            done: Watch::new(None),
        });
        let (previous, cancelled) = {
            let mut state = self.state();
            if state.jobs.get(&dispatch.job.job_id).is_none_or(|known| known.done.get().is_some()) {
                state.jobs.insert(dispatch.job.job_id, dispatch.clone());
            }
            state.running += 1;
            (state.last.replace(dispatch.clone()), state.cancelled.remove(&dispatch.job.job_id))
        };
        if let Some(kill_at) = cancelled {
            self.tell(&dispatch, kill_at);
        }
        self.status.set(status::BUSY);
        let (dispatcher, running) = (self.clone(), dispatch.clone());
        self.station.tasks.add(async move {
            let done = dispatcher.one(&running, previous).await;
            if let Err(failure) = &done {
                tracing::warn!("Worker Dispatch failed with an exception for job {}: {failure}", running.job.job_id);
            }
            let fate = if done.is_ok() { Fate::Heeded } else { Fate::Nothing };
            running.fate.change(|known| _ = known.get_or_insert(fate));
            running.done.set(Some(done));
            dispatcher.ended();
        });
        dispatch
    }

    /// `JobDispatcher.Cancel`: tells a job to end within `timeout`, and has its worker killed shortly before.
    pub fn cancel(&self, job: Uuid, timeout: Duration) {
        let kill_at = self.station.line.mono() + self.station.profile.kill.after(timeout);
        self.note_cancellation(job, kill_at);
        let known = self.state().jobs.get(&job).cloned();
        match known {
            Some(dispatch) => self.tell(&dispatch, kill_at),
            None if self.station.conduct.second_job == SecondJob::WaitsForFirst => {
                self.state().cancelled.entry(job).or_insert(kill_at);
            }
            None => {}
        }
    }

    /// A message is to be deleted once nothing of its job is in hand. Is it the first time that somebody says so?
    pub(super) fn keeps(&self, message: i64) -> bool {
        self.state().kept.insert(message)
    }

    /// It is about to be deleted.
    pub(super) fn keeps_no_more(&self, message: i64) {
        self.state().kept.remove(&message);
    }

    fn tell(&self, dispatch: &Dispatch, kill_at: Mono) {
        dispatch.cancel.change(|cancel| {
            cancel.requested = true;
            cancel.kill_at = match (cancel.kill_at, self.station.conduct.repeated_cancel) {
                (Some(first), RepeatedCancel::KeepsFirstDeadline) => Some(first),
                _ => Some(kill_at),
            };
        });
        tracing::info!("Fired cancellation token for job request {}.", dispatch.job.job_id);
    }

    /// Ends when nothing of a job is in hand, be it with a worker of a former process.
    pub async fn is_over(&self, job: Uuid) {
        let known = self.state().jobs.get(&job).cloned();
        match known {
            Some(dispatch) => dispatch.done.until(|done| done.as_ref().map(drop)).await,
            None => self.idle().await,
        }
    }

    /// A worker whose listener is gone has no pipe any more: it looks into the file. That may be a worker of a former
    /// process, or this one's when the next process has come.
    fn note_cancellation(&self, job: Uuid, end_by: Mono) {
        if self.station.conduct.orphaned_worker == OrphanedWorker::WaitedFor
            && let Some(in_hand) = InHand::read(&*self.station.disk).filter(|in_hand| in_hand.job_id == job)
        {
            in_hand.cancel(end_by, &*self.station.disk);
        }
    }

    /// Ends the job in hand, then the session. Where every stop has a deadline, the whole of it has one.
    pub async fn wind_up(&self, end_session: impl Future<Output = Result<(), Failure>>) {
        let work = async {
            self.shutdown().await;
            if let Err(failure) = end_session.await {
                tracing::warn!("Catch exception during delete session: {failure}");
            }
        };
        match self.station.conduct.kill_deadline {
            KillDeadline::OnServerCancelOnly => work.await,
            KillDeadline::Always => {
                if clock::timeout(&*self.station.line.clock, SHUTDOWN_LIMIT, work).await.is_err() {
                    tracing::warn!("Whatever is left to do, the listener ends now.");
                }
            }
        }
    }

    /// `ShutdownAsync`: cancels the job in hand and waits for its end. Whatever a cancellation left to the worker, a
    /// shutdown has a deadline of its own where every stop has one.
    async fn shutdown(&self) {
        let Some(last) = self.state().last.take() else { return };
        match self.station.conduct.kill_deadline {
            KillDeadline::OnServerCancelOnly => last.cancel_without_deadline(),
            KillDeadline::Always => {
                let kill_at = self.station.line.mono() + WORKER_STOP_GRACE;
                last.cancel.change(|cancel| {
                    cancel.requested = true;
                    cancel.kill_at = Some(cancel.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
                });
            }
        }
        last.done.until(|done| done.as_ref().map(drop)).await;
    }

    /// Did this job come by the run service? Where that is written is a choice.
    pub fn is_run_service(&self, dispatch: &Dispatch) -> bool {
        match self.station.conduct.job_kind {
            JobKindField::Shared => self.state().by_run_service,
            JobKindField::PerJob => dispatch.origin != Origin::V1,
        }
    }

    async fn one(&self, dispatch: &Arc<Dispatch>, previous: Option<Arc<Dispatch>>) -> Result<TaskResult, Failure> {
        if let Some(previous) = previous
            && let Err(failure) = self.ensure_finished(dispatch, &previous).await
        {
            // Whoever drops it is done with it: its message is deleted like that of any job.
            dispatch.fate.set(Some(Fate::Heeded));
            return Err(failure);
        }
        execute::execute(self, dispatch).await
    }

    /// `EnsureDispatchFinished`: the first job must have ended before the second starts.
    async fn ensure_finished(&self, next: &Dispatch, previous: &Dispatch) -> Result<(), Failure> {
        if previous.done.get().is_none() && self.station.conduct.second_job == SecondJob::DropsOne {
            tracing::warn!("Job {} arrived while job {} runs.", next.job.job_id, previous.job.job_id);
            if self.is_run_service(next) {
                previous.cancel_without_deadline();
            } else {
                self.ask_about(previous).await?;
            }
        }
        previous.done.until(|done| done.as_ref().map(drop)).await;
        let mut state = self.state();
        if state.jobs.get(&previous.job.job_id).is_some_and(|known| known.done.get().is_some()) {
            state.jobs.remove(&previous.job.job_id);
        }
        Ok(())
    }

    /// V1 asks the server about the first job; an error drops the second one.
    async fn ask_about(&self, previous: &Dispatch) -> Result<(), Failure> {
        let request = match self.station.server.job_request(previous.job.request_id).await {
            Err(failure) => {
                previous.cancel_without_deadline();
                previous.done.until(|done| done.as_ref().map(drop)).await;
                return if failure.is(key::JOB_NOT_FOUND) { Ok(()) } else { Err(failure) };
            }
            Ok(request) => request,
        };
        if request.result.is_none() {
            let text = format!("the previous job request {} has not finished", previous.job.request_id);
            return Err(Failure::InvalidOperation(text));
        }
        previous.cancel_without_deadline();
        let ended = previous.done.until(|done| done.as_ref().map(drop));
        clock::timeout(&*self.station.line.clock, FINISHED_JOB_GRACE, ended)
            .await
            .map_err(|_| Failure::InvalidOperation("the previous job has a result and does not end".into()))
    }

    fn ended(&self) {
        let busy = {
            let mut state = self.state();
            state.running -= 1;
            match self.station.conduct.second_job {
                // Whatever else may be running: the end of any job says so.
                SecondJob::DropsOne => false,
                SecondJob::WaitsForFirst => state.running > 0 || state.orphan,
            }
        };
        self.status.set(if busy { status::BUSY } else { status::ONLINE });
    }

    /// A former process may have left a worker with a job in hand: this one is busy until that has ended.
    fn look_for_orphan(self: &Arc<Self>) {
        if self.station.conduct.orphaned_worker == OrphanedWorker::Ignored || self.is_busy() {
            return;
        }
        let Some(orphan) = InHand::read(&*self.station.disk) else { return };
        if !orphan.may_live(self.station.line.mono()) {
            return;
        }
        tracing::info!("A worker of a former process may still run job {}.", orphan.job_id);
        self.state().orphan = true;
        self.status.set(status::BUSY);
        let dispatcher = self.clone();
        self.station.tasks.add(async move {
            let line = &dispatcher.station.line;
            while InHand::read(&*dispatcher.station.disk).is_some_and(|orphan| orphan.may_live(line.mono())) {
                line.clock.sleep(ORPHAN_LOOK).await;
            }
            dispatcher.state().orphan = false;
            dispatcher.status.set(status::ONLINE);
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatch {
    /// Ends once the job has been told to end.
    pub async fn cancelled(&self) {
        self.cancel.is(|cancel| cancel.requested).await;
    }

    /// Ends when the worker is to be killed, which every repetition of the cancellation may postpone.
    pub async fn kill_due(&self, clock: &dyn clock::Clock) {
        loop {
            let kill_at = self.cancel.get().kill_at;
            let due = async {
                match kill_at {
                    Some(at) => clock.sleep(at.since(clock.mono())).await,
                    None => future::pending().await,
                }
            };
            select_biased! {
                () = due.fuse() => return,
                () = self.cancel.is(|cancel| cancel.kill_at != kill_at).fuse() => {}
            }
        }
    }

    fn cancel_without_deadline(&self) {
        self.cancel.change(|cancel| cancel.requested = true);
    }
}
