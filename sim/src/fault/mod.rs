//! Faults are data: a plan is a list of them, each with a kind, a target, a beginning and an end.

mod catalogue;
mod check;
pub mod families;
pub mod generate;
pub mod inject;
pub mod shrink;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use self::catalogue::catalogue;
pub use self::check::{Inhabitants, PlanError};
pub use self::generate::{Swarm, SystemFamily};
pub use self::inject::{Phase, SystemFault};
pub use self::shrink::PlanTree;

/// What goes wrong in a run, and when it is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FaultPlan {
    /// The faults; a fault's place in this list is its [`crate::effects::FaultId`].
    pub faults: Vec<Fault>,
    /// From here on no fault acts and every supervised node runs. Milliseconds of true time.
    pub heal_at_ms: u64,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Where.
    #[serde(default)]
    pub target: Target,
    /// When it begins, in milliseconds of true time.
    pub at_ms: u64,
    /// How long it lasts, in milliseconds; 0 for what happens at an instant.
    #[serde(default)]
    pub for_ms: u64,
}

impl Fault {
    /// What its draws are keyed by: where, what and since when. It stays the same when other faults come and go, and when
    /// this one becomes shorter or milder, so that a smaller plan goes on to hit the same exchanges.
    pub fn key(&self) -> String {
        let mut key = format!("{}@{}", self.kind.family(), self.at_ms);
        let Target { node, peer, route } = &self.target;
        for (mark, name) in [('n', node), ('p', peer), ('r', route)] {
            if let Some(name) = name {
                // Writing into a string does not fail.
                let _ = write!(key, ":{mark}={name}");
            }
        }
        key
    }
}

/// Where a fault acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Target {
    /// The node: for faults of the network the one that sends or, for a refusal, the host that refuses; for the gateway
    /// the server. Networks and gateways everywhere if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// For faults of the network: the node that receives or, for a refusal, the one that is refused; every other node if
    /// there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// For the gateway: only requests whose path contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// Which way between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// From the target's node to its peer.
    Out,
    /// From the target's peer to its node.
    In,
}

/// Whether a gateway answers in the server's place, or after the server has done what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The server never sees the request.
    BeforeCommit,
    /// The server carried the request out; its answer is replaced.
    AfterCommit,
}

/// What a gateway puts into `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// A date so many seconds ahead of the gateway's clock.
    Date(u64),
    /// Something that is neither.
    Absurd(String),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// Network: everything takes longer.
    Latency {
        /// Milliseconds added to each segment.
        add_ms: u64,
        /// Which way.
        #[serde(default)]
        direction: Direction,
    },
    /// Network: a narrow link.
    Bandwidth {
        /// Bytes a second.
        bytes_per_s: u64,
        /// Which way.
        #[serde(default)]
        direction: Direction,
    },
    /// Network: nothing gets through; senders retransmit, whoever connects hangs.
    Partition {
        /// Which way.
        #[serde(default)]
        direction: Direction,
    },
    /// Network: the host refuses connections, as if nothing listened.
    Refuse,
    /// Network: all connections between the target and its peer are reset once.
    Reset,
    /// Network: something in between resets each connection after so many bytes.
    ResetAfter {
        /// Bytes that pass before; 0 resets at the first byte.
        bytes: u64,
        /// Which way.
        #[serde(default)]
        direction: Direction,
    },
    /// Network: the target cannot resolve the peer's name.
    Dns,
    /// Gateway: a status in place of the answer.
    Status {
        /// 500, 502, 503, 504, 429 and the like.
        status: u16,
        /// Before or after the server has acted.
        when: When,
        /// The header, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway: the server acts, and its answer is never sent: the connection closes, or the stream is reset.
    DropReply {
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway: answers are held back.
    Delay {
        /// Milliseconds before the answer's head goes out.
        by_ms: u64,
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway: requests are held back before the server, which carries them out even if their callers have gone
    /// meanwhile. One that is held when the server's process ends is lost.
    Late {
        /// Milliseconds before the server sees the request.
        by_ms: u64,
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway: the body ends early. HTTP/1.1 closes the connection, HTTP/2 resets the stream with INTERNAL_ERROR. A body
    /// that is not longer passes whole.
    Truncate {
        /// Bytes of the body that get through.
        bytes: u64,
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway: the body stops coming after the head, for ever, and the connection stays open. A body that is not longer
    /// passes whole.
    Stall {
        /// Bytes of the body that get through.
        bytes: u64,
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway: a login page of a captive portal, 200 and text/html.
    LoginPage {
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway, HTTP/2: RST_STREAM in place of the answer.
    StreamReset {
        /// RFC 9113 section 7, for instance 2 for INTERNAL_ERROR, 7 for REFUSED_STREAM.
        code: u32,
        /// Before or after the server has acted.
        when: When,
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Gateway, HTTP/2: GOAWAY; requests under way are finished. On HTTP/1.1 `connection: close`.
    GoAway {
        /// How many requests in a hundred.
        percent: u8,
    },
    /// Node: the machine loses power and boots again at the fault's end.
    Crash,
    /// Node: one service's process is killed; its supervisor notices.
    Kill {
        /// The service.
        service: String,
    },
    /// Node: one service is stopped in an orderly way and started again at the fault's end.
    Stop {
        /// The service.
        service: String,
        /// Milliseconds until it is killed if it has not ended.
        grace_ms: u64,
    },
    /// Node: whoever runs the machine suspends it. Its clocks go on, its timers come late.
    Pause,
    /// Node: the machine falls asleep. As a pause, and its monotonic clock stands still.
    Suspend,
    /// Clock: wall time jumps by so many milliseconds, and back at the fault's end.
    ClockStep {
        /// Forward if positive, back if negative.
        by_ms: i64,
    },
    /// Clock: both clocks run fast or slow.
    ClockDrift {
        /// Millionths.
        ppm: i32,
    },
    /// Disk: no more room than is used.
    DiskFull,
    /// A fault that only one system knows. Its scenario carries it out.
    System {
        /// The fault's name there.
        name: String,
        /// How much of it.
        #[serde(default)]
        amount: i64,
    },
}

impl FaultKind {
    /// The family that swarm testing switches on and off, and whose effects are reported together.
    pub fn family(&self) -> &str {
        match self {
            FaultKind::Latency { .. } => "latency",
            FaultKind::Bandwidth { .. } => "bandwidth",
            FaultKind::Partition { .. } => "partition",
            FaultKind::Refuse => "refuse",
            FaultKind::Reset | FaultKind::ResetAfter { .. } => "reset",
            FaultKind::Dns => "dns",
            FaultKind::Status { .. } => "status",
            FaultKind::DropReply { .. } => "drop-reply",
            FaultKind::Delay { .. } => "delay",
            FaultKind::Late { .. } => "late",
            FaultKind::Truncate { .. } => "truncate",
            FaultKind::Stall { .. } => "stall",
            FaultKind::LoginPage { .. } => "login-page",
            FaultKind::StreamReset { .. } => "stream-reset",
            FaultKind::GoAway { .. } => "go-away",
            FaultKind::Crash => "crash",
            FaultKind::Kill { .. } => "kill",
            FaultKind::Stop { .. } => "stop",
            FaultKind::Pause => "pause",
            FaultKind::Suspend => "suspend",
            FaultKind::ClockStep { .. } => "clock-step",
            FaultKind::ClockDrift { .. } => "clock-drift",
            FaultKind::DiskFull => "disk-full",
            FaultKind::System { name, .. } => name,
        }
    }
}
