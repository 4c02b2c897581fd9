//! Locks: one holder, growing tokens, and none left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Lock};

use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::overlaps::{Overlap, Overlaps};
use super::{Findings, History, Rule};

/// A lock has at most one holder.
#[derive(Clone, Debug, Default)]
pub struct OneLockHolder {
    /// Two at once for at most this long are no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for OneLockHolder {
    const NAME: &'static str = "one-lock-holder";
    const SUMMARY: &'static str = "A lock has at most one holder.";
    const SUBJECT: &'static str = "lock";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut held: Overlaps<&Lock, u64> = Overlaps::new(1, self.grace);
        let mut holders: BTreeMap<(&Lock, u64), &Agent> = BTreeMap::new();
        let mut both: Vec<Overlap<&Lock, u64>> = Vec::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::LockTaken { lock, holder, token } => {
                    holders.insert((lock, *token), holder);
                    held.enter(lock, *token, entry.at);
                }
                Fact::LockReleased { lock, token } | Fact::LockExpired { lock, token } => {
                    both.extend(held.leave(lock, *token, entry.at));
                }
                _ => {}
            }
        }
        both.extend(held.at_end(history.end));
        for Overlap { key: lock, holders: tokens, from, until } in both {
            let [first, second] = [0, 1].map(|place| holders[&(lock, tokens[place])]);
            let message = format_args!(
                "{lock} was held by {first} (token {}) and by {second} (token {}) from {from} to {until}",
                tokens[0], tokens[1]
            );
            found.breach(lock, from + self.grace, message);
        }
        found.subjects(held.keys());
    }
}

/// A later holder of a lock has a larger token.
#[derive(Clone, Debug, Default)]
pub struct LockTokensGrow;

impl Rule for LockTokensGrow {
    const NAME: &'static str = "lock-tokens-grow";
    const SUMMARY: &'static str = "A later holder of a lock has a larger token.";
    const SUBJECT: &'static str = "lock";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut largest: BTreeMap<&Lock, (u64, SimTime)> = BTreeMap::new();
        for entry in history.journal {
            let Fact::LockTaken { lock, holder, token } = &entry.fact else { continue };
            match largest.get(lock) {
                Some((before, at)) if token <= before => {
                    let message = format_args!(
                        "{holder} took {lock} with token {token} at {}, not larger than token {before} of {at}",
                        entry.at
                    );
                    found.breach(lock, entry.at, message);
                }
                _ => drop(largest.insert(lock, (*token, entry.at))),
            }
        }
        found.subjects(largest.len());
    }
}

/// Every lock whose holder is gone is freed.
///
/// A holder is an agent or, where locks are taken in the name of work, a job: its name is looked for among both. An
/// agent is gone when its process has ended, and a restarted one does not know its locks; a job is gone when its result
/// was accepted or it was given up.
#[derive(Clone, Debug)]
pub struct DeadHoldersLockFreed {
    /// How long a lock may stay with a holder that is gone, from heal on. Default: 10 minutes.
    pub bound: Duration,
}

impl Default for DeadHoldersLockFreed {
    fn default() -> Self {
        Self { bound: Duration::from_secs(10 * 60) }
    }
}

impl Rule for DeadHoldersLockFreed {
    const NAME: &'static str = "dead-holders-lock-freed";
    const SUMMARY: &'static str = "Every lock whose holder is gone is freed in time.";
    const SUBJECT: &'static str = "lock";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut held: BTreeMap<&Lock, (u64, &str)> = BTreeMap::new();
        let mut gone: BTreeSet<&str> = BTreeSet::new();
        let mut left: Deadlines<(&Lock, &str)> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, (lock, holder): (&Lock, &str), due: Due| {
            if due.missed {
                let (since, by, heal) = (due.since, due.deadline, history.heal_at);
                let message = format_args!(
                    "{lock} was held by {holder}, gone since {since}, and had not been freed by {by} (heal was at \
                     {heal})"
                );
                found.breach(lock, by, message);
            }
        };
        let mut locks: BTreeSet<&Lock> = BTreeSet::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::LockTaken { lock, holder, token } => {
                    locks.insert(lock);
                    if let Some((_, before)) = held.insert(lock, (*token, &*holder.0)) {
                        left.settle(&(lock, before), entry.at)
                            .into_iter()
                            .for_each(|due| tell(found, (lock, before), due));
                    }
                    if gone.contains(&*holder.0) {
                        left.arise((lock, &*holder.0), entry.at);
                    }
                }
                Fact::LockReleased { lock, token } | Fact::LockExpired { lock, token } => {
                    let Some((_, holder)) = held.get(lock).copied().filter(|(held, _)| held == token) else { continue };
                    held.remove(lock);
                    left.settle(&(lock, holder), entry.at).into_iter().for_each(|due| tell(found, (lock, holder), due));
                }
                fact => match life(fact) {
                    Some((holder, Life::Ends)) => {
                        gone.insert(holder);
                        for (lock, _) in held.iter().filter(|(_, (_, by))| *by == holder) {
                            left.arise((lock, holder), entry.at);
                        }
                    }
                    Some((holder, Life::Begins)) => drop(gone.remove(holder)),
                    None => {}
                },
            }
        }
        left.missed(history.end).for_each(|(left, due)| tell(found, left, due));
        found.subjects(locks.len());
    }
}

