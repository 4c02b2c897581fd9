//! The server: the engine that runs pipelines, the dispatch that gives their jobs to agents, and the record of agents.
//!
//! One store stands for the databases of its services. Handlers are futures that access it in one step after a round
//! trip to the database, in which other handlers run and the process may die; critical sections are kept by locks in
//! Redis. Events of builds go through a broker that delivers at least once.
//!
//! ```text
//! start -> stage -> container (lock) -> dispatch (row) -> claim (ask) -> started -> task -> end -> stage -> ... -> finish
//! ```

mod admin;
mod ask;
mod broker;
mod dispatch;
mod engine;
mod failure;
mod later;
mod monitor;
mod nuisance;
mod pipeline;
mod redis;
mod reuse;
mod routes;
mod section;
mod state;
#[cfg(test)]
mod tests;
mod worker_api;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event as Wake;
use futures_util::future::{self, Either};
use jiff::Timestamp;

pub use self::admin::BuildSnapshot;
pub use self::nuisance::Nuisance;
pub use self::pipeline::{BuildSpec, JobSpec, Place, job_name};
pub use self::redis::Keys;

use self::broker::{Broker, Event, What};
use self::nuisance::{Active, Nuisances};
use self::redis::{Redis, RedisDown};
use self::state::{AgentRecord, State};
use super::choices::{Choices, Release};
use super::wire::AgentStatus;
use crate::clock::{self, Clock};
use crate::deadlines::span_until;
use crate::effect::OnEffect;
use crate::facts::Ledger;
use crate::random::Random;
use crate::signal::{Tasks, Watch};

/// What a round trip to the database takes as a rule.
const DATABASE_ROUND_TRIP: Duration = Duration::from_millis(10);

/// What the server is made of.
pub struct Parts {
    /// The design.
    pub choices: Choices,
    /// The clock of its machine.
    pub clock: Arc<dyn Clock>,
    /// Where its store writes facts.
    pub ledger: Arc<dyn Ledger>,
    /// Its generator.
    pub random: Random,
    /// What goes wrong inside it is drawn from here.
    pub mischance: Random,
    /// The clock of Redis's machine.
    pub redis_clock: Arc<dyn Clock>,
    /// Where Redis writes facts about locks.
    pub redis_ledger: Arc<dyn Ledger>,
    /// The token of the administration, if there is one.
    pub admin_token: Option<String>,
}

/// An agent to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its project.
    pub project_id: String,
    /// Its id, which is also its name in the journal.
    pub agent_id: String,
    /// Its secret.
    pub secret_key: String,
    /// How many workers it may run at once.
    pub parallel_task_count: u32,
}

/// Why an operation of the administration failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No build has this id.
    #[error("no such build")]
    NoSuchBuild,
    /// A build cannot be retried while it runs, nor after it succeeded.
    #[error("the build did not fail")]
    NotFailed,
    /// It was made already, or it has no jobs.
    #[error("there is a build of that name already, or it has no jobs")]
    NotNew,
}

/// What keeps the server from doing something now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Redis(#[from] RedisDown),
    #[error("the database refused the transaction")]
    Database,
    #[error("the lock was not to be had in time")]
    NoLock,
}

/// The server with its store. Clones share the store, which survives a restart of whoever runs it.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    choices: Choices,
    admin_token: Option<String>,
    state: Mutex<State>,
    /// Events are due earlier than whoever delivers them thinks.
    earlier: Wake,
    /// What goes on beside the calls, while the server's process runs.
    tasks: Watch<Tasks>,
}

impl Server {
    /// A server without agents and builds.
    pub fn new(parts: Parts) -> Self {
        let redis = Redis::new(parts.redis_clock, parts.redis_ledger, parts.choices.lock_durability);
        let state = State {
            choices: parts.choices.clone(),
            ledger: parts.ledger,
            random: parts.random,
            mischance: parts.mischance,
            agents: BTreeMap::new(),
            builds: BTreeMap::new(),
            rows: BTreeMap::new(),
            credentials: BTreeSet::new(),
            redis,
            broker: Broker::default(),
            nuisances: Nuisances::default(),
            sections: 0,
        };
        Self(Arc::new(Shared {
            clock: parts.clock,
            choices: parts.choices,
            admin_token: parts.admin_token,
            state: Mutex::new(state),
            earlier: Wake::new(),
            tasks: Watch::new(Tasks::new()),
        }))
    }

