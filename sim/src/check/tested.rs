//! A test's closure as a scenario.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use squall_protocol::Fact;

use super::Bounds;
use crate::case::{CASE_VERSION, Case};
use crate::fault::{FaultPlan, Swarm};
use crate::invariant::{Invariant, Judgement, Kind, Property};
use crate::random::Streams;
use crate::scenario::{CaseError, Scenario};
use crate::survey::survey;
use crate::world::World;

/// The one variant of a user's test.
pub(super) const VARIANT: &str = "test";
/// The kind and the subject of the fact that the test's own future has ended.
const ENDED: (&str, &str) = ("squall", "test");

/// Draws a workload.
pub(super) type Draw<W> = Arc<dyn Fn(&mut ChaCha8Rng) -> W + Send + Sync>;
/// Furnishes a world and goes on as its driver.
pub(super) type Test<W> = Arc<dyn Fn(World, W) -> BoxFuture<'static, ()> + Send + Sync>;

/// A test as a scenario.
pub(super) struct Tested<W> {
    pub(super) name: &'static str,
    pub(super) bounds: Bounds,
    pub(super) invariants: Vec<Arc<dyn Invariant>>,
    pub(super) draw: Draw<W>,
    pub(super) test: Test<W>,
    /// Did the test's future ever end?
    pub(super) ended: Arc<AtomicBool>,
}

impl<W: Serialize + DeserializeOwned> Tested<W> {
    fn swarm(&self, seed: u64, workload: W) -> Swarm {
        let seen = survey(seed, |world| self.begin(world, workload));
        let bounds = &self.bounds;
        let named = |names: Vec<String>| names.into_iter().filter(|node| bounds.acts_on(node)).collect::<Vec<_>>();
        let (agents, servers) = (named(seen.agents), seen.servers);
        let with_servers = bounds.nodes.iter().flatten().filter(|node| servers.contains(node)).cloned();
        let nodes: Vec<String> = agents.into_iter().chain(with_servers).collect();
        Swarm {
            services: seen.services.into_iter().filter(|(node, _)| nodes.contains(node)).collect(),
            peers: servers,
            routes: Vec::new(),
            system: bounds.system.clone(),
            families: bounds.families(),
            begin_ms: bounds.begin.as_millis() as u64..bounds.heal_at.as_millis() as u64,
            heal_at_ms: bounds.heal_at.as_millis() as u64,
            faults_max: bounds.faults_max,
            nodes,
        }
    }

    /// Polls the test's future to its first wait, so that what it furnishes is there when faults are injected, and leaves
    /// the rest to the world.
    fn begin(&self, world: &World, workload: W) {
        let mut driver = (self.test)(world.clone(), workload);
        if let Poll::Ready(()) = driver.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            driver = std::future::ready(()).boxed();
        }
        let (recorder, ended) = (world.clone(), self.ended.clone());
        world.spawn("test", async move {
            driver.await;
            ended.store(true, Ordering::Relaxed);
            let (kind, subject) = ENDED;
            recorder.record(Fact::Custom {
                kind: kind.to_owned(),
                subject: subject.to_owned(),
                detail: "ended".to_owned(),
            });
        });
    }
}

impl<W: Serialize + DeserializeOwned + 'static> Scenario for Tested<W> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        "A test."
    }

    fn generate(&self, seed: u64, variant: &str) -> Case {
        let workload = (self.draw)(&mut Streams::new(seed).stream("workload"));
        let plain = serde_json::to_value(&workload).expect("a workload is plain data");
        let swarm = self.swarm(seed, workload);
        Case {
            version: CASE_VERSION,
            scenario: self.name.to_owned(),
            variant: variant.to_owned(),
            seed,
            end_ms: self.bounds.lasts.as_millis() as u64,
            choices: Value::Null,
            parameters: Value::Null,
            workload: plain,
            plan: FaultPlan::generate(&swarm, seed),
        }
    }

    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError> {
        let workload = W::deserialize(&case.workload).map_err(|why| CaseError::Misfit {
            part: "workload",
            scenario: self.name.to_owned(),
            why: why.to_string(),
        })?;
        self.begin(world, workload);
        Ok(())
    }

    fn invariants(&self, case: &Case) -> Vec<Box<dyn Invariant>> {
        let heal_at = Duration::from_millis(case.plan.heal_at_ms);
        let left = Duration::from_millis(case.end_ms).saturating_sub(heal_at);
        let shared = self.invariants.iter().map(|invariant| Box::new(Shared(invariant.clone())) as Box<dyn Invariant>);
        shared.chain([Box::new(test_ends(left)) as Box<dyn Invariant>]).collect()
    }
}

/// An invariant that many cases are judged by.
struct Shared(Arc<dyn Invariant>);

impl Invariant for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn summary(&self) -> &'static str {
        self.0.summary()
    }

    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn judge(&self, history: &crate::invariant::History<'_>) -> Judgement {
        self.0.judge(history)
    }
}

/// The test itself comes to its end before the world does.
fn test_ends(within: Duration) -> Property {
    let summary = "The test's own future ends before its world does.";
    Property::eventually("test-ends", summary, "test", within, |history, found| {
        found.subject();
        let is_end = |fact: &Fact| matches!(fact, Fact::Custom { kind, subject, .. } if (kind.as_str(), subject.as_str()) == ENDED);
        if !history.journal.iter().any(|entry| is_end(&entry.fact)) {
            let message = "it still waits for something; what it goes on doing for ever belongs into World::spawn";
            found.breach("test", history.end, format_args!("{message}"));
        }
    })
}
