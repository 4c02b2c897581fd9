//! A world: nodes, the network between them, a journal and a trace, all drawn from one seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_chacha::ChaCha8Rng;
use squall_protocol::{Fact, Ledger};

use crate::effects::Effects;
use crate::engine::Engine;
use crate::fault::inject::SystemFaults;
use crate::gateway::Rules;
use crate::http::{Receipts, Waits};
use crate::invariant::History;
use crate::journal::{Entry, Journal, NodeLedger};
use crate::kernel::{Halt, Kernel, ProcessId, Sleep};
use crate::meter::Meter;
use crate::net::{LinkProfile, Net};
use crate::node::{Node, NodeState};
use crate::one_thread::OneThread;
use crate::panics;
use crate::random::Streams;
use crate::service::Service;
use crate::time::SimTime;
use crate::trace::{Event, Keep, NodeId, Trace};
use crate::trace_log;

/// What is left of a world that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Why it ended.
    pub halt: Halt,
    /// When, in true time.
    pub at: SimTime,
    /// The digest of every event: equal for equal runs, and for them alone.
    pub digest: String,
    /// How many requests were answered.
    pub exchanges: u64,
    /// Every fact, in order.
    pub journal: Vec<Entry>,
    /// Every event, if they were kept.
    pub events: Vec<Event>,
    /// What each fault did.
    pub effects: Effects,
    /// The names of the nodes, by [`NodeId`].
    pub nodes: Vec<String>,
}

impl Ended {
    /// What invariants judge, when no fault acted from `heal_at` on.
    pub fn history(&self, heal_at: SimTime) -> History<'_> {
        History { journal: &self.journal, heal_at, end: self.at }
    }
}

/// Runs the world that `build` furnishes until `end`, on this thread. Nothing but `seed` and `build` decides anything.
pub fn run(seed: u64, keep: Keep, end: SimTime, build: impl FnOnce(&World)) -> Ended {
    panics::keep_quiet();
    Engine::run(seed, |engine| {
        let world = World::new(seed, keep);
        build(&world);
        let halt = trace_log::heard(&world, || world.inner.kernel.run_until(end, engine));
        world.end(halt)
    })
}

/// A world that runs. Handles are cheap to clone and all mean the same one.
#[derive(Clone)]
pub struct World {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) streams: Streams,
    pub(crate) net: Arc<Net>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) journal: Journal,
    pub(crate) effects: Effects,
    pub(crate) nodes: OneThread<Vec<Arc<NodeState>>>,
    pub(crate) rules: Rules,
    pub(crate) receipts: Receipts,
    pub(crate) waits: Waits,
    /// The machines that were told to wait and have sent nothing since.
    told_to_wait: OneThread<BTreeSet<NodeId>>,
    services: OneThread<Vec<Service>>,
    pub(crate) system_faults: OneThread<SystemFaults>,
    meter: OneThread<Meter>,
    requests: AtomicU64,
    exchanges: AtomicU64,
}

impl World {
    fn new(seed: u64, keep: Keep) -> Self {
        let streams = Streams::new(seed);
        let kernel = Kernel::new(streams.decision("order", 0));
        let trace = Arc::new(Trace::new(keep));
        let effects = Effects::default();
        let rules = Rules::new(streams.clone(), effects.clone());
        let inner = Inner {
            net: Net::new(kernel.clone(), streams.clone(), trace.clone(), effects.clone()),
            journal: Journal::new(kernel.clone(), trace.clone()),
            kernel,
            streams,
            trace,
            effects,
            nodes: OneThread::default(),
            rules,
            receipts: Receipts::default(),
            waits: Waits::default(),
            told_to_wait: OneThread::default(),
            services: OneThread::default(),
            system_faults: OneThread::default(),
            meter: OneThread::default(),
            requests: AtomicU64::new(0),
            exchanges: AtomicU64::new(0),
        };
        let world = Self { inner: Arc::new(inner) };
        world.node("world");
        world
    }

    /// True time.
    pub fn now(&self) -> SimTime {
        self.inner.kernel.now()
    }

    /// A stream of randomness for one purpose, from its beginning. Equal purposes draw equal numbers.
    pub fn stream(&self, purpose: &str) -> ChaCha8Rng {
        self.inner.streams.stream(purpose)
    }

    /// The streams of the world's seed.
    pub fn streams(&self) -> &Streams {
        &self.inner.streams
    }

    /// Adds a machine. Its name is also the name of its host in the network.
    pub fn node(&self, name: &str) -> Node {
        let mut nodes = self.inner.nodes.borrow_mut();
        let id = NodeId(u32::try_from(nodes.len()).expect("fewer than four thousand million nodes"));
        self.inner.net.attach(id, name);
        nodes.push(Arc::new(NodeState::new(id, name, &self.inner.kernel)));
        let state = nodes[id.0 as usize].clone();
        Node { world: self.clone(), state }
    }

    /// The machine of this name.
    pub fn find(&self, name: &str) -> Option<Node> {
        let state = self.inner.nodes.borrow_mut().iter().find(|state| &*state.name == name)?.clone();
        Some(Node { world: self.clone(), state })
    }

