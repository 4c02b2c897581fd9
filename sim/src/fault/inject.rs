//! Carrying a plan out in a world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Direction, Fault, FaultKind, FaultPlan, Inhabitants, PlanError, Target};
use crate::clock::Falsified;
use crate::effects::FaultId;
use crate::mutex::lock;
use crate::net::{Active, Condition};
use crate::node::Node;
use crate::service::Service;
use crate::time::SimTime;
use crate::trace::{NodeId, What};
use crate::world::World;

const NANOS_PER_MS: i64 = 1_000_000;

/// The faults that only one system knows, by name, and who carries them out.
pub(crate) type SystemFaults = BTreeMap<String, Arc<dyn Fn(SystemFault<'_>) + Send + Sync>>;

/// Whether a fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From now on.
    Begins,
    /// Until now.
    Ends,
}

/// A fault that only one system knows, as it is handed to who carries it out.
#[derive(Clone, Copy, Debug)]
pub struct SystemFault<'a> {
    /// Its place in the plan; what it changes is counted for it in [`World::effects`].
    pub id: FaultId,
    /// How much of it.
    pub amount: i64,
    /// Where.
    pub target: &'a Target,
    /// From its beginning to its end, which the heal may have brought forward.
    pub lasts: Duration,
    /// Whether it begins or ends.
    pub phase: Phase,
}

impl World {
    /// Carries out faults of this name by `handler`, which is called when such a fault begins and when it ends, and which
    /// counts what they change in [`World::effects`].
    pub fn on_system_fault(&self, name: &str, handler: impl Fn(SystemFault<'_>) + Send + Sync + 'static) {
        self.inner.system_faults.borrow_mut().insert(name.to_owned(), Arc::new(handler));
    }

    /// What there is for faults to act on at present.
    pub fn inhabitants(&self) -> Inhabitants {
        Inhabitants {
            nodes: self.node_names().into_iter().skip(1).collect(),
            services: self.service_names().into_iter().collect(),
            system_faults: self.inner.system_faults.borrow_mut().keys().cloned().collect(),
        }
    }

    /// Lets every fault of a plan begin and end in its time. No fault acts after the plan's `heal_at_ms`: what is still
    /// wrong then is put right, and clocks that were disturbed show true time again.
    ///
    /// Call it after all nodes, services and handlers of system faults are there.
    ///
    /// # Errors
    /// [`PlanError`] when the plan does not fit this world.
    pub fn inject(&self, plan: &FaultPlan) -> Result<(), PlanError> {
        plan.check(&self.inhabitants())?;
        if plan.faults.is_empty() {
            return Ok(());
        }
        let injection = Arc::new(Injection { world: self.clone(), plan: plan.clone(), state: Mutex::default() });
        for id in 0..plan.faults.len() {
            // Named by what it is, so that faults which happen at one instant keep their order whatever else is planned.
            self.spawn(&format!("fault {}", plan.faults[id].key()), injection.clone().carry_out(id));
        }
        self.spawn("heal", injection.heal());
        Ok(())
    }
}

struct Injection {
    world: World,
    plan: FaultPlan,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    active: BTreeSet<FaultId>,
    /// What several faults may do to the same thing at once: it is over when the last of them is.
    held: BTreeMap<Hold, BTreeSet<FaultId>>,
    /// Nodes whose clock is or was wrong, and its drift, which several faults may add to, in millionths.
    clocks: BTreeMap<NodeId, i32>,
}

/// Something that is kept from running.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    Down(NodeId),
    Frozen(NodeId),
    Stopped(NodeId, String),
}

impl Injection {
    async fn carry_out(self: Arc<Self>, id: FaultId) {
        let fault = &self.plan.faults[id];
        if fault.at_ms >= self.plan.heal_at_ms {
            return;
        }
        self.world.sleep_until(SimTime::from_millis(fault.at_ms)).await;
        lock(&self.state).active.insert(id);
        self.tell(id, Phase::Begins);
        self.begin(id, fault);
        let end_ms = fault.at_ms.saturating_add(fault.for_ms);
        if end_ms < self.plan.heal_at_ms {
            self.world.sleep_until(SimTime::from_millis(end_ms)).await;
            self.end(id);
        }
    }

