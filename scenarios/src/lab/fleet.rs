//! A fleet: its agents, their policy, and what their server can do.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::retry::Policy;

/// The largest fleet.
pub const AGENTS_MAX: u32 = 10_000;
/// Larger fleets exchange without a network below, unless it is asked for.
pub const HTTP_AGENTS_MAX: u32 = 300;
/// The server's machines. Each agent speaks to one of them.
pub const FRONTS: u32 = 4;
/// What opening a session costs the server, in renewals.
pub const LOGIN_COST: u32 = 4;

/// How requests get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// As HTTP/1.1 over the simulated network.
    Http,
    /// As calls of the server's handler, after the latency of a link.
    Exchange,
}

/// A fleet and its server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// How many agents.
    pub agents: u32,
    /// What they retry with.
    pub policy: Policy,
    /// How their requests get to the server.
    pub transport: Transport,
    /// How often each renews its lease, in milliseconds.
    pub poll_ms: u64,
    /// How long a lease lasts, in milliseconds.
    pub lease_ms: u64,
    /// After so many milliseconds nobody waits for the answer of a call any more.
    pub deadline_ms: u64,
    /// What an attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// What renewals alone use of the server, in percent.
    pub load_percent: u32,
    /// The longest that a request waits at the server, in milliseconds; who would wait longer is told 503.
    pub queue_ms: u64,
    /// What those are told in Retry-After, in seconds.
    pub retry_after_s: Option<u64>,
    /// The run ends when so many requests were sent.
    pub requests_max: u64,
    /// Before trouble begins all agents renew one right after another, in as short a time as their server can serve them
    /// in: what an earlier event, such as a deployment, has put into step.
    #[serde(default)]
    pub in_step: bool,
}

impl Fleet {
    /// So many agents with a policy, at half of the server's capacity.
    pub fn of(agents: u32, policy: Policy) -> Self {
        let transport = if agents <= HTTP_AGENTS_MAX { Transport::Http } else { Transport::Exchange };
        Self {
            agents,
            policy,
            transport,
            poll_ms: 10_000,
            lease_ms: 60_000,
            deadline_ms: 60_000,
            timeout_ms: 10_000,
            load_percent: 50,
            queue_ms: 2_000,
            retry_after_s: None,
            requests_max: 100_000 + 500 * u64::from(agents),
            in_step: false,
        }
    }

    /// How often each agent renews its lease.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// How long a lease lasts.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// When nobody waits for a call any more.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// What an attempt may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Renewals a second that the server can do, in thousandths.
    pub fn capacity_milli_per_s(&self) -> u64 {
        let renewals = u64::from(self.agents) * 1_000_000 / self.poll_ms.max(1);
        (renewals * 100 / u64::from(self.load_percent.max(1))).max(1)
    }

    /// Agents start within this time, so that their first logins alone do not overload the server.
    pub fn start_within(&self) -> Duration {
        self.poll() * LOGIN_COST
    }

    /// The shortest time in which the server can serve a renewal of every agent.
    pub fn renewed_within(&self) -> Duration {
        self.poll() * self.load_percent / 100
    }

    /// What of a fleet makes no sense, in a sentence.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("agents", u64::from(self.agents), 1, u64::from(AGENTS_MAX)),
            ("poll_ms", self.poll_ms, 10, 86_400_000),
            ("lease_ms", self.lease_ms, 10, 86_400_000),
            ("deadline_ms", self.deadline_ms, 1, 86_400_000),
            ("timeout_ms", self.timeout_ms, 1, 86_400_000),
            ("load_percent", u64::from(self.load_percent), 1, 1_000),
            ("queue_ms", self.queue_ms, 0, 86_400_000),
            ("requests_max", self.requests_max, 1, 100_000_000),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("{field} is {value}; it takes {least} to {most}"));
            }
        }
        self.policy.check().map(drop).map_err(|error| format!("policy: {error}"))
    }
}
