//! The service: the GitHub API for registration and the actions service with scale sets, sessions, queues and runners,
//! over one store.
//!
//! What real servers do not show is a field of [`Parameters`]; where a repaired design would differ, it is a field of
//! [`Policy`]. What runners themselves say is the business of another system: here they are called by whoever runs them.
//!
//! ```text
//! queue_job -> told of (a message) -> acquired, so assigned -> running on a runner -> closed
//!        ^______ not picked up in time ______|                     |___ its runner lost: given up
//! ```

mod admin;
mod failure;
mod github;
mod jobs;
mod parameters;
mod queue;
mod runners;
mod scale_sets;
mod sessions;
mod state;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use event_listener::Event;
use jiff::Timestamp;

pub use parameters::{Addresses, Assignment, Parameters, Policy, RefreshAnswer, SecondDelete};

use self::failure::{Failure, Part, answer};
use self::state::{Envelope, State, Subject};
use crate::arc::wire::ScaleSet;
use crate::call::Limits;
use crate::clock::{self, Clock};
use crate::deadlines::span_until;
use crate::effect::OnEffect;
use crate::facts::{Job, Ledger, Outcome};
use crate::queue::Redelivery;
use crate::random::Random;

/// The service with its store. Clones share the store, which survives a restart of whoever serves the [`Server::router`].
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    parameters: Arc<Parameters>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Something will end earlier than the housekeeping thinks.
    earlier: Event,
}

/// A job that a runner has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The job.
    pub job: Job,
    /// Which attempt at it.
    pub attempt: u32,
}

impl Server {
    /// A service without scale sets and jobs. It writes the facts of its store to `ledger` as they are committed, by its
    /// own `clock`.
    pub fn new(
        parameters: Parameters,
        policy: Policy,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
        random: Random,
    ) -> Self {
        let parameters = Arc::new(parameters);
        let state = Mutex::new(State::new(parameters.clone(), policy, ledger, random));
        Self(Arc::new(Shared { parameters, clock, state, earlier: Event::new() }))
    }

    /// Its handlers, for whatever serves HTTP. One router answers for both of [`Addresses`], whatever host is asked.
    pub fn router(&self) -> Router {
        Router::new()
            .merge(github::routes(self))
            .merge(scale_sets::routes(self))
            .merge(runners::routes(self))
            .merge(admin::routes(self))
            .fallback(no_route)
            .method_not_allowed_fallback(no_method)
            .with_state(self.clone())
    }

    /// Ends sessions, offers and leases at their instants, as a background process of the service does. Without it they
    /// end when somebody calls.
    pub async fn housekeeping(&self) -> Infallible {
        loop {
            let earlier = self.0.earlier.listen();
            let wait = self.with(|state, now| {
                state.watched = state.next_end();
                state.watched.map(|end| span_until(end, now))
            });
            clock::sleep_or(&*self.0.clock, earlier, wait).await;
        }
    }

    /// What it was started with.
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    /// Makes a credential known: that of the listener of the scale set `agent`.
    pub fn allow(&self, credential: &str, agent: &str) {
        self.with(|state, _| state.credentials.insert(credential.to_owned(), agent.into()));
    }

    /// Registers a scale set and says its number.
    pub fn register(&self, name: &str) -> i64 {
        self.with(|state, now| state.add_set(ScaleSet { name: name.to_owned(), ..ScaleSet::default() }, now))
    }

    /// Queues a job for the scale set of this name. A name that is known already queues nothing.
    pub fn queue_job(&self, name: &str, set: &str) {
        self.with(|state, now| state.queue_job(name, set, now));
    }

    /// For so long the API refuses a credential. `on_effect` hears of each refusal.
    pub fn refuse_credential(&self, credential: &str, lasting: Duration, on_effect: OnEffect) {
        self.with(|state, now| state.refuse(credential, lasting, now, on_effect));
    }

