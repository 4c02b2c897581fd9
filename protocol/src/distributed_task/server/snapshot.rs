//! The store at a glance, for reports.

use serde::Serialize;
use uuid::Uuid;

use super::Server;
use super::state::Phase;
use crate::distributed_task::wire::TaskResult;

/// The store at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// By number.
    pub agents: Vec<AgentSnapshot>,
    /// In the order in which they were queued.
    pub jobs: Vec<JobSnapshot>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct AgentSnapshot {
    pub id: i64,
    pub name: String,
    pub pool: i64,
    pub online: bool,
    pub busy: bool,
    pub session: Option<Uuid>,
    pub messages: usize,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct JobSnapshot {
    pub job_id: Uuid,
    pub name: String,
    pub pool: i64,
    /// "queued", "offered", "leased" or "closed".
    pub phase: &'static str,
    pub agent: Option<String>,
    pub attempt: u32,
    pub result: Option<TaskResult>,
    pub cancel_requested: bool,
}

impl Server {
    /// The store at this instant.
    pub fn snapshot(&self) -> Snapshot {
        self.with(|state, _| {
            let agents = state.agents.values().map(|agent| AgentSnapshot {
                id: agent.id,
                name: agent.name.to_string(),
                pool: agent.pool,
                online: agent.shown.online,
                busy: agent.shown.busy,
                session: state.sessions.of(&agent.id).map(|session| session.id),
                messages: agent.queue.iter().count(),
            });
            let jobs = state.jobs.values().map(|job| {
                let (phase, holder, result) = match job.phase {
                    Phase::Queued => ("queued", None, None),
                    Phase::Offered(id) => ("offered", Some(id), None),
                    Phase::Leased(id) => ("leased", Some(id), None),
                    Phase::Closed(result) => ("closed", None, Some(result)),
                };
                JobSnapshot {
                    job_id: job.id,
                    name: job.name.to_string(),
                    pool: job.spec.pool,
                    phase,
                    agent: holder.and_then(|id| state.agents.get(&id)).map(|agent| agent.name.to_string()),
                    attempt: job.attempt,
                    result,
                    cancel_requested: job.cancel_requested,
                }
            });
            Snapshot { agents: agents.collect(), jobs: jobs.collect() }
        })
    }
}
