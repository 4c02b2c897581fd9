//! The network: ordered byte streams between nodes, with everything that goes wrong on real ones.
//!
//! A write is one segment, or several on a narrow link. It leaves when the link has room, arrives after the link's
//! latency and in order, and is acknowledged when it does. Packets without data (a SYN, its answer, a reset that
//! answers) do not wait for room, as on machines whose queues are fair to new flows. A segment that cannot get through is retransmitted with
//! doubling pauses, as TCP does, so a healed partition is noticed late; after [`RETRANSMIT_LIMIT`] the sender gives the
//! connection up.

mod condition;
mod connect;
mod connection;
mod delivery;
mod pace;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use slab::Slab;

pub use self::condition::{Active, Condition};
pub use self::connect::{ConnectError, Listener};
use self::connection::Connection;
pub(crate) use self::connection::{ConnectionKey, Side};
pub use self::stream::{Alpn, Stream};
use crate::effects::{Effects, FaultId};
use crate::kernel::Kernel;
use crate::one_thread::OneThread;
use crate::random::Streams;
use crate::time::SimTime;
use crate::trace::{NodeId, Trace};

/// How long a sender retransmits before it gives a connection up: `tcp_retries2` of 15 on Linux, about 924 s.
pub const RETRANSMIT_LIMIT: Duration = Duration::from_secs(924);
/// The first pause before a retransmission, Linux's least retransmission time-out; it doubles each time.
const RETRANSMIT_FIRST: Duration = Duration::from_millis(200);
/// The longest pause between two retransmissions (TCP_RTO_MAX on Linux).
const RETRANSMIT_PAUSE_MAX: Duration = Duration::from_secs(120);
/// Bytes under way or unread before a writer has to wait.
pub const WINDOW_BYTES: usize = 64 * 1024;
/// Connections that wait to be accepted before further ones hang.
pub const BACKLOG_MAX: usize = 1024;
/// How long bytes take between two processes of one machine.
const LOOPBACK_LATENCY: Duration = Duration::from_micros(20);

/// What a link is like when nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkProfile {
    /// Time from sender to receiver, drawn uniformly for each segment.
    pub latency: Range<Duration>,
    /// Bytes a second, if limited.
    pub bandwidth: Option<u64>,
}

impl Default for LinkProfile {
    /// One to ten milliseconds and any number of bytes.
    fn default() -> Self {
        Self { latency: Duration::from_millis(1)..Duration::from_millis(10), bandwidth: None }
    }
}

/// The network of one world.
pub struct Net {
    kernel: Arc<Kernel>,
    streams: Streams,
    trace: Arc<Trace>,
    effects: Effects,
    state: OneThread<State>,
}

#[derive(Default)]
struct State {
    /// By the numbers of their nodes.
    hosts: Vec<Host>,
    names: BTreeMap<Arc<str>, NodeId>,
    /// Every link that was used, and where it is.
    links: Vec<Link>,
    links_by_ends: BTreeMap<(NodeId, NodeId), LinkId>,
    conditions: Vec<Active>,
    connections: Slab<Connection>,
    connection_next: u64,
    default_profile: LinkProfile,
    profiles: BTreeMap<(NodeId, NodeId), LinkProfile>,
}

/// A machine as the network sees it.
#[derive(Default)]
struct Host {
    name: Arc<str>,
    up: bool,
    frozen: bool,
    /// Grows with each boot: what an earlier boot knew of connections, this one does not.
    boot: u32,
    listeners: BTreeMap<u16, Backlog>,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Stream>,
    acceptor: Option<Waker>,
}

/// A link's place among all; `None` stands for a machine's way to itself.
type LinkId = Option<usize>;

struct Link {
    from: NodeId,
    to: NodeId,
    profile: LinkProfile,
    random: ChaCha8Rng,
    /// When the last byte accepted so far has left.
    free_at: SimTime,
}

impl Link {
    fn ends(&self) -> (NodeId, NodeId) {
        (self.from, self.to)
    }
}

impl Net {
    pub(crate) fn new(kernel: Arc<Kernel>, streams: Streams, trace: Arc<Trace>, effects: Effects) -> Arc<Self> {
        Arc::new_cyclic(|net: &Weak<Self>| {
            kernel.fires(net.clone());
            Self { kernel, streams, trace, effects, state: OneThread::default() }
        })
    }

    /// Attaches a machine under its name.
    pub(crate) fn attach(&self, node: NodeId, name: &str) {
        let mut state = self.state.borrow_mut();
        let name: Arc<str> = name.into();
        assert_eq!(state.hosts.len(), node.0 as usize, "nodes are attached in the order of their numbers");
        state.hosts.push(Host { name: name.clone(), up: true, ..Host::default() });
        state.names.insert(name, node);
    }

    /// Gives a machine one more name.
    pub(crate) fn alias(&self, node: NodeId, name: &str) {
        self.state.borrow_mut().names.insert(name.into(), node);
    }

