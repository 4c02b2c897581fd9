//! The service's store: what survives a restart of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event_listener::Event;
use jiff::Timestamp;
use rand::RngCore;
use uuid::Uuid;

use super::parameters::{Parameters, Policy};
use crate::arc::wire::{JobFields, Label, NEVER, ScaleSet as WireSet, Statistics};
use crate::deadlines::Deadlines;
use crate::effect::OnEffect;
use crate::facts::{self, Fact, Ledger, SessionEnd};
use crate::queue::{Cursor, MessageQueue};
use crate::random::Random;
use crate::session::{SessionRules, SessionTable};
use crate::token::TokenIssuer;

/// A scale set's number.
pub(super) type SetId = i64;
/// A job's number.
pub(super) type JobNumber = i64;
/// The number of one attempt at a job, `runnerRequestId` on the wire.
pub(super) type RequestId = i64;
/// A runner's number.
pub(super) type RunnerId = i64;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Whoever may register runners with this credential.
    Registration(String),
    /// Whoever administers scale sets with this credential.
    Admin(String),
    /// Whoever holds this session.
    Queue(SetId, Uuid),
}

/// Something that a listener is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    Available(RequestId),
    Assigned(RequestId),
    Started(RequestId, RunnerId),
    Completed(RequestId, RunnerId),
}

/// A message: what one poll hands out.
#[derive(Clone, Debug)]
pub(super) enum Envelope {
    Jobs(Vec<News>),
    /// A type that no listener knows.
    Novel,
}

pub(super) struct ScaleSet {
    pub(super) id: SetId,
    pub(super) name: facts::Agent,
    pub(super) wire: WireSet,
    pub(super) queue: MessageQueue<Envelope>,
    /// What no message tells of yet.
    pub(super) pending: Vec<News>,
    /// The capacity that the last poll said.
    pub(super) capacity: usize,
    /// Wakes its polls.
    pub(super) wake: Arc<Event>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits to become a scale set's.
    Queued,
    /// It is a scale set's and waits for a runner.
    Assigned,
    /// A runner has it.
    Running(RunnerId),
    /// It has ended.
    Closed,
}

pub(super) struct Job {
    pub(super) number: JobNumber,
    pub(super) name: facts::Job,
    pub(super) set: String,
    pub(super) phase: Phase,
    /// Attempts begun: how often it has become a scale set's.
    pub(super) attempt: u32,
    /// The number of the present attempt, or of the one to come.
    pub(super) request: RequestId,
    /// It has been told of, and not yet acquired.
    pub(super) told: bool,
    pub(super) requeued: u32,
    pub(super) queued_at: Timestamp,
    pub(super) assigned_at: Timestamp,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
    pub(super) result: Option<facts::Outcome>,
}

pub(super) struct Runner {
    pub(super) id: RunnerId,
    pub(super) name: facts::Agent,
    pub(super) set: SetId,
    pub(super) job: Option<JobNumber>,
}

