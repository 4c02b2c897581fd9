//! What the server looks at from time to time: workers that do not start, workers that are silent, agents that are.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;

use super::broker::{Event, What};
use super::dispatch::START_CHECK;
use super::pipeline::Phase;
use super::state::{RowStatus, State};
use super::{Server, Trouble};
use crate::bkci::choices::{CancelLease, MissingHeartbeat, RollBack};
use crate::bkci::wire::AgentStatus;
use crate::facts::Fact;

/// A claim of this age is rolled back (`ThirdPartyAgentMonitorService.kt:250-275`).
const ROLL_BACK_AGE: Duration = Duration::from_secs(3 * 60);
/// A job whose worker has not started by then has failed (`prepareTimeout`).
const PREPARE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// How long a worker may be silent (`HeartbeatControl.kt:60`).
pub const WORKER_LEASE: Duration = Duration::from_secs(10 * 60);
/// How long a worker may be silent that was asked to end (`HeartbeatControl.kt:61`).
const CANCEL_LEASE: Duration = Duration::from_secs(20);
/// Between two looks at the heartbeats of a job.
const HEARTBEAT_CHECK: Duration = Duration::from_secs(120);
/// Between two looks at the agents (`env_cron_agent_heartbeat_check`).
const AGENT_CHECK: Duration = Duration::from_secs(10);
/// An agent that is silent for so long is offline.
const AGENT_SILENCE: Duration = Duration::from_secs(50);

/// For how long from `then` to `now`.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_until(now)).unwrap_or_default()
}

impl Server {
    pub(super) async fn check_start(&self, event: Event, seq: u32) -> Result<(), Trouble> {
        self.database().await?;
        self.with(|state, now| state.check_start(&event, seq, now));
        Ok(())
    }

    pub(super) async fn check_heartbeat(&self, event: Event, seq: u32) -> Result<(), Trouble> {
        self.database().await?;
        self.with(|state, now| state.check_heartbeat(&event, seq, now))
    }

    pub(super) async fn watch_agents(&self) -> Infallible {
        loop {
            self.0.clock.sleep(AGENT_CHECK).await;
            self.with(|state, now| {
                state.redis.expire();
                let silent = state.agents.iter_mut().filter(|(_, agent)| {
                    agent.status == AgentStatus::ImportOk
                        && agent.heard.is_none_or(|heard| since(heard, now) > AGENT_SILENCE)
                });
                let names: Vec<String> = silent
                    .map(|(name, agent)| {
                        agent.status = AgentStatus::ImportException;
                        name.clone()
                    })
                    .collect();
                names.iter().for_each(|name| state.show(name));
            });
        }
    }
}

impl State {
    fn check_start(&mut self, event: &Event, seq: u32, now: Timestamp) {
        let Some(build) = self.meant(event) else { return };
        let (id, name) = (build.id.clone(), build.job_fact(seq));
        let waiting = |job: &&super::pipeline::JobRun| job.phase == Phase::Dispatched && job.started.is_none();
        let Some(agent) = build.job(seq).filter(waiting).and_then(|job| job.agent.clone()) else { return };
        let key = (id.clone(), seq);
        let Some(execute_count) = self.rows.get(&key).map(|row| row.execute_count) else { return };
        let has = self.agent_has(&agent, &key, execute_count);
        let told = self.agents.get(&agent).and_then(|agent| agent.told);
        let roll_back = self.choices.roll_back;
        let Some(row) = self.rows.get_mut(&key) else { return };
        let age = since(row.updated, now);
        if since(row.created, now) >= PREPARE_TIMEOUT && age >= PREPARE_TIMEOUT {
            return self.give_job_up(&id, seq, "its worker did not start in time", now);
        }
        let known_idle = match roll_back {
            RollBack::ByAge => true,
            RollBack::UnlessTheAgentHasIt => !has && told.is_some_and(|told| told > row.updated),
        };
        if row.status == RowStatus::Running && age > ROLL_BACK_AGE && known_idle {
            (row.status, row.updated) = (RowStatus::Queue, now);
            let attempt = row.execute_count;
            self.record(Fact::JobRequeued { job: name.clone(), attempt });
            self.record(Fact::JobOffered { job: name, attempt, agent: agent.as_str().into() });
        }
        self.publish(&id, What::StartCheck(seq), START_CHECK, now);
    }

    fn check_heartbeat(&mut self, event: &Event, seq: u32, now: Timestamp) -> Result<(), Trouble> {
        let Some(build) = self.meant(event) else { return Ok(()) };
        let id = build.id.clone();
        let Some(job) = build.job(seq).filter(|job| job.phase == Phase::Dispatched) else { return Ok(()) };
        let Some((started, _)) = job.started else { return Ok(()) };
        let asked = job.cancel_requested;
        let heard = match (self.redis.last_beat(&(id.clone(), seq), now)?, self.choices.missing_heartbeat) {
            (Some(beat), _) => beat.max(started),
            (None, MissingHeartbeat::Silence) => started,
            (None, MissingHeartbeat::EndsTheMonitor) => {
                tracing::warn!("no heartbeat of {id}/{seq} on record");
                return Ok(());
            }
        };
        let short = asked && self.choices.cancel_lease == CancelLease::TwentySeconds;
        let (lease, pause) = if short { (CANCEL_LEASE, CANCEL_LEASE) } else { (WORKER_LEASE, HEARTBEAT_CHECK) };
        match since(heard, now) > lease {
            true => self.give_job_up(&id, seq, "its worker is not heard any more", now),
            false => self.publish(&id, What::HeartbeatCheck(seq), pause, now),
        }
        Ok(())
    }

    /// From now on somebody looks at the heartbeats of a job.
    pub(super) fn watch(&mut self, id: &str, seq: u32, now: Timestamp) {
        self.publish(id, What::HeartbeatCheck(seq), HEARTBEAT_CHECK, now);
    }

    /// A worker that was asked to end is looked at sooner.
    pub(super) fn watch_cancelled(&mut self, id: &str, seq: u32, now: Timestamp) {
        if self.choices.cancel_lease == CancelLease::TwentySeconds {
            self.publish(id, What::HeartbeatCheck(seq), CANCEL_LEASE, now);
        }
    }
}
