//! Nodes: machines with a clock, a disk and processes, that crash, freeze and boot again.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use futures_channel::oneshot;
use squall_protocol::{Clock, Disk, Fact, Ledger, Random};

use crate::clock::NodeClock;
use crate::disk::SimDisk;
use crate::effects::FaultId;
use crate::gateway::{GatewayLayer, Witness};
use crate::kernel::{Kernel, ProcessId};
use crate::net::Listener;
use crate::one_thread::OneThread;
use crate::process::Process;
use crate::trace::{NodeId, What};
use crate::world::World;

/// A machine. Handles are cheap to clone and mean the same one.
#[derive(Clone)]
pub struct Node {
    pub(crate) world: World,
    pub(crate) state: Arc<NodeState>,
}

pub(crate) struct NodeState {
    pub(crate) id: NodeId,
    pub(crate) name: Arc<str>,
    clock: Arc<NodeClock>,
    disk: SimDisk,
    power: OneThread<Power>,
    /// Told whenever the machine boots or goes on.
    pub(crate) changed: Event,
}

#[derive(Debug, Default)]
struct Power {
    down: bool,
    frozen: bool,
    /// How often it booted after a crash.
    boots: u32,
    processes: BTreeSet<ProcessId>,
    processes_ever: u64,
}

impl NodeState {
    pub(crate) fn new(id: NodeId, name: &str, kernel: &Arc<Kernel>) -> Self {
        Self {
            id,
            name: name.into(),
            clock: Arc::new(NodeClock::new(kernel.clone())),
            disk: SimDisk::default(),
            power: OneThread::default(),
            changed: Event::new(),
        }
    }

    /// Is it a process of this machine?
    pub(crate) fn runs(&self, process: ProcessId) -> bool {
        self.power.borrow_mut().processes.contains(&process)
    }
}

impl Node {
    /// The node's number in this world.
    pub fn id(&self) -> NodeId {
        self.state.id
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The world that it is a part of.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Gives the machine one more name in the network.
    pub fn also_named(&self, name: &str) -> &Self {
        self.world.inner.net.alias(self.id(), name);
        self
    }

    /// The machine's clock, as the world may disturb it.
    pub fn node_clock(&self) -> &NodeClock {
        &self.state.clock
    }

    /// The machine's clock, as its processes read it.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.state.clock.clone()
    }