    /// Imports an agent.
    pub fn import(&self, import: Import) {
        let agent = AgentRecord {
            project: import.project_id,
            secret: import.secret_key,
            parallel_task_count: import.parallel_task_count,
            status: AgentStatus::ImportException,
            heard: None,
            told: None,
            tasks: Vec::new(),
            shown: (false, false),
        };
        self.with(|state, _| drop(state.agents.insert(import.agent_id, agent)));
    }

    /// The server's process: it delivers events, and carries out what calls and events ask for. When it is dropped, all of
    /// that ends where it stands; a next one goes on with the store.
    pub async fn run(&self) -> Infallible {
        let tasks = Tasks::new();
        self.0.tasks.set(tasks.clone());
        self.with(|state, now| state.broker.reclaim(now));
        let working = future::join(self.deliver(&tasks), self.watch_agents());
        let (never, _) = tasks.beside(working).await;
        match never {}
    }

    async fn deliver(&self, tasks: &Tasks) -> Infallible {
        loop {
            let earlier = self.0.earlier.listen();
            let due = self.with(|state, now| match state.broker.take_due(now) {
                Some(taken) => Either::Left(taken),
                None => Either::Right(state.broker.next_due().map(|due| span_until(due, now))),
            });
            match due {
                Either::Left((number, event)) => {
                    let server = self.clone();
                    tasks.add(async move { server.handle_delivered(number, event).await });
                }
                Either::Right(wait) => clock::sleep_or(&*self.0.clock, earlier, wait).await,
            }
        }
    }

    async fn handle_delivered(&self, number: u64, event: Event) {
        let swallowed = matches!(event.what, What::Finish(_)) && self.0.choices.release == Release::AfterTheEnd;
        match self.handle(event).await {
            Err(trouble) if swallowed => {
                tracing::warn!("finish event: {trouble}");
                self.with(|state, _| state.broker.acknowledge(number));
            }
            Err(trouble) => {
                tracing::warn!("event: {trouble}");
                self.with(|state, now| state.broker.refuse(number, now));
            }
            Ok(()) => self.with(|state, _| state.broker.acknowledge(number)),
        }
    }

    /// From now on this is wrong inside the server, until [`Server::calm`] with the same number. `on_effect` is called
    /// for each thing that it changes.
    pub fn disturb(&self, id: u64, what: Nuisance, on_effect: OnEffect) {
        self.with(|state, _| state.nuisances.begin(Active { id, what, on_effect }));
    }

    /// What was wrong is right again; events that it held back are due.
    pub fn calm(&self, id: u64) {
        self.with(|state, now| {
            state.nuisances.end(id);
            state.broker.let_go(id, now);
        });
    }

    /// Redis starts anew and does not answer until [`Server::redis_answers`] with the same number.
    pub fn redis_restarts(&self, id: u64, keys: Keys) {
        self.with(|state, _| {
            state.redis.stop_answering(id);
            state.redis.restart(keys)
        });
    }

    /// A replica that lags behind takes Redis's place, and does not answer until [`Server::redis_answers`].
    pub fn redis_fails_over(&self, id: u64, lag: Duration) {
        self.with(|state, _| {
            state.redis.stop_answering(id);
            state.redis.fail_over(lag)
        });
    }

    /// Redis answers again.
    pub fn redis_answers(&self, id: u64) {
        self.with(|state, _| state.redis.answer_again(id));
    }

    /// One round trip to the database, before what is written or read there.
    async fn database(&self) -> Result<(), Trouble> {
        let (delay, fails) = self.with(|state, _| {
            let fails = state.nuisances.database_fails(&mut state.mischance);
            (state.nuisances.database_delay(), fails)
        });
        self.0.clock.sleep(DATABASE_ROUND_TRIP + delay).await;
        if fails { Err(Trouble::Database) } else { Ok(()) }
    }

    /// Acts on the store in one step.
    fn with<R>(&self, act: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        let mut state = self.lock();
        let due = state.broker.next_due();
        let done = act(&mut state, self.0.clock.wall());
        if state.broker.next_due().is_some_and(|next| due.is_none_or(|due| next < due)) {
            self.0.earlier.notify(usize::MAX);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
