//! The Redis that the server keeps its locks, its queues for them and its heartbeats in: on a machine of its own, it may
//! be away for a while and forget what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::bkci::choices::LockDurability;
use crate::clock::Clock;
use crate::deadlines::after;
use crate::facts::{self, Fact, Ledger};
use crate::lock_store::{LockStore, TryLock};

/// How long a heartbeat is on record (`HeartbeatControl.kt`).
const HEARTBEAT_LIFE: Duration = Duration::from_secs(30 * 60);

/// What a lock is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LockName {
    /// An agent, for as long as a build uses it.
    Reuse(String),
    /// The queue of the environment.
    EnvQueue,
    /// A critical section of the server, by name.
    Section(String),
}

impl fmt::Display for LockName {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reuse(agent) => write!(to, "agent:reuse:agent:{agent}:lock"),
            Self::EnvQueue => to.write_str("DISPATCH_REDIS_QUEUE_LOCK_ENV"),
            Self::Section(name) => to.write_str(name),
        }
    }
}

/// A job, in keys.
pub(super) type JobKey = (String, u32);

/// Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock store does not answer")]
pub(super) struct RedisDown;

/// What becomes of the keys in a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They were written to disk.
    Kept,
    /// They were in memory alone.
    Lost,
}

pub(super) struct Redis {
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    durability: LockDurability,
    /// By whom it is kept from answering.
    away: BTreeSet<u64>,
    keys: Stored,
}

/// What it knows.
#[derive(Default)]
pub(super) struct Stored {
    locks: LockStore<LockName, String>,
    /// Those who wait for an agent's lock: the second in which they came, and the lock's value.
    queues: BTreeMap<String, BTreeSet<(i64, String)>>,
    beats: BTreeMap<JobKey, Timestamp>,
    completing: BTreeSet<JobKey>,
}

impl Redis {
    pub(super) fn new(clock: Arc<dyn Clock>, ledger: Arc<dyn Ledger>, durability: LockDurability) -> Self {
        Self { clock, ledger, durability, away: BTreeSet::new(), keys: Stored::default() }
    }

    /// It stops answering, until [`Redis::answer_again`].
    pub(super) fn stop_answering(&mut self, id: u64) {
        self.away.insert(id);
    }

    pub(super) fn answer_again(&mut self, id: u64) {
        self.away.remove(&id);
    }

    /// It starts anew. Returns how many locks are lost.
    pub(super) fn restart(&mut self, keys: Keys) -> usize {
        if keys == Keys::Kept || self.durability == LockDurability::OnAReplica {
            return 0;
        }
        let lost = self.keys.locks.forget_since(Timestamp::MIN);
        // Tokens go on growing: a new store would be given a new epoch.
        self.keys = Stored { locks: std::mem::take(&mut self.keys.locks), ..Stored::default() };
        self.tell_lost(&lost)
    }

    /// A replica takes over that does not know what was written in the last `lag`. Returns how many locks are lost.
    pub(super) fn fail_over(&mut self, lag: Duration) -> usize {
        if self.durability == LockDurability::OnAReplica {
            return 0;
        }
        let since = self.clock.wall().checked_sub(lag).unwrap_or(Timestamp::MIN);
        let lost = self.keys.locks.forget_since(since);
        self.tell_lost(&lost)
    }

    fn tell_lost<V>(&self, lost: &[(LockName, crate::lock_store::HeldLock<V>)]) -> usize {
        for (name, lock) in lost {
            self.tell(name, |lock_name| Fact::LockExpired { lock: lock_name, token: lock.token });
        }
        lost.len()
    }

    /// Its keys, if it answers.
    fn reach(&mut self) -> Result<&mut Stored, RedisDown> {
        if !self.away.is_empty() {
            return Err(RedisDown);
        }
        self.expire();
        Ok(&mut self.keys)
    }

    /// Forgets the locks whose time is over, as it does from time to time whether somebody looks for them or not.
    pub(super) fn expire(&mut self) {
        let now = self.clock.wall();
        while let Some((name, lock)) = self.keys.locks.expire(now) {
            self.tell(&name, |lock_name| Fact::LockExpired { lock: lock_name, token: lock.token });
        }
    }

    /// Locks of critical sections are told of by whoever is in them.
    fn tell(&self, name: &LockName, fact: impl FnOnce(facts::Lock) -> Fact) {
        if !matches!(name, LockName::Section(_)) {
            self.ledger.record(fact(name.to_string().into()));
        }
    }

    /// Tries to take a lock for `holder`, who is known by `value`.
    pub(super) fn try_lock(
        &mut self,
        name: &LockName,
        value: &str,
        life: Duration,
        holder: &str,
    ) -> Result<TryLock<String>, RedisDown> {
        let now = self.clock.wall();
        let tried = self.reach()?.locks.try_lock(name.clone(), value.to_owned(), life, now);
        if let TryLock::Taken(token) = tried {
            self.tell(name, |lock| Fact::LockTaken { lock, holder: holder.into(), token });
        }
        Ok(tried)
    }

    /// Gives a lock its life anew, if it has this value. Returns whether it has.
    pub(super) fn renew(&mut self, name: &LockName, value: &str, life: Duration) -> Result<bool, RedisDown> {
        let now = self.clock.wall();
        Ok(self.reach()?.locks.renew(name, &value.to_owned(), life, now))
    }

    /// Gives a lock back, if it has this value.
    pub(super) fn unlock(&mut self, name: &LockName, value: &str) -> Result<(), RedisDown> {
        if let Some(lock) = self.reach()?.locks.unlock(name, &value.to_owned()) {
            self.tell(name, |lock_name| Fact::LockReleased { lock: lock_name, token: lock.token });
        }
        Ok(())
    }

    /// Who holds a lock.
    pub(super) fn holder(&mut self, name: &LockName) -> Result<Option<String>, RedisDown> {
        Ok(self.reach()?.locks.get(name).map(|lock| lock.value.clone()))
    }

    /// Joins the queue for an agent's lock. Returns whether it is the head of it.
    pub(super) fn join_queue(&mut self, agent: &str, value: &str) -> Result<bool, RedisDown> {
        let second = self.clock.wall().as_second();
        let queue = self.reach()?.queues.entry(agent.to_owned()).or_default();
        if !queue.iter().any(|(_, waiting)| waiting == value) {
            queue.insert((second, value.to_owned()));
        }
        Ok(queue.first().is_some_and(|(_, head)| head == value))
    }

    /// Leaves the queues for all locks.
    pub(super) fn leave_queues(&mut self, value: &str) -> Result<(), RedisDown> {
        for queue in self.reach()?.queues.values_mut() {
            queue.retain(|(_, waiting)| waiting != value);
        }
        Ok(())
    }

    pub(super) fn beat(&mut self, job: JobKey, now: Timestamp) -> Result<(), RedisDown> {
        self.reach()?.beats.insert(job, now);
        Ok(())
    }

    /// The last heartbeat of a job.
    pub(super) fn last_beat(&mut self, job: &JobKey, now: Timestamp) -> Result<Option<Timestamp>, RedisDown> {
        let beat = self.reach()?.beats.get(job).copied();
        Ok(beat.filter(|beat| after(*beat, HEARTBEAT_LIFE) > now))
    }

    /// Marks a completion as on its way. Returns whether it was not yet.
    pub(super) fn mark_completing(&mut self, job: JobKey) -> Result<bool, RedisDown> {
        Ok(self.reach()?.completing.insert(job))
    }

    pub(super) fn unmark_completing(&mut self, job: &JobKey) -> Result<(), RedisDown> {
        self.reach()?.completing.remove(job);
        Ok(())
    }
}