    /// The machine's disk.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.state.disk.clone())
    }

    /// The machine's disk, as the world may disturb it.
    pub(crate) fn sim_disk(&self) -> &SimDisk {
        &self.state.disk
    }

    /// A random generator for one purpose on this machine.
    pub fn random(&self, purpose: &str) -> Random {
        Box::new(self.world.stream(&format!("{}/{purpose}", self.state.name)))
    }

    /// The journal, as this machine's part of the world writes it.
    pub fn ledger(&self) -> Arc<dyn Ledger> {
        self.world.ledger(self.id())
    }

    /// What stands before every server of this machine.
    pub fn gateway(&self) -> GatewayLayer {
        let rules = self.world.inner.rules.clone();
        GatewayLayer::new(self.state.name.clone(), rules, self.clock())
            .witnessed_by(Arc::new(NodeWitness(self.clone())))
    }

    /// Starts a process that nobody supervises, for as long as the machine runs. On a machine that is down it is dead
    /// from the start.
    pub fn start<F>(&self, name: &str, main: impl FnOnce(Process) -> F) -> Process
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (process, _) = self.new_process(name);
        let running = main(process.clone());
        let ended = process.clone();
        process.spawn(name, async move {
            running.await;
            ended.kill();
        });
        process
    }

    /// Makes a process without tasks, and the sender that asks it to stop.
    pub(crate) fn new_process(&self, name: &str) -> (Process, oneshot::Sender<()>) {
        let kernel = &self.world.inner.kernel;
        let id = kernel.new_process();
        let mut power = self.state.power.borrow_mut();
        power.processes_ever += 1;
        if power.down {
            kernel.kill(id);
        } else {
            power.processes.insert(id);
            kernel.freeze(id, power.frozen);
        }
        let name = format!("{}/{name}", self.state.name);
        let incarnation = power.processes_ever;
        drop(power);
        Process::new(self.clone(), id, name, incarnation)
    }

    pub(crate) fn process_ended(&self, process: ProcessId) {
        self.state.power.borrow_mut().processes.remove(&process);
    }

    /// Listens on a port of this machine.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when somebody does already.
    pub(crate) fn listen(&self, port: u16) -> io::Result<Listener> {
        self.world.inner.net.listen(self.id(), port).ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }

    /// Is the machine running (even if frozen)?
    pub fn is_up(&self) -> bool {
        !self.state.power.borrow_mut().down
    }

    /// Is the machine suspended?
    pub fn is_frozen(&self) -> bool {
        self.state.power.borrow_mut().frozen
    }

    /// How often the machine has booted after a crash.
    pub fn boots(&self) -> u32 {
        self.state.power.borrow_mut().boots
    }

    /// How many processes it has at present.
    pub fn processes(&self) -> usize {
        self.state.power.borrow_mut().processes.len()
    }

    /// The machine loses power: its processes are gone, the disk forgets what was not synced, its peers hear nothing.
    ///
    /// Returns how many processes were lost.
    pub fn crash(&self) -> usize {
        let processes = {
            let mut power = self.state.power.borrow_mut();
            if power.down {
                return 0;
            }
            power.down = true;
            std::mem::take(&mut power.processes)
        };
        self.world.inner.net.host_down(self.id());
        for process in &processes {
            self.world.inner.kernel.kill(*process);
        }
        self.state.disk.crash();
        processes.len()
    }

    /// The machine boots after a crash. Its services start again.
    pub fn boot(&self) {
        {
            let mut power = self.state.power.borrow_mut();
            if !power.down {
                return;
            }
            power.down = false;
            power.boots += 1;
        }
        self.world.inner.net.host_up(self.id());
        self.state.changed.notify(usize::MAX);
    }

    /// The machine is suspended by whoever runs it: no process runs, no packet is answered. Both clocks go on, so every
    /// timer that was due meanwhile is late.
    ///
    /// Returns how many processes stopped.
    pub fn freeze(&self) -> usize {
        self.set_frozen(true)
    }

    /// As [`Node::freeze`], but the machine falls asleep by itself, as when a lid is closed: its monotonic clock stands
    /// still as well.
    pub fn fall_asleep(&self) -> usize {
        self.state.clock.set_suspended(true);
        self.set_frozen(true)
    }

    /// The machine goes on after it was suspended.
    pub fn thaw(&self) {
        self.state.clock.set_suspended(false);
        self.set_frozen(false);
    }

    fn set_frozen(&self, frozen: bool) -> usize {
        let processes: Vec<ProcessId> = {
            let mut power = self.state.power.borrow_mut();
            power.frozen = frozen;
            power.processes.iter().copied().collect()
        };
        self.world.inner.net.host_frozen(self.id(), frozen);
        let machine = self.name().into();
        self.ledger().record(match frozen {
            true => Fact::MachineSuspended { machine },
            false => Fact::MachineResumed { machine },
        });
        for process in &processes {
            self.world.inner.kernel.freeze(*process, frozen);
        }
        if !frozen {
            self.state.changed.notify(usize::MAX);
        }
        processes.len()
    }

    /// Sleeps by the machine's own clock.
    pub async fn sleep(&self, duration: Duration) {
        self.state.clock.sleep(duration).await;
    }
}

/// Notes what a machine's gateway does in the trace.
struct NodeWitness(Node);

impl Witness for NodeWitness {
    fn saw(&self, fault: FaultId, kind: &str, what: fmt::Arguments<'_>) {
        let world = self.0.world();
        world.inner.trace.note(world.now(), self.0.id(), || What::Fault {
            fault,
            kind: kind.to_owned(),
            what: what.to_string(),
        });
    }
}
