//! The lock of an agent that several jobs of a build use one after another (`AgentReuseMutexCmd.kt`).

use std::time::Duration;

use super::broker::{Event, What};
use super::pipeline::{Build, Phase, Place, agent_variable};
use super::redis::{LockName, RedisDown};
use super::section::{DISPATCH_LOCK, of_build};
use super::state::State;
use super::{Server, Trouble};
use crate::bkci::choices::{LockLife, MoveLock, RetryRoot, SiblingLock};
use crate::facts::Outcome;
use crate::lock_store::TryLock;

/// How long the lock is to live.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long it lives when its minutes are taken for seconds.
const WEEK_IN_SECONDS: Duration = Duration::from_secs(10_080 + 2);
/// Between two tries to get it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a job needs before it can be dispatched.
pub(super) enum Need {
    /// Nothing more: the dispatch finds its agent, and locks it if need be.
    Nothing,
    /// The lock of this agent.
    Lock(String),
    /// Somebody else has to get further first.
    Patience,
    /// It never gets it.
    Never(&'static str),
    /// The job whose agent it reuses has failed, and it with it.
    FailsWithRoot,
}

impl Server {
    /// Gets a job the lock of its agent, and hands it on to the dispatch.
    pub(super) async fn find_agent(&self, event: Event, seq: u32) -> Result<(), Trouble> {
        let who = format!("container {} of {}", seq, event.build);
        self.section(of_build(&event.build), DISPATCH_LOCK, who, async {
            self.database().await?;
            self.with(|state, now| {
                let Some(build) = state.meant(&event) else { return Ok(()) };
                let id = build.id.clone();
                if build.job(seq).is_none_or(|job| job.phase != Phase::Locking) {
                    return Ok(());
                }
                let ready = match state.need(&id, seq) {
                    Need::Nothing => true,
                    Need::Lock(agent) => state.lock_in_turn(&id, seq, &agent)?,
                    Need::Patience => false,
                    Need::Never(why) => {
                        state.give_job_up(&id, seq, why, now);
                        return Ok(());
                    }
                    Need::FailsWithRoot => {
                        state.end_job(&id, seq, Outcome::Failed, now);
                        return Ok(());
                    }
                };
                let Some(job) = state.builds.get_mut(&id).and_then(|build| build.job_mut(seq)) else { return Ok(()) };
                match ready {
                    true => {
                        job.phase = Phase::Dispatching;
                        state.publish(&id, What::Dispatch { seq, tries: 0 }, Duration::ZERO, now);
                    }
                    false => state.publish(&id, What::Container(seq), LOOK_AGAIN, now),
                }
                Ok(())
            })
        })
        .await
    }
}

impl State {
    fn need(&self, id: &str, seq: u32) -> Need {
        let build = &self.builds[id];
        let Some(job) = build.job(seq) else { return Need::Never("there is no such job") };
        match &job.spec.place {
            Place::Agent(agent) if self.locks(build, seq) => Need::Lock(agent.clone()),
            Place::Agent(_) | Place::Environment => Need::Nothing,
            Place::SameAs(_) => self.need_of_root(build, build.root_of(seq), job.spec.stage),
        }
    }

    /// What a job needs that uses the agent of another one.
    fn need_of_root(&self, build: &Build, root: u32, stage: u32) -> Need {
        let Some(first) = build.job(root) else { return Need::Never("the job whose agent it reuses does not exist") };
        match first.phase {
            Phase::Ended(Outcome::Succeeded) | Phase::Dispatched => {}
            Phase::Ended(_) if first.spec.stage == stage => return Need::FailsWithRoot,
            _ => return Need::Patience,
        }
        let skipped = first.execute_count < build.execute_count;
        if skipped && self.choices.retry_root == RetryRoot::MissingIsAnError {
            return Need::Never("ERROR_AGENT_REUSE_MUTEX_DEP_NULL_NODE");
        }
        match build.variables.contains_key(&agent_variable(root)) {
            true => Need::Nothing,
            false => Need::Never("no variable says whose agent it reuses"),
        }
    }

    /// Does a job lock its agent?
    pub(super) fn locks(&self, build: &Build, seq: u32) -> bool {
        let skipped = self.choices.sibling_lock == SiblingLock::Skipped && build.has_sibling(build.root_of(seq));
        !skipped
    }

    /// Waits in the queue of an agent's lock, and takes it in turn.
    fn lock_in_turn(&mut self, id: &str, seq: u32, agent: &str) -> Result<bool, RedisDown> {
        let value = self.lock_value(id, self.builds[id].execute_count);
        if !self.redis.join_queue(agent, &value)? || !self.lock_agent(id, seq, agent)? {
            return Ok(false);
        }
        self.redis.leave_queues(&value)?;
        Ok(true)
    }

    /// Takes the lock of an agent for the present attempt of a build, if nobody else has it.
    pub(super) fn lock_agent(&mut self, id: &str, seq: u32, agent: &str) -> Result<bool, RedisDown> {
        let value = self.lock_value(id, self.builds[id].execute_count);
        let life = match self.choices.lock_life {
            LockLife::InSeconds => WEEK_IN_SECONDS,
            LockLife::Week => WEEK,
        };
        let tried = self.redis.try_lock(&LockName::Reuse(agent.to_owned()), &value, life, id)?;
        let taken = matches!(tried, TryLock::Taken(_) | TryLock::ReEntered(_));
        if taken && let Some(build) = self.builds.get_mut(id) {
            let before = build.holds.insert(build.root_of(seq), agent.to_owned());
            // It has moved to another node. What started on the former one together with it may still be at work there.
            if let Some(before) =
                before.filter(|before| before != agent && self.choices.move_lock == MoveLock::GivenBack)
            {
                match build.is_at_work_on(&before) {
                    true => drop(build.left.insert(before)),
                    false => self.unlock(&[before], &value)?,
                }
            }
        }
        Ok(taken)
    }

    /// Gives the locks of agents back, as far as they have this value.
    pub(super) fn unlock(&mut self, agents: &[String], value: &str) -> Result<(), RedisDown> {
        agents.iter().try_for_each(|agent| self.redis.unlock(&LockName::Reuse(agent.clone()), value))
    }

    /// Could a build take the lock of an agent?
    pub(super) fn could_lock(&mut self, id: &str, agent: &str) -> Result<bool, RedisDown> {
        let value = self.lock_value(id, self.builds[id].execute_count);
        let holder = self.redis.holder(&LockName::Reuse(agent.to_owned()))?;
        Ok(holder.is_none_or(|holder| holder == value))
    }
}