    async fn heal(self: Arc<Self>) {
        self.world.sleep_until(SimTime::from_millis(self.plan.heal_at_ms)).await;
        let active: Vec<FaultId> = lock(&self.state).active.iter().copied().collect();
        active.into_iter().for_each(|id| self.end(id));
        self.world.inner.rules.heal();
        let disturbed: Vec<NodeId> = lock(&self.state).clocks.keys().copied().collect();
        for node in disturbed {
            let clock = self.world.node_of(node).node_clock().clone();
            clock.step_wall(-clock.wall_ahead_nanos());
        }
        self.world.inner.trace.add(self.world.now(), NodeId::WORLD, &[9], || What::Healed);
    }

    fn tell(&self, id: FaultId, phase: Phase) {
        let fault = &self.plan.faults[id];
        let node = fault.target.node.as_deref().and_then(|name| self.world.find(name));
        let place = node.map_or(NodeId::WORLD, |node| node.id());
        self.world.inner.trace.add(self.world.now(), place, &[8, id as u64, phase as u64], || What::Fault {
            fault: id,
            kind: fault.kind.family().to_owned(),
            what: match phase {
                Phase::Begins => "begins".to_owned(),
                Phase::Ends => "ends".to_owned(),
            },
        });
    }

    fn begin(&self, id: FaultId, fault: &Fault) {
        let effects = self.world.effects();
        let place = || self.node(fault);
        match &fault.kind {
            FaultKind::Latency { add_ms, direction } => {
                self.impose(id, fault, *direction, Condition::Slow(Duration::from_millis(*add_ms)));
            }
            FaultKind::Bandwidth { bytes_per_s, direction } => {
                self.impose(id, fault, *direction, Condition::Narrow(*bytes_per_s));
            }
            FaultKind::Partition { direction } => self.impose(id, fault, *direction, Condition::Cut),
            FaultKind::ResetAfter { bytes, direction } => {
                self.impose(id, fault, *direction, Condition::ResetAfter(*bytes));
            }
            FaultKind::Refuse => self.impose(id, fault, Direction::In, Condition::Refuse),
            FaultKind::Dns => self.impose(id, fault, Direction::Out, Condition::NoName),
            FaultKind::Reset => {
                let (node, peer) = self.ends(fault);
                self.world.net().reset_connections(id, node, peer);
            }
            FaultKind::Crash => self.hold(id, Hold::Down(place().id()), || place().crash() as u64),
            FaultKind::Pause => self.hold(id, Hold::Frozen(place().id()), || place().freeze() as u64),
            FaultKind::Suspend => self.hold(id, Hold::Frozen(place().id()), || place().fall_asleep() as u64),
            FaultKind::Kill { service } => effects.add(id, u64::from(self.service(fault, service).kill())),
            FaultKind::Stop { service, grace_ms } => self.stop(id, fault, service, Duration::from_millis(*grace_ms)),
            FaultKind::ClockStep { by_ms } => self.step(id, fault, *by_ms, Phase::Begins),
            FaultKind::ClockDrift { ppm } => self.drift(id, fault, *ppm, Phase::Begins),
            FaultKind::DiskFull => {
                let (node, disk) = (place(), place().sim_disk().clone());
                disk.limit_room(id, node.sim_disk().used_bytes(), effects);
            }
            FaultKind::System { name, amount } => self.system(id, name, *amount, Phase::Begins),
            FaultKind::Status { .. }
            | FaultKind::DropReply { .. }
            | FaultKind::Delay { .. }
            | FaultKind::Late { .. }
            | FaultKind::Truncate { .. }
            | FaultKind::Stall { .. }
            | FaultKind::LoginPage { .. }
            | FaultKind::StreamReset { .. }
            | FaultKind::GoAway { .. } => {
                self.world.inner.rules.impose(id, fault);
            }
        }
    }

    fn end(&self, id: FaultId) {
        if !lock(&self.state).active.remove(&id) {
            return;
        }
        let fault = &self.plan.faults[id];
        match &fault.kind {
            FaultKind::Crash => self.release(id, Hold::Down(self.node(fault).id()), || self.node(fault).boot()),
            FaultKind::Pause | FaultKind::Suspend => {
                self.release(id, Hold::Frozen(self.node(fault).id()), || self.node(fault).thaw());
            }
            FaultKind::Stop { service, .. } => {
                let hold = Hold::Stopped(self.node(fault).id(), service.clone());
                self.release(id, hold, || self.service(fault, service).start());
            }
            FaultKind::ClockStep { by_ms } => self.step(id, fault, *by_ms, Phase::Ends),
            FaultKind::ClockDrift { ppm } => self.drift(id, fault, *ppm, Phase::Ends),
            FaultKind::DiskFull => self.node(fault).sim_disk().lift_limit(id),
            FaultKind::System { name, amount } => self.system(id, name, *amount, Phase::Ends),
            _ => {
                self.world.net().lift(id);
                self.world.inner.rules.lift(id);
            }
        }
        self.tell(id, Phase::Ends);
    }
}

