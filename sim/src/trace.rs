//! Every event of a world, folded into a running digest and, when asked for, kept for a reader.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::one_thread::OneThread;
use crate::time::SimTime;

/// Names a node of a world; the world itself is node 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The world itself.
    pub const WORLD: NodeId = NodeId(0);
}

/// An event, when and where it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// True time.
    pub at: SimTime,
    /// The node at which it happened.
    pub node: NodeId,
    /// What happened.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are plain; each variant says what they mean together")]
pub enum What {
    /// A connection was established with `to`.
    Connected { connection: u64, to: NodeId, port: u16 },
    /// A connection could not be established.
    NotConnected { to: String, port: u16, why: String },
    /// Bytes of a connection arrived here; `hash` is that of the bytes.
    Arrived { connection: u64, bytes: u64, hash: u64 },
    /// The other side of a connection will send no more.
    HalfClosed { connection: u64 },
    /// A connection was reset, or given up, as seen from here.
    Broken { connection: u64, why: String },
    /// A request left this node. `id` is unique in the world and joins it with its answer.
    RequestSent { id: u64, to: String, method: String, path: String },
    /// The head of an answer reached the sender of the request.
    Answered { id: u64, status: u16 },
    /// A request failed below HTTP.
    RequestFailed { id: u64, error: String },
    /// The sender of a request stopped waiting for its answer.
    RequestDropped { id: u64 },
    /// A process of this node started.
    ProcessStarted { process: String },
    /// A process of this node ended.
    ProcessEnded { process: String, how: String },
    /// A fault began or ended, or did something to this node's traffic.
    Fault { fault: usize, kind: String, what: String },
    /// Every fault is over.
    Healed,
    /// A fact was written into the journal.
    Fact { fact: squall_protocol::Fact },
    /// The code under test logged this.
    Log { level: String, message: String },
}

/// Whether a trace keeps its events or only their digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The digest alone.
    #[default]
    Digest,
    /// Every event, for reports and for finding the first difference between two runs.
    Events,
}

/// The trace of one world.
#[derive(Debug)]
pub struct Trace {
    keep: Keep,
    state: OneThread<State>,
}

#[derive(Debug, Default)]
struct State {
    digest: u64,
    count: u64,
    events: Vec<Event>,
}

impl Trace {
    /// An empty trace.
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, state: OneThread::default() }
    }

    /// Adds an event: `key` is what goes into the digest, `what` is only called for when events are kept.
    pub(crate) fn add(&self, at: SimTime, node: NodeId, key: &[u64], what: impl FnOnce() -> What) {
        let mut state = self.state.borrow_mut();
        let mut head = [0_u8; 48];
        debug_assert!(key.len() <= 4, "an event's key is at most four words");
        head[0..8].copy_from_slice(&at.as_nanos().to_le_bytes());
        head[8..12].copy_from_slice(&node.0.to_le_bytes());
        head[12..16].copy_from_slice(&(key.len() as u32).to_le_bytes());
        for (word, place) in key.iter().zip(head[16..].chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        state.digest = xxh3_64_with_seed(&head, state.digest);
        state.count += 1;
        if self.keep == Keep::Events {
            state.events.push(Event { at, node, what: what() });
        }
    }

    /// Adds an event for readers alone: what it tells is in the digest by other events.
    pub(crate) fn note(&self, at: SimTime, node: NodeId, what: impl FnOnce() -> What) {
        if self.keep == Keep::Events {
            let what = what();
            self.state.borrow_mut().events.push(Event { at, node, what });
        }
    }

    /// The digest of everything so far, as 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        format!("{:016x}", self.state.borrow_mut().digest)
    }

    /// How many events went into the digest.
    pub fn count(&self) -> u64 {
        self.state.borrow_mut().count
    }

    /// Are events kept?
    pub fn keeps_events(&self) -> bool {
        self.keep == Keep::Events
    }

    /// Takes the kept events out.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state.borrow_mut().events)
    }
}

/// The hash of some bytes, as it goes into a digest.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}
