//! The server's store: what survives a restart of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::broker::{Broker, Event, What};
use super::nuisance::Nuisances;
use super::pipeline::{Build, Phase};
use super::redis::{JobKey, Redis};
use crate::bkci::choices::{CancelAttempt, Choices, EventAttempt, LockValue, RowEnd};
use crate::bkci::wire::{AgentStatus, TaskInfo};
use crate::facts::{Fact, Job, Ledger, Outcome};
use crate::random::Random;

/// An agent that is imported.
pub(super) struct AgentRecord {
    pub(super) project: String,
    pub(super) secret: String,
    pub(super) parallel_task_count: u32,
    pub(super) status: AgentStatus,
    /// When it was last heard.
    pub(super) heard: Option<Timestamp>,
    /// When its process last said which builds it has, which it does not at its start.
    pub(super) told: Option<Timestamp>,
    /// The builds that it last said it has.
    pub(super) tasks: Vec<TaskInfo>,
    /// Online and busy, as last shown.
    pub(super) shown: (bool, bool),
}

/// How far a claim is (`T_DISPATCH_THIRDPARTY_AGENT_BUILD.STATUS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowStatus {
    Queue,
    Running,
    Done,
    Failure,
}

/// What an agent is to do. There is one for each job of a build.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) agent: String,
    pub(super) status: RowStatus,
    pub(super) execute_count: u32,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
}

/// Everything that the server knows.
pub(super) struct State {
    pub(super) choices: Choices,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) random: Random,
    /// Draws for what is wrong inside, so that nothing else shifts with it.
    pub(super) mischance: Random,
    pub(super) agents: BTreeMap<String, AgentRecord>,
    pub(super) builds: BTreeMap<String, Build>,
    pub(super) rows: BTreeMap<JobKey, Row>,
    /// To which agents a job was ever given: the key that its worker calls with is good from then on.
    pub(super) credentials: BTreeSet<(JobKey, String)>,
    pub(super) redis: Redis,
    pub(super) broker: Broker,
    pub(super) nuisances: Nuisances,
    pub(super) sections: u64,
}

impl State {
    pub(super) fn record(&self, fact: Fact) {
        self.ledger.record(fact);
    }

    /// The build and job that an event is about, if it is about the present attempt as far as it says.
    pub(super) fn meant(&mut self, event: &Event) -> Option<&mut Build> {
        let build = self.builds.get_mut(&event.build)?;
        let current = event.attempt.is_none_or(|attempt| attempt == build.execute_count);
        (build.ended.is_none() && current).then_some(build)
    }

    /// Sends an event about the present attempt of a build.
    pub(super) fn publish(&mut self, build: &str, what: What, wait: Duration, now: Timestamp) {
        let Some(origin) = self.builds.get(build).map(|build| build.execute_count) else { return };
        let told = match what {
            What::Stage | What::Finish(_) => self.choices.event_attempt == EventAttempt::All,
            What::Cancel => self.choices.cancel_attempt == CancelAttempt::Required,
            _ => true,
        };
        let arrivals = match wait.is_zero() {
            true => self.nuisances.arrivals(&mut self.mischance),
            // What comes after a wait is a repetition, or a check that may come at any time.
            false => vec![super::nuisance::Arrival { after: Duration::ZERO, held_by: None }],
        };
        let event = Event { build: build.to_owned(), attempt: told.then_some(origin), origin, what };
        self.broker.publish(event, now, wait, arrivals);
    }

    /// What the lock of an agent says when a build holds it in an attempt.
    pub(super) fn lock_value(&self, build: &str, attempt: u32) -> String {
        match self.choices.lock_value {
            LockValue::Build => build.to_owned(),
            LockValue::BuildAndAttempt => format!("{build}#{attempt}"),
        }
    }

    /// Ends a job with a result, and lets its stage go on.
    pub(super) fn end_job(&mut self, build_id: &str, seq: u32, outcome: Outcome, now: Timestamp) {
        let Some((name, attempt, leased)) = self.close_job(build_id, seq, outcome, now) else { return };
        if leased {
            self.record(Fact::LeaseReleased { job: name.clone(), attempt });
        }
        self.record(Fact::JobReported { job: name, attempt, outcome, accepted: true });
        self.publish(build_id, What::Stage, Duration::ZERO, now);
    }

    /// Ends a job of which nobody said how it ended.
    pub(super) fn give_job_up(&mut self, build_id: &str, seq: u32, why: &str, now: Timestamp) {
        let Some((name, attempt, leased)) = self.close_job(build_id, seq, Outcome::Failed, now) else { return };
        tracing::warn!("{name} fails: {why}");
        if leased {
            self.record(Fact::LeaseExpired { job: name.clone(), attempt });
        }
        self.record(Fact::JobGivenUp { job: name, attempt });
        self.publish(build_id, What::Stage, Duration::ZERO, now);
    }

    fn close_job(&mut self, build_id: &str, seq: u32, outcome: Outcome, now: Timestamp) -> Option<(Job, u32, bool)> {
        let row_end = self.choices.row_end;
        let build = self.builds.get_mut(build_id)?;
        let (name, attempt) = (build.job_fact(seq), build.execute_count);
        let job = build.job_mut(seq).filter(|job| !job.has_ended())?;
        job.phase = Phase::Ended(outcome);
        let leased = job.started.is_some();
        if let Some(row) = self.rows.get_mut(&(build_id.to_owned(), seq))
            // What no agent has taken yet is taken back in either design.
            && (row_end == RowEnd::WithTheJob || row.status == RowStatus::Queue)
        {
            row.status = if outcome == Outcome::Succeeded { RowStatus::Done } else { RowStatus::Failure };
            row.updated = now;
        }
        Some((name, attempt, leased))
    }

    /// How many builds the rows say that an agent has.
    pub(super) fn load(&self, agent: &str) -> usize {
        let live = |row: &&Row| row.agent == agent && matches!(row.status, RowStatus::Queue | RowStatus::Running);
        self.rows.values().filter(live).count()
    }

    /// Shows what is known about an agent, if it is not what was shown before.
    pub(super) fn show(&mut self, agent_id: &str) {
        let at_work = self.is_at_work(agent_id);
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        let busy = at_work || !agent.tasks.is_empty();
        let shown = (agent.status == AgentStatus::ImportOk && agent.heard.is_some(), busy);
        if agent.shown != shown {
            agent.shown = shown;
            let (online, busy) = shown;
            self.ledger.record(Fact::AgentShown { agent: agent_id.into(), online, busy });
        }
    }

    /// Has a worker of the agent started on a job that has not ended, as far as the server knows?
    fn is_at_work(&self, agent: &str) -> bool {
        let running = self.rows.iter().filter(|(_, row)| row.agent == agent && row.status == RowStatus::Running);
        running
            .filter_map(|((build, seq), _)| self.builds.get(build)?.job(*seq))
            .any(|job| job.started.is_some() && job.phase == Phase::Dispatched)
    }

    /// Does an agent say that it has a job?
    pub(super) fn agent_has(&self, agent: &str, key: &JobKey, execute_count: u32) -> bool {
        self.agents.get(agent).is_some_and(|agent| is_among(&agent.tasks, key, execute_count))
    }
}

/// Is this attempt at a job among those that an agent says it has? One that does not say which attempt it has may have
/// this one.
pub(super) fn is_among(tasks: &[TaskInfo], (build, seq): &JobKey, execute_count: u32) -> bool {
    tasks.iter().any(|task| {
        task.build_id == *build
            && task.vm_seq_id == seq.to_string()
            && task.execute_count.is_none_or(|told| told == execute_count)
    })
}