    /// Every machine's name, by [`NodeId`]; the first is the world itself.
    pub fn node_names(&self) -> Vec<String> {
        self.inner.nodes.borrow_mut().iter().map(|state| state.name.to_string()).collect()
    }

    pub(crate) fn node_of(&self, id: NodeId) -> Node {
        Node { world: self.clone(), state: self.inner.nodes.borrow_mut()[id.0 as usize].clone() }
    }

    pub(crate) fn node_name(&self, node: NodeId) -> Arc<str> {
        self.inner.nodes.borrow_mut()[node.0 as usize].name.clone()
    }

    pub(crate) fn register(&self, service: &Service) {
        self.inner.services.borrow_mut().push(service.clone());
    }

    /// The service of this name on the machine of this name.
    pub fn service(&self, node: &str, name: &str) -> Option<Service> {
        let services = self.inner.services.borrow_mut();
        services.iter().find(|service| service.node().name() == node && service.name() == name).cloned()
    }

    /// Every service: its machine's name and its own.
    pub fn service_names(&self) -> Vec<(String, String)> {
        let services = self.inner.services.borrow_mut();
        services.iter().map(|service| (service.node().name().to_owned(), service.name().to_owned())).collect()
    }

    /// Sets what links between two nodes are like, in both directions.
    pub fn link(&self, a: &Node, b: &Node, profile: &LinkProfile) {
        self.inner.net.set_profile(a.id(), b.id(), profile);
    }

    /// Sets what links are like for which nothing else is said.
    pub fn links(&self, profile: LinkProfile) {
        self.inner.net.set_default_profile(profile);
    }

    /// The network.
    pub fn net(&self) -> &Arc<Net> {
        &self.inner.net
    }

    /// What each fault did so far.
    pub fn effects(&self) -> &Effects {
        &self.inner.effects
    }

    /// Runs something that belongs to no machine: a workload, a fault, a supervisor.
    pub fn spawn(&self, name: &str, future: impl Future<Output = ()> + Send + 'static) {
        self.inner.kernel.spawn(ProcessId::WORLD, name, future);
    }

    /// Ends at an instant of true time.
    pub fn sleep_until(&self, at: SimTime) -> impl Future<Output = ()> + Send + 'static + use<> {
        let sleep: Sleep = self.inner.kernel.sleep_until(at);
        sleep
    }

    /// Ends after some true time.
    pub fn sleep(&self, duration: std::time::Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.sleep_until(self.now() + duration)
    }

    /// Writes a fact that concerns no machine.
    pub fn record(&self, fact: Fact) {
        self.inner.journal.record(NodeId::WORLD, fact);
    }

    /// The journal, as `node` writes it.
    pub(crate) fn ledger(&self, node: NodeId) -> Arc<dyn Ledger> {
        Arc::new(NodeLedger { journal: self.inner.journal.clone(), node })
    }

    /// Ends the world now.
    pub fn stop(&self) {
        self.inner.kernel.halt(Halt::End);
    }

    /// The machine whose process is running; the world's own node when none is.
    pub(crate) fn running_node(&self) -> NodeId {
        let process = self.inner.kernel.current();
        self.inner.nodes.borrow_mut().iter().find(|node| node.runs(process)).map_or(NodeId::WORLD, |node| node.id)
    }

    pub(crate) fn next_request(&self, from: &Node) -> u64 {
        self.inner.meter.borrow_mut().seen(from.id(), self.now());
        let mut told = self.inner.told_to_wait.borrow_mut();
        // Nearly always.
        if !told.is_empty() && told.remove(&from.id()) {
            from.ledger().record(Fact::ClientAskedAgain { client: from.name().into() });
        }
        self.inner.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn was_refused(&self, client: NodeId) {
        self.inner.meter.borrow_mut().refused(client, self.now());
    }

    /// An answer of a server told a machine to wait so many seconds.
    pub(crate) fn was_told_to_wait(&self, client: &Node, server: &str, seconds: u64) {
        self.inner.told_to_wait.borrow_mut().insert(client.id());
        let (name, server) = (client.name().into(), server.to_owned());
        client.ledger().record(Fact::ClientToldToWait { client: name, server, seconds });
    }

    pub(crate) fn count_exchange(&self) {
        self.inner.exchanges.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self, halt: Halt) -> Ended {
        let inner = &self.inner;
        inner.waits.end_all(self);
        for fact in inner.meter.borrow_mut().facts(&self.node_names()) {
            self.record(fact);
        }
        let ended = Ended {
            halt,
            at: self.now(),
            digest: inner.trace.digest(),
            exchanges: inner.exchanges.load(Ordering::Relaxed),
            journal: inner.journal.take(),
            events: inner.trace.take_events(),
            effects: inner.effects.clone(),
            nodes: self.node_names(),
        };
        inner.kernel.tear_down();
        // Both refer to the world.
        let (services, system_faults) = (&inner.services, &inner.system_faults);
        drop((std::mem::take(&mut *services.borrow_mut()), std::mem::take(&mut *system_faults.borrow_mut())));
        inner.nodes.borrow_mut().clear();
        ended
    }
}