/// Everything that the service knows.
pub(super) struct State {
    pub(super) parameters: Arc<Parameters>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) random: Random,
    /// The credentials that are known, and whose they are.
    pub(super) credentials: BTreeMap<String, facts::Agent>,
    pub(super) tokens: TokenIssuer<Subject>,
    pub(super) sets: BTreeMap<SetId, ScaleSet>,
    pub(super) sessions: SessionTable<Uuid, SetId>,
    pub(super) jobs: BTreeMap<JobNumber, Job>,
    pub(super) by_request: BTreeMap<RequestId, JobNumber>,
    pub(super) by_name: BTreeMap<facts::Job, JobNumber>,
    pub(super) open: BTreeSet<JobNumber>,
    pub(super) runners: BTreeMap<RunnerId, Runner>,
    pub(super) last_number: i64,
    /// When a job that was told of is told of again.
    pub(super) retold: Deadlines<JobNumber>,
    /// When an assigned job that nobody picked up is queued again.
    pub(super) pickups: Deadlines<JobNumber>,
    /// When a job whose runner is gone is given up.
    pub(super) orphans: Deadlines<JobNumber>,
    /// Until when messages lack their statistics.
    pub(super) no_statistics: Option<(Timestamp, OnEffect)>,
    /// When tokens that are new become known everywhere.
    pub(super) known_from: BTreeMap<String, Timestamp>,
    /// Wakes runners that ask for a job.
    pub(super) work: Arc<Event>,
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
            parameters,
            ledger,
            random,
            credentials: BTreeMap::new(),
            tokens: TokenIssuer::default(),
            sets: BTreeMap::new(),
            sessions: SessionTable::new(rules),
            jobs: BTreeMap::new(),
            by_request: BTreeMap::new(),
            by_name: BTreeMap::new(),
            open: BTreeSet::new(),
            runners: BTreeMap::new(),
            last_number: 0,
            retold: Deadlines::default(),
            pickups: Deadlines::default(),
            orphans: Deadlines::default(),
            no_statistics: None,
            known_from: BTreeMap::new(),
            work: Arc::default(),
            watched: None,
        }
    }

    /// Ends what has ended by `now`.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        while let Some(session) = self.sessions.expire(now) {
            self.session_ended(&session, SessionEnd::Expired);
        }
        while let Some(job) = self.retold.take_due(now) {
            self.tell_again(job);
        }
        while let Some(job) = self.pickups.take_due(now) {
            self.not_picked_up(job);
        }
        while let Some(job) = self.orphans.take_due(now) {
            self.give_up(job, now);
        }
    }

    /// When the next thing will end by itself.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        let ends = [self.sessions.next_end(), self.retold.next(), self.pickups.next(), self.orphans.next()];
        ends.into_iter().flatten().min()
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

    /// A fresh number.
    pub(super) fn draw_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    /// The scale set of this name.
    pub(super) fn set_named(&self, name: &str) -> Option<&ScaleSet> {
        self.sets.values().find(|set| &*set.name.0 == name)
    }

    /// Registers a scale set. It gets the jobs that wait for one of its name.
    pub(super) fn add_set(&mut self, mut wire: WireSet, now: Timestamp) -> SetId {
        let id = self.draw_number();
        wire.id = id;
        wire.created_on = Some(now);
        wire.runner_jit_config_url =
            format!("{}{}/{id}/generatejitconfig", self.parameters.addresses.service, crate::arc::wire::SCALE_SETS);
        if wire.labels.is_empty() {
            wire.labels.push(Label { kind: "System".into(), name: wire.name.clone() });
        }
        let set = ScaleSet {
            id,
            name: wire.name.as_str().into(),
            wire,
            queue: MessageQueue::new(Cursor::SkipsSeen),
            pending: Vec::new(),
            capacity: 0,
            wake: Arc::default(),
        };
        self.sets.insert(id, set);
        id
    }

    /// Forgets a scale set, with its session, its messages and its runners that have no job.
    pub(super) fn remove_set(&mut self, id: SetId) -> bool {
        let Some(set) = self.sets.remove(&id) else { return false };
        if let Some(session) = self.sessions.of(&id).map(|session| session.id) {
            let session = self.sessions.close(&session).expect("it was just found");
            let (session, agent) = (session.id.to_string().into(), set.name.clone());
            self.record(Fact::SessionClosed { session, agent, why: SessionEnd::Expired });
        }
        self.runners.retain(|_, runner| runner.set != id || runner.job.is_some());
        // Nobody knows any more that they were told of.
        let open: Vec<JobNumber> = self.open.iter().copied().collect();
        for number in open {
            let job = self.jobs.get_mut(&number).expect("an open job is known");
            if job.set == *set.name.0 {
                job.told = false;
                self.retold.clear(&number);
            }
        }
        set.wake.notify(usize::MAX);
        self.work.notify(usize::MAX);
        true
    }

    /// The counts of a set.
    pub(super) fn statistics(&self, set: &ScaleSet) -> Statistics {
        let jobs = || self.open.iter().map(|number| &self.jobs[number]).filter(|job| job.set == *set.name.0);
        let count = |picked: fn(&Job) -> bool| jobs().filter(|job| picked(job)).count() as u32;
        let runners = || self.runners.values().filter(|runner| runner.set == set.id);
        let busy = runners().filter(|runner| runner.job.is_some()).count() as u32;
        let registered = runners().count() as u32;
        Statistics {
            total_available_jobs: count(|job| job.phase == Phase::Queued),
            total_acquired_jobs: count(|job| job.phase == Phase::Assigned),
            total_assigned_jobs: count(|job| matches!(job.phase, Phase::Assigned | Phase::Running(_))),
            total_running_jobs: count(|job| matches!(job.phase, Phase::Running(_))),
            total_registered_runners: registered,
            total_busy_runners: busy,
            total_idle_runners: registered - busy,
        }
    }

    /// A job, as messages tell of it.
    pub(super) fn fields(&self, request: RequestId) -> JobFields {
        let Some(job) = self.by_request.get(&request).and_then(|number| self.jobs.get(number)) else {
            return JobFields { runner_request_id: request, ..JobFields::default() };
        };
        let current = job.request == request;
        let or_never = |at: Timestamp| if current { at } else { NEVER };
        JobFields {
            runner_request_id: request,
            repository_name: "repository".into(),
            owner_name: "org".into(),
            job_id: Uuid::from_u128(job.number as u128).to_string(),
            job_workflow_ref: "org/repository/.github/workflows/ci.yml@refs/heads/main".into(),
            job_display_name: job.name.to_string(),
            workflow_run_id: job.number,
            event_name: "push".into(),
            request_labels: vec![job.set.clone()],
            queue_time: job.queued_at,
            scale_set_assign_time: or_never(job.assigned_at),
            runner_assign_time: or_never(job.started_at),
            finish_time: or_never(job.finished_at),
        }
    }
}