enum Life {
    Begins,
    Ends,
}

fn life(fact: &Fact) -> Option<(&str, Life)> {
    Some(match fact {
        Fact::AgentUp { agent } => (&*agent.0, Life::Begins),
        Fact::AgentDown { agent, .. } => (&*agent.0, Life::Ends),
        Fact::JobQueued { job } | Fact::JobRequeued { job, .. } => (&*job.0, Life::Begins),
        Fact::JobReported { job, accepted: true, .. } | Fact::JobGivenUp { job, .. } => (&*job.0, Life::Ends),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use squall_protocol::facts::Outcome::Failed;

    use super::super::testing::*;
    use super::*;

    #[test]
    fn locks_are_handed_over() {
        let facts = vec![
            (1, taken("l", "a", 1)),
            (5, unlocked("l", 1)),
            (5, taken("l", "b", 2)),
            (9, taken("l", "c", 3)),
            (9, lock_expired("l", 2)),
            (9, taken("m", "a", 1)),
        ];
        holds(&OneLockHolder::default(), 2, facts.clone());
        holds(&LockTokensGrow, 2, facts);
    }

    #[test]
    fn two_holders_are_a_breach() {
        let broken = (5, "l", "one-lock-holder/lock");
        let facts = vec![(1, taken("l", "a", 1)), (5, taken("l", "b", 2)), (6, unlocked("l", 7))];
        breaks(&OneLockHolder::default(), broken, &["a (token 1)", "b (token 2)", "2:46:40"], facts.clone());
        for end in [unlocked("l", 1), lock_expired("l", 2)] {
            breaks(&OneLockHolder::default(), broken, &["0:00:08"], [facts.clone(), vec![(8, end)]].concat());
        }
        holds(&OneLockHolder { grace: Duration::from_secs(3) }, 1, [facts, vec![(8, unlocked("l", 1))]].concat());
    }

    #[test]
    fn a_token_that_does_not_grow_is_a_breach() {
        for token in [1, 2] {
            let facts = vec![(1, taken("l", "a", 2)), (5, unlocked("l", 2)), (7, taken("l", "b", token))];
            breaks(&LockTokensGrow, (7, "l", "lock-tokens-grow/lock"), &["b took l", "token 2 of 0:00:01"], facts);
        }
    }

    #[test]
    fn locks_of_dead_holders_are_freed_in_time() {
        let facts = vec![
            (1, up("a")),
            (2, taken("l", "a", 1)),
            (2, taken("m", "j", 1)),
            (5, down("a")),
            (6, up("a")),
            (1_600, lock_expired("l", 1)),
            (2_000, reported("j", 1, Failed)),
            (2_600, taken("m", "k", 2)),
            (2_700, taken("l", "a", 2)),
        ];
        holds(&DeadHoldersLockFreed::default(), 2, facts);
    }

    #[test]
    fn a_lock_that_stays_with_the_dead_is_a_breach() {
        let broken = (2_600, "l", "dead-holders-lock-freed/lock");
        for end in [down("h"), given_up("h", 1), reported("h", 1, Failed)] {
            let facts = vec![(1, taken("l", "h", 1)), (2_000, end), (2_010, up("h")), (2_100, unlocked("l", 9))];
            breaks(&DeadHoldersLockFreed::default(), broken, &["h, gone since 0:33:20", "0:43:20"], facts.clone());
            breaks(&DeadHoldersLockFreed::default(), broken, &[], [facts, vec![(2_601, unlocked("l", 1))]].concat());
        }
        let after_its_death = vec![(1, up("h")), (5, down("h")), (2_000, taken("l", "h", 1))];
        breaks(&DeadHoldersLockFreed::default(), broken, &["gone since 0:33:20"], after_its_death);
    }
}