    /// Makes every token that was got by a credential, and that of the set's session, invalid. `on_effect` hears of each
    /// time that one is shown.
    pub fn revoke_tokens(&self, credential: &str, set: &str, on_effect: &OnEffect) {
        self.with(|state, _| {
            let session = state.set_named(set).and_then(|set| state.sessions.of(&set.id));
            let queue = session.map(|session| Subject::Queue(session.agent, session.id));
            queue.into_iter().for_each(|queue| state.tokens.revoke(&queue, on_effect));
            state.tokens.revoke(&Subject::Admin(credential.to_owned()), on_effect);
        });
    }

    /// Loses a scale set, and with it its session and its messages.
    ///
    /// Returns whether there was one.
    pub fn lose_scale_set(&self, name: &str) -> bool {
        self.with(|state, _| {
            let id = state.set_named(name).map(|set| set.id);
            id.is_some_and(|id| state.remove_set(id))
        })
    }

    /// For so long messages come without statistics. `on_effect` hears of each of them.
    pub fn lose_statistics(&self, lasting: Duration, on_effect: OnEffect) {
        self.with(|state, now| state.lose_statistics(lasting, now, on_effect));
    }

    /// Puts a message into a set's queue whose type no listener knows.
    ///
    /// Returns whether there is such a set.
    pub fn send_novel_message(&self, set: &str) -> bool {
        self.with(|state, _| {
            let id = state.set_named(set).map(|set| set.id);
            let set = id.and_then(|id| state.sets.get_mut(&id));
            set.map(|set| {
                set.queue.push(Envelope::Novel, Redelivery::AtOnce);
                set.wake.notify(usize::MAX);
            })
            .is_some()
        })
    }

    /// Registers a runner of a scale set and says its number; `None` when there is no such set or such a runner already.
    pub fn register_runner(&self, set: &str, name: &str) -> Option<i64> {
        self.with(|state, _| {
            let set = state.set_named(set)?.id;
            state.add_runner(set, name).ok()
        })
    }

    /// The next job for a runner; `None` when the runner is not registered any more.
    pub async fn take_job(&self, runner: i64) -> Option<Taken> {
        loop {
            let (taken, woken) = self.with(|state, now| {
                let woken = state.work.listen();
                state.runners.get(&runner)?;
                let taken = state.take_job(runner, now).map(|number| {
                    let job = &state.jobs[&number];
                    Taken { job: job.name.clone(), attempt: job.attempt }
                });
                Some((taken, woken))
            })?;
            match taken {
                Some(taken) => return Some(taken),
                None => woken.await,
            }
        }
    }

    /// A runner reports the end of its job, and is gone.
    pub fn complete(&self, runner: i64, outcome: Outcome) {
        self.with(|state, now| state.complete(runner, outcome, now));
    }

    /// Removes a runner that executes nothing, by its name.
    ///
    /// Returns whether it is gone now.
    pub fn remove_runner(&self, name: &str) -> bool {
        self.with(|state, _| {
            let busy = state.runners.values().any(|runner| *runner.name.0 == *name && runner.job.is_some());
            if !busy {
                state.runners.retain(|_, runner| *runner.name.0 != *name);
                state.work.notify(usize::MAX);
            }
            !busy
        })
    }

    /// A runner is gone without a word.
    pub fn runner_lost(&self, runner: i64) {
        self.with(|state, now| state.runner_lost(runner, now));
    }

    /// Acts on the store at the service's present instant, after what has ended by then.
    fn with<R>(&self, act: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        let mut state = self.lock();
        let now = self.0.clock.wall();
        state.sweep(now);
        let done = act(&mut state, now);
        let next = state.next_end();
        if next.is_some_and(|next| state.watched.is_none_or(|watched| next < watched)) {
            self.0.earlier.notify(usize::MAX);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limits for Server {
    fn body_limit(&self) -> usize {
        self.0.parameters.body_limit
    }
}

async fn no_route(uri: http::Uri) -> Response {
    answer(Part::Service, Err(Failure::NoRoute(uri.path().to_owned())))
}

async fn no_method(uri: http::Uri) -> Response {
    let mut refused = answer(Part::Service, Err(Failure::NoRoute(uri.path().to_owned())));
    *refused.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
    refused
}