    /// The machines on which something listens.
    pub(crate) fn listening(&self) -> Vec<NodeId> {
        let state = self.state.borrow_mut();
        let listening = (0..).zip(&state.hosts).filter(|(_, host)| !host.listeners.is_empty());
        listening.map(|(node, _)| NodeId(node)).collect()
    }

    /// Sets what links between two nodes are like, in both directions.
    pub(crate) fn set_profile(&self, a: NodeId, b: NodeId, profile: &LinkProfile) {
        self.change(|state| {
            for ends in [(a, b), (b, a)] {
                state.profiles.insert(ends, profile.clone());
                if let Some(Some(link)) = state.links_by_ends.get(&ends).copied() {
                    state.links[link].profile = profile.clone();
                }
            }
        });
    }

    /// Sets what links are like for which nothing else is said. It holds for links that were not used yet.
    pub(crate) fn set_default_profile(&self, profile: LinkProfile) {
        self.state.borrow_mut().default_profile = profile;
    }

    /// Makes something go wrong.
    pub fn impose(&self, condition: Active) {
        self.change(|state| state.conditions.push(condition));
    }

    /// Ends what a fault made go wrong.
    pub fn lift(&self, fault: FaultId) {
        self.change(|state| state.conditions.retain(|active| active.fault != fault));
    }

    /// Resets every connection between two sets of nodes (`None`: any), from the middle: both ends notice at once.
    pub fn reset_connections(&self, fault: FaultId, a: Option<NodeId>, b: Option<NodeId>) {
        let mut state = self.state.borrow_mut();
        let matches = |connection: &Connection| {
            let (x, y) = connection.nodes();
            let either = |n: Option<NodeId>, m: Option<NodeId>| n.is_none_or(|n| n == x) && m.is_none_or(|m| m == y);
            x != y && (either(a, b) || either(b, a))
        };
        let hit: Vec<usize> = state.connections.iter().filter(|(_, c)| matches(c)).map(|(slot, _)| slot).collect();
        for slot in hit {
            self.effects.count(fault);
            self.break_both(&mut state, slot, std::io::ErrorKind::ConnectionReset);
            state.forget_if_over(slot);
        }
    }

    /// The machine is gone without a word: its peers hear nothing more.
    pub(crate) fn host_down(&self, node: NodeId) {
        let now = self.kernel.now();
        let mut state = self.state.borrow_mut();
        let host = state.host_mut(node);
        host.up = false;
        host.boot += 1;
        let listeners = std::mem::take(&mut host.listeners);
        state.pipes_from(node).for_each(|pipe| pipe.forget_unsent(now));
        drop(state);
        drop(listeners);
    }

    /// The machine is back, and knows nothing of its former connections.
    pub(crate) fn host_up(&self, node: NodeId) {
        self.state.borrow_mut().host_mut(node).up = true;
    }

    /// The machine is suspended, or goes on.
    pub(crate) fn host_frozen(&self, node: NodeId, frozen: bool) {
        let mut state = self.state.borrow_mut();
        state.host_mut(node).frozen = frozen;
        if !frozen {
            self.resume_sending(&mut state, node);
        }
    }

    /// How many connections exist, half-open ones included.
    pub fn connections(&self) -> usize {
        self.state.borrow_mut().connections.len()
    }
}

impl Net {
    /// The first condition of a kind on the way from one node to another, counted as having had an effect.
    fn met<T>(&self, state: &State, ends: (NodeId, NodeId), pick: impl Fn(Condition) -> Option<T>) -> Option<T> {
        let active = state.conditions.iter().filter(|active| active.holds_for(ends.0, ends.1));
        let (fault, found) = active.into_iter().find_map(|active| Some((active.fault, pick(active.what)?)))?;
        self.effects.count(fault);
        Some(found)
    }

    /// Does anything that one node has sent get to another at this moment?
    fn is_open(&self, state: &State, from: NodeId, to: NodeId) -> bool {
        let receives = |host: &Host| host.up && !host.frozen;
        from == to
            || (receives(state.host(to))
                && self.met(state, (from, to), |what| (what == Condition::Cut).then_some(())).is_none())
    }

    /// The link from one node to another, which is made when it is first asked for.
    fn link(&self, state: &mut State, from: NodeId, to: NodeId) -> LinkId {
        if from == to {
            return None;
        }
        let State { hosts, links, links_by_ends, profiles, default_profile, .. } = state;
        *links_by_ends.entry((from, to)).or_insert_with(|| {
            let profile = profiles.get(&(from, to)).unwrap_or(default_profile).clone();
            let name = |node: NodeId| &hosts[node.0 as usize].name;
            let random = self.streams.stream(&format!("link:{}->{}", name(from), name(to)));
            links.push(Link { from, to, profile, random, free_at: SimTime::ZERO });
            Some(links.len() - 1)
        })
    }
}

impl State {
    fn host(&self, node: NodeId) -> &Host {
        &self.hosts[node.0 as usize]
    }

    fn host_mut(&mut self, node: NodeId) -> &mut Host {
        &mut self.hosts[node.0 as usize]
    }
}
