//! The server's store: what survives a restart of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event_listener::Event;
use jiff::Timestamp;
use rand::RngCore;
use uuid::Uuid;

use super::authorization::Denied;
use super::parameters::{Denial, Encryption, Flow, JobSpec, Lifetime, Parameters, Policy};
use crate::deadlines::Deadlines;
use crate::distributed_task::cipher::SessionKey;
use crate::distributed_task::wire::{TaskResult, token_number};
use crate::effect::OnEffect;
use crate::facts::{self, Fact, Ledger};
use crate::jwt::PublicKey;
use crate::lease::LeaseTable;
use crate::queue::MessageQueue;
use crate::random::Random;
use crate::session::{SessionRules, SessionTable};
use crate::token::TokenIssuer;

/// An agent's number.
pub(super) type AgentId = i64;

/// A job's number; the pool's request for it has the same.
pub(super) type JobNumber = i64;

/// What a message is about that is about no job: jobs are numbered from 1.
pub(super) const NO_JOB: JobNumber = 0;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Agent(AgentId),
    /// One attempt at a job.
    Attempt(JobNumber, u32),
}

/// What an agent says about itself in a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    Online,
    Busy,
}

/// A message that an agent is to get.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) about: JobNumber,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

impl Outgoing {
    pub(super) fn new(about: JobNumber, kind: &'static str, body: &impl serde::Serialize) -> Self {
        Self { about, kind, body: serde_json::to_string(body).expect("wire types are plain JSON") }
    }
}

/// What an agent is to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may be given work.
    Member,
    /// It has its last job: it is ephemeral, or to leave the pool.
    HasItsJob,
    /// It is ephemeral, and the job that it was assigned is lost to it. The broker goes on holding its polls, has nothing
    /// to say (actions/runner#4617), and opens no other session for it.
    LostItsJob,
    /// The pool knows it no more.
    Gone,
}

/// A registered agent.
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) name: facts::Agent,
    pub(super) pool: i64,
    pub(super) flow: Flow,
    pub(super) encryption: Encryption,
    pub(super) lifetime: Lifetime,
    pub(super) standing: Standing,
    pub(super) client_id: Uuid,
    pub(super) public_key: PublicKey,
    pub(super) labels: Vec<String>,
    pub(super) queue: MessageQueue<Outgoing>,
    /// By which flow it was heard last.
    pub(super) speaks: Flow,
    /// The key of its session's messages, and whether it was asked for with SHA-256.
    pub(super) session_key: Option<SessionKey>,
    pub(super) use_fips: bool,
    pub(super) reported: Reported,
    /// The jobs that it was offered or has: one, unless the pool overlooked it.
    pub(super) engaged: BTreeSet<JobNumber>,
    /// How often the pool overlooks what it has.
    pub(super) overlooked: Vec<Overlooked>,
    /// The job from the pool without which a broker that is apart will see it.
    pub(super) brings_job: Option<JobNumber>,
    /// Its place among the idle ones.
    pub(super) idle_since: Option<u64>,
    /// The last place that it had there.
    pub(super) idle_before: u64,
    /// As what it was shown last.
    pub(super) shown: Shown,
    /// Wakes its polls.
    pub(super) wake: Arc<Event>,
}

/// As what an agent is shown to those who look at its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) online: bool,
    pub(super) busy: bool,
}

/// The pool offers an agent so many jobs, until then, as if it had none.
pub(super) struct Overlooked {
    pub(super) jobs: u32,
    pub(super) until: Timestamp,
    /// Only as long as it has this one, if one is named.
    pub(super) while_it_has: Option<JobNumber>,
    /// Hears of each of these offers.
    pub(super) on_effect: OnEffect,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for an agent.
    Queued,
    /// An agent has been told of it.
    Offered(AgentId),
    /// An agent has it on a lease.
    Leased(AgentId),
    /// It has ended.
    Closed(TaskResult),
}

