//! What really happened to a fleet, in true time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_protocol::Fact;
use squall_sim::{SimTime, World};

/// The width of a bucket of arrivals.
pub const BUCKET: Duration = Duration::from_millis(100);

/// The kind of the laboratory's own facts.
pub const FACT: &str = "lab";
/// An agent is answered for the first time after heal.
pub const BACK: &str = "is back";
/// An agent's lease ran out.
pub const LOST: &str = "lost its lease";

/// What happened to a fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// When trouble began.
    pub trouble_at: SimTime,
    /// From when on recovery is measured.
    pub from: SimTime,
    /// When the run ended.
    pub end: SimTime,
    /// Requests sent in each bucket since the beginning.
    pub sent: Vec<u32>,
    /// Requests sent since the beginning.
    pub requests: u64,
    /// Requests sent since trouble began.
    pub attempts: u64,
    /// Calls that were answered since trouble began.
    pub successes: u64,
    /// Requests sent after nobody waited for their call any more.
    pub late: u64,
    /// Leases that ran out.
    pub leases_lost: u64,
    /// How long agents worked without a lease.
    pub orphaned: Duration,
    /// Attempts and retries that policies refused for want of budget.
    pub refused: u64,
    /// When each agent was answered for the first time since recovery is measured.
    pub back: Vec<Option<SimTime>>,
    /// It ended early because so many requests were sent.
    pub cut_short: bool,
    pub(super) agents: Vec<Tenure>,
}

/// An agent's lease and its work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tenure {
    /// When its lease ends, as the server has it.
    lease_until: Option<SimTime>,
    /// It is at work.
    works: bool,
    /// When its lease ended while it was at work.
    orphan_since: Option<SimTime>,
    refused: u64,
}

/// Writes a [`Record`] while the world runs. Handles write the same one.
#[derive(Clone)]
pub struct Recorder {
    world: World,
    record: Arc<Mutex<Record>>,
}

impl Recorder {
    /// An empty record of so many agents.
    pub fn new(world: &World, agents: u32, trouble_at: SimTime, from: SimTime) -> Self {
        let record = Record {
            trouble_at,
            from,
            back: vec![None; agents as usize],
            agents: vec![Tenure::default(); agents as usize],
            ..Record::default()
        };
        Self { world: world.clone(), record: Arc::new(Mutex::new(record)) }
    }

    fn write<T>(&self, write: impl FnOnce(&mut Record, SimTime) -> T) -> T {
        write(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner), self.world.now())
    }

    /// A request is sent for a call that began then; `deadline` after that nobody waits for it.
    pub fn sent(&self, began: SimTime, deadline: Duration) {
        self.write(|record, now| {
            let bucket = (now.as_nanos() / BUCKET.as_nanos() as u64) as usize;
            if record.sent.len() <= bucket {
                record.sent.resize(bucket + 1, 0);
            }
            record.sent[bucket] += 1;
            record.requests += 1;
            record.attempts += u64::from(now >= record.trouble_at);
            record.late += u64::from(now >= record.trouble_at && now > began + deadline);
        });
    }

    /// A call of an agent was answered.
    pub fn answered(&self, agent: u32) {
        let is_back = self.write(|record, now| {
            record.successes += u64::from(now >= record.trouble_at);
            let first = now >= record.from && record.back[agent as usize].is_none();
            if first {
                record.back[agent as usize] = Some(now);
            }
            first
        });
        if is_back {
            self.tell(agent, BACK);
        }
    }

    /// The policy of an agent has refused so much so far.
    pub fn refused(&self, agent: u32, refused: u64) {
        self.write(|record, _| record.agents[agent as usize].refused = refused);
    }

    /// The server grants a lease or extends it.
    pub fn leased(&self, agent: u32, until: SimTime) {
        let lost = self.write(|record, now| {
            let lost = record.lose_lapsed(agent as usize, now);
            record.agents[agent as usize].lease_until = Some(until);
            lost
        });
        if lost {
            self.tell(agent, LOST);
        }
    }

    fn tell(&self, agent: u32, detail: &str) {
        let subject = format!("agent-{agent}");
        self.world.record(Fact::Custom { kind: FACT.to_owned(), subject, detail: detail.to_owned() });
    }

    /// Does the server hold a lease for this agent?
    pub fn holds_lease(&self, agent: u32) -> bool {
        self.write(|record, now| {
            record.lose_lapsed(agent as usize, now);
            record.agents[agent as usize].lease_until.is_some()
        })
    }

    /// An agent begins or goes on to work.
    pub fn works(&self, agent: u32) {
        self.write(|record, _| record.agents[agent as usize].works = true);
    }

    /// An agent stops its work.
    pub fn stops(&self, agent: u32) {
        self.write(|record, now| record.stop(agent as usize, now));
    }

    /// Requests sent so far, and whether every agent was answered again.
    pub fn progress(&self) -> (u64, bool) {
        self.write(|record, _| (record.requests, record.back.iter().all(Option::is_some)))
    }

    /// The run ends early.
    pub fn cut_short(&self) {
        self.write(|record, _| record.cut_short = true);
    }

    /// The record of a run that ended then.
    pub fn finish(&self, end: SimTime) -> Record {
        let mut record = std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner));
        record.end = end;
        for agent in 0..record.agents.len() {
            record.stop(agent, end);
        }
        record.refused = record.agents.iter().map(|agent| agent.refused).sum();
        record
    }
}

impl Record {
    /// A lease that has run out is lost, once. Says whether it was.
    fn lose_lapsed(&mut self, agent: usize, now: SimTime) -> bool {
        let tenure = &mut self.agents[agent];
        let lost = tenure.lease_until.is_some_and(|until| until < now);
        if lost {
            // Who is still at work is so without a lease from here on.
            tenure.orphan_since = tenure.lease_until.take().filter(|_| tenure.works);
            self.leases_lost += 1;
        }
        lost
    }

    fn stop(&mut self, agent: usize, now: SimTime) {
        self.lose_lapsed(agent, now);
        let tenure = &mut self.agents[agent];
        tenure.works = false;
        self.orphaned += tenure.orphan_since.take().map_or(Duration::ZERO, |since| now.since(since));
    }
}
