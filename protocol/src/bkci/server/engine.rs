//! The engine: builds start, go from stage to stage, are cancelled, end, and are retried.

use std::time::Duration;

use jiff::Timestamp;

use super::broker::{Event, What};
use super::pipeline::{Build, BuildSpec, Phase, names_agent};
use super::section::{BUILD_LOCK, of_build};
use super::state::State;
use super::{Refusal, Server, Trouble};
use crate::bkci::choices::{CancelDelivery, LocksFound, QueueLeave, Release};
use crate::facts::{Fact, Outcome};

impl Server {
    /// Starts a build.
    ///
    /// # Errors
    /// [`Refusal::NotNew`].
    pub fn start_build(&self, spec: BuildSpec) -> Result<(), Refusal> {
        self.with(|state, now| {
            if spec.jobs.is_empty() || state.builds.contains_key(&spec.name) {
                return Err(Refusal::NotNew);
            }
            let build = Build::new(spec);
            let id = build.id.clone();
            state.record(Fact::JobQueued { job: build.fact() });
            state.builds.insert(id.clone(), build);
            state.publish(&id, What::Stage, Duration::ZERO, now);
            Ok(())
        })
    }

    /// Retries the jobs of a build that failed: the same build, a new attempt (`PipelineBuildRetryService.retry`).
    ///
    /// # Errors
    /// [`Refusal::NoSuchBuild`] and [`Refusal::NotFailed`].
    pub fn retry_build(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state, now| {
            let build = state.builds.get_mut(id).ok_or(Refusal::NoSuchBuild)?;
            if build.ended.is_none_or(|outcome| outcome == Outcome::Succeeded) {
                return Err(Refusal::NotFailed);
            }
            build.execute_count += 1;
            (build.ended, build.cancelled, build.end_asked) = (None, false, false);
            let attempt = build.execute_count;
            let again = |phase: Phase| phase != Phase::Ended(Outcome::Succeeded);
            build.jobs.iter_mut().filter(|job| again(job.phase)).for_each(|job| job.reset(attempt));
            build.stage = build.jobs.iter().filter(|job| again(job.phase)).map(|job| job.spec.stage).min().unwrap_or(0);
            let job = build.fact();
            state.record(Fact::JobQueued { job });
            state.publish(id, What::Stage, Duration::ZERO, now);
            Ok(())
        })
    }

    /// Asks for the end of a build. One that has ended stays as it is.
    ///
    /// # Errors
    /// [`Refusal::NoSuchBuild`].
    pub fn cancel_build(&self, id: &str) -> Result<(), Refusal> {
        self.with(|state, now| {
            let build = state.builds.get_mut(id).ok_or(Refusal::NoSuchBuild)?;
            if build.ended.is_some() {
                return Ok(());
            }
            build.end_asked = true;
            let open = build.jobs.iter().filter(|job| !job.has_ended());
            let mut asked: Vec<_> = open.map(|job| build.job_fact(job.seq)).collect();
            asked.push(build.fact());
            asked.into_iter().for_each(|job| state.record(Fact::JobCancelRequested { job }));
            state.publish(id, What::Cancel, Duration::ZERO, now);
            Ok(())
        })
    }

    pub(super) async fn handle(&self, event: Event) -> Result<(), Trouble> {
        match event.what.clone() {
            What::Stage => self.step(event, |state, event, now| state.go_on(&event.build, now)).await,
            What::Cancel => self.step(event, |state, event, now| state.cancel_jobs(&event.build, now)).await,
            What::Finish(outcome) => self.finish(event, outcome).await,
            What::Release { agents, value } => self.give_back(&agents, &value).await,
            What::Container(seq) => self.find_agent(event, seq).await,
            What::Dispatch { seq, tries } => self.dispatch(event, seq, tries).await,
            What::EnvQueue { seq, tries, value } => {
                self.take_from_env_queue(event, seq, tries, &value).await;
                Ok(())
            }
            What::StartCheck(seq) => self.check_start(event, seq).await,
            What::HeartbeatCheck(seq) => self.check_heartbeat(event, seq).await,
        }
    }

    /// One step of a build, under its lock.
    async fn step(&self, event: Event, act: impl FnOnce(&mut State, &Event, Timestamp) + Send) -> Result<(), Trouble> {
        let who = format!("{:?} of {}", event.what, event.build);
        self.section(of_build(&event.build), BUILD_LOCK, who, async {
            self.database().await?;
            self.with(|state, now| {
                if state.meant(&event).is_some() {
                    act(state, &event, now);
                }
            });
            Ok(())
        })
        .await
    }

    /// Ends a build (`BuildEndControl.finish`).
    async fn finish(&self, event: Event, outcome: Outcome) -> Result<(), Trouble> {
        let who = format!("the end of {}", event.build);
        self.section(of_build(&event.build), BUILD_LOCK, who, async {
            self.database().await?;
            let ended = self.with(|state, now| state.end_build(&event, outcome, now));
            let Some(attempt) = ended.filter(|_| self.0.choices.release == Release::AfterTheEnd) else { return Ok(()) };
            self.database().await?;
            let (agents, value) =
                self.with(|state, _| (state.locked_agents(&event.build), state.lock_value(&event.build, attempt)));
            self.give_back(&agents, &value).await
        })
        .await
    }

    async fn give_back(&self, agents: &[String], value: &str) -> Result<(), Trouble> {
        self.with(|state, _| {
            if state.choices.queue_leave == QueueLeave::AtTheEnd {
                state.redis.leave_queues(value)?;
            }
            state.unlock(agents, value)
        })?;
        Ok(())
    }
}

