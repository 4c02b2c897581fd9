//! Which sessions live.

use std::collections::BTreeMap;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Session};

use crate::journal::Entry;

/// The sessions that live, and whose they are.
#[derive(Default)]
pub(super) struct LiveSessions<'a> {
    owners: BTreeMap<&'a Session, &'a Agent>,
    counts: BTreeMap<&'a Agent, usize>,
}

impl<'a> LiveSessions<'a> {
    pub(super) fn follow(&mut self, entry: &'a Entry) {
        match &entry.fact {
            Fact::SessionOpened { session, agent } => {
                let before = self.owners.insert(session, agent);
                if before.is_none() {
                    *self.counts.entry(agent).or_default() += 1;
                }
            }
            Fact::SessionClosed { session, .. } => {
                if let Some(count) = self.owners.remove(session).and_then(|owner| self.counts.get_mut(owner)) {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    pub(super) fn owner(&self, session: &Session) -> Option<&'a Agent> {
        self.owners.get(session).copied()
    }

    pub(super) fn has_one(&self, agent: &Agent) -> bool {
        self.counts.get(agent).is_some_and(|count| *count > 0)
    }
}
