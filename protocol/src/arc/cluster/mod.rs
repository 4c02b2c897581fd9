//! The cluster that runners are created in: sets of runners for one job each, and the API by which listeners change them.
//!
//! What the controller of these sets decides is here (`ephemeralrunnerset_controller.go`); whoever runs the cluster
//! carries it out, and says what became of each runner.

mod api;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::{Event, EventListener};
use serde::{Deserialize, Serialize};

use crate::facts::{Agent, Fact, Ledger, Message};

pub use api::{NAMESPACE, runner_set_path, runner_status_path};

/// The name, among facts, of the message that a runner has started an attempt at a job.
pub fn started(request: i64) -> Message {
    format!("started-{request}").into()
}

/// The `spec` of a set of runners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerSetSpec {
    /// How many runners there are to be.
    pub replicas: u32,
    /// The number of the patch that said so. 0 may be carried out over and over, any other once.
    #[serde(rename = "patchID")]
    pub patch_id: u32,
}

/// A runner that there is to be, or is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Runner {
    /// The patch that it was created for.
    patch_id: u32,
    /// The attempt at a job that it executes, as its listener noted it.
    request: Option<i64>,
}

#[derive(Debug, Default)]
struct RunnerSet {
    spec: RunnerSetSpec,
    runners: BTreeMap<Agent, Runner>,
    created: u64,
}

/// What the controller wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This runner is to be created.
    Create(Agent),
    /// This runner may go, unless it executes a job.
    Remove(Agent),
}

/// The cluster. Clones mean the same one.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    ledger: Arc<dyn Ledger>,
    sets: Mutex<BTreeMap<String, RunnerSet>>,
    changed: Event,
    taken_away: Event,
}

impl Cluster {
    /// A cluster without sets. It writes what becomes of them to `ledger`.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self(Arc::new(Shared { ledger, sets: Mutex::default(), changed: Event::new(), taken_away: Event::new() }))
    }

    /// Adds a set without runners.
    pub fn add_set(&self, name: &str) {
        self.lock().insert(name.to_owned(), RunnerSet::default());
    }

    /// Ends with the next change of a set.
    pub fn changed(&self) -> EventListener {
        self.0.changed.listen()
    }

    /// What the controller of a set wants done now. What it creates counts from here on.
    ///
    /// It acts on a patch whose number none of the runners has, or 0; and it takes runners away for 0 alone
    /// (`ephemeralrunnerset_controller.go:232-253`).
    pub fn reconcile(&self, name: &str) -> Vec<Wanted> {
        let mut sets = self.lock();
        let Some(set) = sets.get_mut(name) else { return Vec::new() };
        let RunnerSetSpec { replicas, patch_id } = set.spec;
        let latest = set.runners.values().map(|runner| runner.patch_id).max();
        if patch_id != 0 && latest == Some(patch_id) {
            return Vec::new();
        }
        let (present, target) = (set.runners.len(), replicas as usize);
        if present > target {
            let idle = set.runners.iter().filter(|(_, runner)| runner.request.is_none());
            let idle = idle.take(if patch_id == 0 { present - target } else { 0 });
            return idle.map(|(name, _)| Wanted::Remove(name.clone())).collect();
        }
        let mut wanted = Vec::new();
        for _ in present..target {
            set.created += 1;
            let agent: Agent = format!("{name}-runner-{}", set.created).into();
            set.runners.insert(agent.clone(), Runner { patch_id, request: None });
            self.0.ledger.record(Fact::PoolJoined { pool: name.into(), agent: agent.clone() });
            wanted.push(Wanted::Create(agent));
        }
        wanted
    }

    /// A runner is gone.
    pub fn gone(&self, name: &str, runner: &Agent) {
        let removed = self.lock().get_mut(name).and_then(|set| set.runners.remove(runner));
        if removed.is_some() {
            self.0.ledger.record(Fact::PoolLeft { pool: name.into(), agent: runner.clone() });
            self.0.changed.notify(usize::MAX);
        }
    }

    /// Removes a runner whatever it executes: its pod ends.
    pub fn take_away(&self, name: &str, runner: &Agent) {
        self.gone(name, runner);
        self.0.taken_away.notify(usize::MAX);
    }

    /// Ends when a runner is taken away.
    pub async fn taken_away(&self, name: &str, runner: &Agent) {
        loop {
            let told = self.0.taken_away.listen();
            if !self.lock().get(name).is_some_and(|set| set.runners.contains_key(runner)) {
                return;
            }
            told.await;
        }
    }

    /// How many runners a set has.
    pub fn runners(&self, name: &str) -> usize {
        self.lock().get(name).map_or(0, |set| set.runners.len())
    }

    fn spec(&self, name: &str) -> Option<RunnerSetSpec> {
        self.lock().get(name).map(|set| set.spec)
    }

    fn patch(&self, name: &str, spec: RunnerSetSpec) -> Option<RunnerSetSpec> {
        let mut sets = self.lock();
        let set = sets.get_mut(name)?;
        if set.spec.replicas != spec.replicas {
            self.0.ledger.record(Fact::PoolTarget { pool: name.into(), size: spec.replicas });
        }
        set.spec = spec;
        drop(sets);
        self.0.changed.notify(usize::MAX);
        Some(spec)
    }

    /// Notes which attempt a runner executes; `false` when there is no such runner.
    fn note(&self, runner: &str, request: i64) -> bool {
        // When the runner is gone, nothing is left to do about its start either.
        self.0.ledger.record(Fact::MessageHandled { message: started(request) });
        let mut sets = self.lock();
        let known = sets.values_mut().find_map(|set| set.runners.get_mut(&runner.into()));
        known.map(|known| known.request = Some(request)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, RunnerSet>> {
        self.0.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::facts::Forget;

    fn cluster() -> Cluster {
        let cluster = Cluster::new(Arc::new(Forget));
        cluster.add_set("set");
        cluster
    }

    fn patched(cluster: &Cluster, replicas: u32, patch_id: u32) -> Vec<Wanted> {
        cluster.patch("set", RunnerSetSpec { replicas, patch_id });
        cluster.reconcile("set")
    }

    #[test]
    fn a_patch_is_carried_out_once() {
        let cluster = cluster();
        assert_eq!(patched(&cluster, 2, 1).len(), 2);
        assert_eq!(patched(&cluster, 3, 1), [], "a number that was carried out");
        assert_eq!(patched(&cluster, 3, 2), [Wanted::Create("set-runner-3".into())]);
        assert_eq!(cluster.runners("set"), 3);
        cluster.gone("set", &"set-runner-3".into());
        assert_eq!(cluster.runners("set"), 2);
        assert_eq!(patched(&cluster, 3, 0).len(), 1, "0 may be repeated");
    }

    #[test]
    fn runners_are_taken_away_for_zero_alone_and_never_with_a_job() {
        let cluster = cluster();
        patched(&cluster, 2, 1);
        assert_eq!(patched(&cluster, 0, 2), []);
        assert!(cluster.note("set-runner-1", 7));
        assert_eq!(patched(&cluster, 0, 0), [Wanted::Remove("set-runner-2".into())]);
        assert!(!cluster.note("nobody", 8));
        let removed = [1, 2].map(|n| {
            let (cluster, runner) = (cluster.clone(), format!("set-runner-{n}").into());
            async move { cluster.taken_away("set", &runner).await }.boxed()
        });
        let [mut first, mut second] = removed;
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        cluster.take_away("set", &"set-runner-2".into());
        assert!(first.now_or_never().is_none());
        assert!(second.now_or_never().is_some());
        assert_eq!(cluster.runners("set"), 1);
    }
}