impl State {
    /// Starts the jobs of the present stage, or goes on when they have ended.
    fn go_on(&mut self, id: &str, now: Timestamp) {
        let Some(build) = self.builds.get_mut(id) else { return };
        let in_stage = |job: &&mut super::pipeline::JobRun, stage: u32| job.spec.stage == stage;
        let stage = build.stage;
        let waiting = build.jobs.iter_mut().filter(|job| in_stage(job, stage) && job.phase == Phase::Waiting);
        let mut begun = Vec::new();
        for job in waiting {
            job.phase = Phase::Locking;
            begun.push(job.seq);
        }
        for seq in &begun {
            let (job, end_asked) = (self.builds[id].job_fact(*seq), self.builds[id].end_asked);
            self.record(Fact::JobQueued { job: job.clone() });
            if end_asked {
                self.record(Fact::JobCancelRequested { job });
            }
            self.publish(id, What::Container(*seq), Duration::ZERO, now);
        }
        let build = &self.builds[id];
        if build.jobs.iter().any(|job| job.spec.stage == stage && !job.has_ended()) {
            return;
        }
        let bad = |outcome| build.jobs.iter().any(|job| job.spec.stage <= stage && job.phase == Phase::Ended(outcome));
        let next = build.jobs.iter().map(|job| job.spec.stage).filter(|next| *next > stage).min();
        let what = match next {
            _ if build.cancelled || bad(Outcome::Cancelled) => What::Finish(Outcome::Cancelled),
            _ if bad(Outcome::Failed) || bad(Outcome::Abandoned) => What::Finish(Outcome::Failed),
            Some(_) => What::Stage,
            None => What::Finish(Outcome::Succeeded),
        };
        if what == What::Stage
            && let (Some(build), Some(next)) = (self.builds.get_mut(id), next)
        {
            build.stage = next;
        }
        self.publish(id, what, Duration::ZERO, now);
    }

    /// Marks a build as ended. Returns the attempt that ended.
    fn end_build(&mut self, event: &Event, outcome: Outcome, now: Timestamp) -> Option<u32> {
        let build = self.meant(event)?;
        build.ended = Some(outcome);
        let (id, attempt, job) = (build.id.clone(), build.execute_count, build.fact());
        // Whatever the build's attempt, the result is that of the event's.
        self.record(Fact::JobReported { job, attempt: event.origin, outcome, accepted: true });
        if self.choices.release == Release::WithTheEnd {
            let (agents, value) = (self.locked_agents(&id), self.lock_value(&id, attempt));
            self.publish(&id, What::Release { agents, value }, Duration::ZERO, now);
        }
        Some(attempt)
    }

    /// The agents whose locks a build has to give back.
    fn locked_agents(&mut self, id: &str) -> Vec<String> {
        let Some(build) = self.builds.get_mut(id) else { return Vec::new() };
        match self.choices.locks_found {
            LocksFound::ByVariables => {
                let variables = build.variables.iter().filter(|(name, _)| names_agent(name));
                variables.map(|(_, agent)| agent.clone()).collect()
            }
            LocksFound::ByRecord => {
                let held = std::mem::take(&mut build.holds).into_values();
                held.chain(std::mem::take(&mut build.left)).collect()
            }
        }
    }

    /// Ends what of a build has not started, and lets workers be told to end the rest.
    fn cancel_jobs(&mut self, id: &str, now: Timestamp) {
        let Some(build) = self.builds.get_mut(id) else { return };
        build.cancelled = true;
        let mut ended = Vec::new();
        for job in build.jobs.iter_mut().filter(|job| !job.has_ended()) {
            match job.started {
                Some(_) => {
                    job.cancel_requested = true;
                    job.cancel_tasks.insert(job.task_id());
                }
                None => ended.push(job.seq),
            }
        }
        let running: Vec<u32> =
            build.jobs.iter().filter(|job| job.cancel_requested && !job.has_ended()).map(|job| job.seq).collect();
        for seq in ended {
            self.end_job(id, seq, Outcome::Cancelled, now);
        }
        for seq in running {
            self.watch_cancelled(id, seq, now);
        }
        self.publish(id, What::Stage, Duration::ZERO, now);
    }

    /// The tasks that a worker is to be told to end, in the answer that is being made.
    pub(super) fn tasks_to_cancel(&mut self, id: &str, seq: u32) -> std::collections::BTreeSet<String> {
        let delivery = self.choices.cancel_delivery;
        let Some(job) = self.builds.get_mut(id).and_then(|build| build.job_mut(seq)) else { return Default::default() };
        match delivery {
            CancelDelivery::PoppedBeforeDelivery => std::mem::take(&mut job.cancel_tasks),
            CancelDelivery::KeptUntilTheEnd => job.cancel_tasks.clone(),
        }
    }
}