/// A job.
pub(super) struct Job {
    pub(super) number: JobNumber,
    pub(super) name: facts::Job,
    pub(super) id: Uuid,
    pub(super) plan: Uuid,
    pub(super) timeline: Uuid,
    pub(super) spec: JobSpec,
    pub(super) phase: Phase,
    /// Attempts begun: how often it has been offered.
    pub(super) attempt: u32,
    /// The token of the lease of the present attempt.
    pub(super) lock: u64,
    /// The broker's name for the present offer.
    pub(super) request: Uuid,
    /// The number of the message that makes the present offer.
    pub(super) offered_by: i64,
    /// The offer that lapsed last, if its number may be used again: to whom it was, and the number.
    pub(super) lapsed: Option<(AgentId, i64)>,
    /// The number of the message that asks its agent to end it.
    pub(super) cancelled_by: Option<i64>,
    pub(super) cancel_requested: bool,
    pub(super) queued_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) logs: i64,
}

/// Everything that the server knows.
pub(super) struct State {
    pub(super) parameters: Arc<Parameters>,
    pub(super) policy: Policy,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) random: Random,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    pub(super) by_client: BTreeMap<Uuid, AgentId>,
    pub(super) pools: BTreeSet<i64>,
    /// Who serves the runners that are registered with the pool.
    pub(super) pool_served_by: Flow,
    pub(super) last_agent: AgentId,
    pub(super) sessions: SessionTable<Uuid, AgentId>,
    pub(super) jobs: BTreeMap<JobNumber, Job>,
    pub(super) by_job: BTreeMap<Uuid, JobNumber>,
    pub(super) by_name: BTreeMap<facts::Job, JobNumber>,
    /// Offers by the broker's name for them.
    pub(super) requests: BTreeMap<Uuid, (JobNumber, u32)>,
    pub(super) waiting: BTreeMap<i64, BTreeSet<JobNumber>>,
    pub(super) idle: BTreeMap<i64, BTreeSet<(u64, AgentId)>>,
    pub(super) idle_counter: u64,
    pub(super) offers: Deadlines<JobNumber>,
    pub(super) leases: LeaseTable<JobNumber, AgentId>,
    pub(super) tokens: TokenIssuer<Subject>,
    pub(super) denials: BTreeMap<(AgentId, Denial), Vec<Denied>>,
    /// The instant that the housekeeping waits for.
    pub(super) watched: Option<Timestamp>,
}

impl State {
    pub(super) fn new(parameters: Arc<Parameters>, policy: Policy, ledger: Arc<dyn Ledger>, random: Random) -> Self {
        let rules = SessionRules {
            life: parameters.session_life,
            on_conflict: policy.on_conflict,
            conflict_extends: parameters.conflict_extends,
        };
        Self {
            leases: LeaseTable::new(parameters.lease_life, policy.fencing),
            sessions: SessionTable::new(rules),
            parameters,
            policy,
            ledger,
            random,
            agents: BTreeMap::new(),
            by_client: BTreeMap::new(),
            pools: BTreeSet::from([1]),
            pool_served_by: Flow::V1,
            last_agent: 0,
            jobs: BTreeMap::new(),
            by_job: BTreeMap::new(),
            by_name: BTreeMap::new(),
            requests: BTreeMap::new(),
            waiting: BTreeMap::new(),
            idle: BTreeMap::new(),
            idle_counter: 0,
            offers: Deadlines::default(),
            tokens: TokenIssuer::default(),
            denials: BTreeMap::new(),
            watched: None,
        }
    }

    /// Ends what has ended by `now`: sessions, offers, leases.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        while let Some(session) = self.sessions.expire(now) {
            self.session_ended(session, facts::SessionEnd::Expired, now);
        }
        while let Some(number) = self.offers.take_due(now) {
            self.offer_lapsed(number, now);
        }
        while let Some((number, lease)) = self.leases.expire(now) {
            self.lease_ended(number, lease.holder, now);
        }
    }

    /// When the next thing will end by itself.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        [self.sessions.next_end(), self.offers.next(), self.leases.next_end()].into_iter().flatten().min()
    }

    pub(super) fn record(&self, fact: Fact) {
        self.ledger.record(fact);
    }

    /// A fresh name.
    pub(super) fn draw_uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A job by the text of its id.
    pub(super) fn job_by_id(&self, id: Uuid) -> Option<&Job> {
        self.jobs.get(self.by_job.get(&id)?)
    }
}

/// The token in a `lockToken`, if it says anything.
pub(super) fn presented(lock_token: Option<Uuid>) -> Option<u64> {
    lock_token.and_then(token_number)
}