impl Injection {
    /// The node that a fault of a node names; the plan was checked.
    fn node(&self, fault: &Fault) -> Node {
        let name = fault.target.node.as_deref().expect("checked: the fault names a node");
        self.world.find(name).expect("checked: the node exists")
    }

    fn service(&self, fault: &Fault, name: &str) -> Service {
        self.world.service(self.node(fault).name(), name).expect("checked: the service exists")
    }

    /// The two ends of a fault of the network.
    fn ends(&self, fault: &Fault) -> (Option<NodeId>, Option<NodeId>) {
        let id = |name: &Option<String>| name.as_deref().and_then(|name| self.world.find(name)).map(|node| node.id());
        (id(&fault.target.node), id(&fault.target.peer))
    }

    fn impose(&self, id: FaultId, fault: &Fault, direction: Direction, what: Condition) {
        let (node, peer) = self.ends(fault);
        let ways = match direction {
            Direction::Out => vec![(node, peer)],
            Direction::In => vec![(peer, node)],
            // Without ends the two ways are one.
            Direction::Both if node == peer => vec![(node, peer)],
            Direction::Both => vec![(node, peer), (peer, node)],
        };
        for (from, to) in ways {
            self.world.net().impose(Active { fault: id, from, to, what });
        }
    }

    /// Keeps something from running; `stop` is called for the first that does, and says how many processes it met.
    fn hold(&self, id: FaultId, hold: Hold, stop: impl FnOnce() -> u64) {
        let first = {
            let mut state = lock(&self.state);
            let holders = state.held.entry(hold).or_default();
            holders.insert(id) && holders.len() == 1
        };
        if first {
            self.world.effects().add(id, stop());
        }
    }

    /// Lets something run again when nobody else keeps it from that.
    fn release(&self, id: FaultId, hold: Hold, start: impl FnOnce()) {
        let last = {
            let mut state = lock(&self.state);
            let holders = state.held.entry(hold).or_default();
            holders.remove(&id) && holders.is_empty()
        };
        if last {
            start();
        }
    }

    fn stop(&self, id: FaultId, fault: &Fault, name: &str, grace: Duration) {
        let (service, hold) = (self.service(fault, name), Hold::Stopped(self.node(fault).id(), name.to_owned()));
        let held = lock(&self.state).held.get(&hold).is_some_and(|holders| !holders.is_empty());
        // What its own supervisor has given up must not come back because of a fault.
        if held || service.is_wanted() {
            self.hold(id, hold, || {
                service.stop(grace);
                // Even if it was between two runs: the next one does not come.
                1
            });
        }
    }

    fn step(&self, id: FaultId, fault: &Fault, by_ms: i64, phase: Phase) {
        let node = self.node(fault);
        let by = by_ms.saturating_mul(NANOS_PER_MS);
        lock(&self.state).clocks.entry(node.id()).or_default();
        match phase {
            Phase::Begins => {
                node.node_clock().step_wall(by);
                node.node_clock().falsified_by(id, Falsified::Wall, self.world.effects());
            }
            Phase::Ends => {
                node.node_clock().step_wall(by.saturating_neg());
                node.node_clock().no_longer_falsified_by(id);
            }
        }
    }

    fn drift(&self, id: FaultId, fault: &Fault, ppm: i32, phase: Phase) {
        let node = self.node(fault);
        let by = match phase {
            Phase::Begins => ppm,
            Phase::Ends => -ppm,
        };
        let drift_ppm = {
            let mut state = lock(&self.state);
            let drift_ppm = state.clocks.entry(node.id()).or_default();
            *drift_ppm += by;
            *drift_ppm
        };
        node.node_clock().set_drift_ppm(drift_ppm);
        match phase {
            Phase::Begins => node.node_clock().falsified_by(id, Falsified::Both, self.world.effects()),
            Phase::Ends => node.node_clock().no_longer_falsified_by(id),
        }
    }

    fn system(&self, id: FaultId, name: &str, amount: i64, phase: Phase) {
        let handler = self.world.inner.system_faults.borrow_mut().get(name).cloned();
        let handler = handler.expect("checked: the system knows the fault");
        let fault = &self.plan.faults[id];
        let lasts_ms = fault.for_ms.min(self.plan.heal_at_ms.saturating_sub(fault.at_ms));
        handler(SystemFault { id, amount, target: &fault.target, lasts: Duration::from_millis(lasts_ms), phase });
    }
}
