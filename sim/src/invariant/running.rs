//! Which workers run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job, Outcome, WorkerId};

use crate::journal;
use crate::time::SimTime;
use crate::trace::NodeId;

/// One worker's execution of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) job: &'a Job,
    pub(super) attempt: u32,
    pub(super) agent: &'a Agent,
    pub(super) worker: &'a WorkerId,
    pub(super) since: SimTime,
    pub(super) node: NodeId,
}

/// A worker started or stopped.
pub(super) enum Change<'a> {
    Started(Run<'a>),
    Stopped(Run<'a>, Outcome),
}

/// The workers that run.
#[derive(Default)]
pub(super) struct Running<'a> {
    live: BTreeMap<&'a WorkerId, Run<'a>>,
}

impl<'a> Running<'a> {
    /// Takes an entry in, and says whether a worker started or stopped.
    pub(super) fn follow(&mut self, entry: &'a journal::Entry) -> Option<Change<'a>> {
        match &entry.fact {
            Fact::JobStarted { job, attempt, agent, worker } => {
                let run = Run { job, attempt: *attempt, agent, worker, since: entry.at, node: entry.node };
                let Entry::Vacant(free) = self.live.entry(worker) else { return None };
                Some(Change::Started(*free.insert(run)))
            }
            Fact::JobStopped { worker, outcome, .. } => {
                self.live.remove(worker).map(|run| Change::Stopped(run, *outcome))
            }
            _ => None,
        }
    }

    /// What a worker executes.
    pub(super) fn of(&self, worker: &WorkerId) -> Option<Run<'a>> {
        self.live.get(worker).copied()
    }
}

/// Counts what runs, by job, agent or whatever a rule asks about.
pub(super) struct Counts<K> {
    live: BTreeMap<K, u32>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { live: BTreeMap::new() }
    }
}

impl<K: Ord> Counts<K> {
    /// One more. Returns whether it is the only one.
    pub(super) fn add(&mut self, key: K) -> bool {
        let count = self.live.entry(key).or_default();
        *count += 1;
        *count == 1
    }

    /// One less. Returns whether none is left.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let Some(count) = self.live.get_mut(key) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.live.remove(key);
        }
        last
    }

    /// Is there any?
    pub(super) fn any(&self, key: &K) -> bool {
        self.live.contains_key(key)
    }
}
