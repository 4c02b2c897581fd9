//! The dispatch: a job is put into the queue of its agent (`TPASingleQueueService.kt`, `TPAQueueService.kt`).

use std::time::Duration;

use jiff::Timestamp;
use rand::RngCore;

use super::broker::{Event, What};
use super::pipeline::{Phase, Place, agent_variable};
use super::redis::{LockName, RedisDown};
use super::section::{DISPATCH_LOCK, of_agent};
use super::state::{Row, RowStatus, State};
use super::{Server, Trouble};
use crate::bkci::choices::{EnvQueueLock, VariableFailure, VariableRewrite};
use crate::bkci::wire::AgentStatus;
use crate::facts::Fact;
use crate::lock_store::TryLock;

/// Between two tries to dispatch a job (`DispatchRetryMQException`).
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How often it is tried: 12 times a minute for 10 min.
const TRIES: u32 = 12 * 10;
/// When somebody looks whether the job's worker has started (`DispatchVMStartupTaskAtom.kt:454`).
pub(super) const START_CHECK: Duration = Duration::from_secs(210);
/// How long the lock of the environment's queue lives that travels in an event (`ENV_LOCK_TIME_OUT_7D`).
const ENV_QUEUE_LOCK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long such an event is under way (`delayMills`).
const ENV_QUEUE_DELAY: Duration = Duration::from_secs(5);

impl Server {
    pub(super) async fn dispatch(&self, event: Event, seq: u32, tries: u32) -> Result<(), Trouble> {
        let from_environment = self.with(|state, _| {
            let build = state.meant(&event)?;
            Some(build.job(build.root_of(seq))?.spec.place == Place::Environment && build.root_of(seq) == seq)
        });
        let put = match (from_environment, self.0.choices.env_queue_lock) {
            (None, _) => return Ok(()),
            (Some(true), EnvQueueLock::SevenDays) => self.enter_env_queue(&event, seq, tries).await?,
            (Some(true), EnvQueueLock::Minute) => self.in_env_queue(&event, seq).await?,
            (Some(false), _) => self.put_into_queue(&event, seq).await?,
        };
        if put == Put::NotYet {
            self.try_again(&event, seq, tries);
        }
        Ok(())
    }

    fn try_again(&self, event: &Event, seq: u32, tries: u32) {
        self.with(|state, now| match (state.is_dispatching(event, seq), tries + 1 < TRIES) {
            (true, true) => state.publish(&event.build, What::Dispatch { seq, tries: tries + 1 }, TRY_AGAIN, now),
            (true, false) => state.give_job_up(&event.build, seq, "no agent had room for it in time", now),
            (false, _) => {}
        });
    }

    /// Puts a job into its agent's queue while nobody else dispatches to the environment.
    async fn in_env_queue(&self, event: &Event, seq: u32) -> Result<Put, Trouble> {
        // An event that is delivered again goes on with the lock.
        let value = format!("{}#{}:{:?}", event.build, event.origin, event.what);
        if !self.lock_env_queue(event, &value, DISPATCH_LOCK)? {
            return Ok(Put::NotYet);
        }
        let done = self.put_into_queue(event, seq).await;
        self.unlock_env_queue(&value);
        done
    }

    /// Locks the environment's queue and sends an event that goes on with the lock (`TPAQueueService.dispatch`).
    async fn enter_env_queue(&self, event: &Event, seq: u32, tries: u32) -> Result<Put, Trouble> {
        let value = self.with(|state, _| state.random.next_u64()).to_string();
        if !self.lock_env_queue(event, &value, ENV_QUEUE_LOCK)? {
            return Ok(Put::NotYet);
        }
        // The build's log is told, which is another service's.
        if let Err(trouble) = self.database().await {
            self.unlock_env_queue(&value);
            return Err(trouble);
        }
        self.with(|state, now| state.publish(&event.build, What::EnvQueue { seq, tries, value }, ENV_QUEUE_DELAY, now));
        Ok(Put::Done)
    }

    /// Goes on with the lock of the environment's queue. What goes wrong is logged, and the event is done with
    /// (`TPAQueueService.doQueue`).
    pub(super) async fn take_from_env_queue(&self, event: Event, seq: u32, tries: u32, value: &str) {
        let put = self.put_into_queue(&event, seq).await;
        self.unlock_env_queue(value);
        match put {
            Ok(Put::Done | Put::NotWanted) => {}
            Ok(Put::NotYet) => self.try_again(&event, seq, tries),
            Err(trouble) => {
                tracing::warn!("doEnvQueue of {}/{seq}: {trouble}", event.build);
                self.try_again(&event, seq, tries);
            }
        }
    }

    /// Locks the environment's queue for a dispatch of a build. Returns whether nobody else had it.
    fn lock_env_queue(&self, event: &Event, value: &str, life: Duration) -> Result<bool, Trouble> {
        let tried = self.with(|state, _| state.redis.try_lock(&LockName::EnvQueue, value, life, &event.build))?;
        Ok(!matches!(tried, TryLock::Held(_)))
    }

    /// What cannot be given back ends by itself, some day.
    fn unlock_env_queue(&self, value: &str) {
        if let Err(trouble) = self.with(|state, _| state.redis.unlock(&LockName::EnvQueue, value)) {
            tracing::warn!("the lock of the environment's queue stays: {trouble}");
        }
    }

    async fn put_into_queue(&self, event: &Event, seq: u32) -> Result<Put, Trouble> {
        let Some(agent) = self.with(|state, _| state.choose_agent(event, seq))? else { return Ok(Put::NotYet) };
        let who = format!("dispatch of {}/{seq}", event.build);
        self.section(of_agent(&agent), DISPATCH_LOCK, who, async {
            let locked = self.with(|state, _| state.take_for_dispatch(event, seq, &agent))?;
            if locked != Some(true) {
                return Ok(if locked.is_none() { Put::NotWanted } else { Put::NotYet });
            }
            if let Err(trouble) = self.database().await {
                tracing::warn!("setContextVar of {}/{seq}: {trouble}", event.build);
                if self.0.choices.variable_failure == VariableFailure::TriedAgain {
                    return Ok(Put::NotYet);
                }
            } else {
                self.with(|state, _| state.write_agent(event, seq, &agent));
            }
            self.database().await?;
            self.with(|state, now| state.add_row(event, seq, &agent, now));
            Ok(Put::Done)
        })
        .await
    }
}

/// What became of a try to dispatch a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    /// It is in its agent's queue.
    Done,
    /// There is no room for it at present.
    NotYet,
    /// Nobody wants it dispatched any more.
    NotWanted,
}

impl State {
    /// Is the job to be dispatched still?
    fn is_dispatching(&mut self, event: &Event, seq: u32) -> bool {
        let job = self.meant(event).and_then(|build| build.job(seq));
        job.is_some_and(|job| job.phase == Phase::Dispatching)
    }

    /// The agent on which a job should run; `None` when there is none at present.
    fn choose_agent(&mut self, event: &Event, seq: u32) -> Result<Option<String>, RedisDown> {
        let Some(build) = self.meant(event) else { return Ok(None) };
        let root = build.root_of(seq);
        let own = build.job(seq).map(|job| (job.spec.place.clone(), job.avoid.clone()));
        match own {
            Some((Place::Agent(agent), _)) => Ok(Some(agent)),
            Some((Place::SameAs(_), _)) => Ok(build.variables.get(&agent_variable(root)).cloned()),
            Some((Place::Environment, avoid)) => {
                let names: Vec<String> = self.agents.keys().filter(|name| !avoid.contains(*name)).cloned().collect();
                for agent in names {
                    if self.has_room(&agent) && self.could_lock(&event.build, &agent)? {
                        return Ok(Some(agent));
                    }
                }
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn has_room(&self, agent: &str) -> bool {
        self.agents.get(agent).is_some_and(|record| {
            record.status == AgentStatus::ImportOk && self.load(agent) < record.parallel_task_count as usize
        })
    }

    /// Locks the agent for a job that is to be dispatched to it. `None` when it is not to be any more.
    fn take_for_dispatch(&mut self, event: &Event, seq: u32, agent: &str) -> Result<Option<bool>, RedisDown> {
        if !self.is_dispatching(event, seq) {
            return Ok(None);
        }
        let locks = self.locks(&self.builds[&event.build], seq);
        if locks && !self.lock_agent(&event.build, seq, agent)? {
            return Ok(Some(false));
        }
        self.offer(&event.build, seq, agent);
        Ok(Some(self.has_room(agent)))
    }

    /// From now on the job waits for this agent and for nothing else.
    fn offer(&mut self, id: &str, seq: u32, agent: &str) {
        let Some(build) = self.builds.get_mut(id) else { return };
        let (name, attempt) = (build.job_fact(seq), build.execute_count);
        if let Some(job) = build.job_mut(seq).filter(|job| !job.offered) {
            job.offered = true;
            self.record(Fact::JobOffered { job: name, attempt, agent: agent.into() });
        }
    }

    /// Writes down for the jobs that reuse it which agent a job has.
    fn write_agent(&mut self, event: &Event, seq: u32, agent: &str) {
        let rewrite = self.choices.variable_rewrite;
        let Some(build) = self.meant(event) else { return };
        let variable = agent_variable(seq);
        if rewrite == VariableRewrite::Rewritten || !build.variables.contains_key(&variable) {
            build.variables.insert(variable, agent.to_owned());
        }
    }

    /// Puts the job into its agent's queue, in the row that it had in an earlier attempt if there is one.
    fn add_row(&mut self, event: &Event, seq: u32, agent: &str, now: Timestamp) {
        if !self.is_dispatching(event, seq) {
            return;
        }
        let Some(build) = self.builds.get_mut(&event.build) else { return };
        let execute_count = build.execute_count;
        let Some(job) = build.job_mut(seq) else { return };
        job.phase = Phase::Dispatched;
        job.agent = Some(agent.to_owned());
        let key = (event.build.clone(), seq);
        let row = Row { agent: agent.to_owned(), status: RowStatus::Queue, execute_count, created: now, updated: now };
        self.rows.insert(key.clone(), row);
        self.credentials.insert((key, agent.to_owned()));
        self.publish(&event.build, What::StartCheck(seq), START_CHECK, now);
    }
}
