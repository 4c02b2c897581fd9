//! Messages: what a receiver acknowledged, it also did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Message};

use crate::time::SimTime;

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::{Findings, History, Rule};

/// No message is lost between its acknowledgement and its effect.
///
/// It is lost when its receiver acknowledged it, ended before the effect was there, and no later process of it makes up
/// for that.
#[derive(Clone, Debug)]
pub struct NoMessageLost {
    /// How long, from heal on, a later process may take to make up for it. Default: 10 minutes.
    pub recovery: Duration,
}

impl Default for NoMessageLost {
    fn default() -> Self {
        Self { recovery: Duration::from_secs(10 * 60) }
    }
}

struct Acked<'a> {
    receiver: Option<&'a Agent>,
    at: SimTime,
    receiver_gone: Option<SimTime>,
}

impl Rule for NoMessageLost {
    const NAME: &'static str = "no-message-lost";
    const SUMMARY: &'static str =
        "No message is lost because its receiver ended between acknowledging and handling it.";
    const SUBJECT: &'static str = "message";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut receivers: BTreeMap<&Message, &Agent> = BTreeMap::new();
        let mut done: BTreeSet<&Message> = BTreeSet::new();
        let mut open: BTreeMap<&Message, Acked<'_>> = BTreeMap::new();
        let mut seen: BTreeSet<&Message> = BTreeSet::new();
        for entry in history.journal {
            match &entry.fact {
                Fact::MessageDelivered { message, agent } => drop(receivers.insert(message, agent)),
                Fact::MessageAcked { message } => {
                    seen.insert(message);
                    if !done.contains(message) {
                        let receiver = receivers.get(message).copied();
                        open.entry(message).or_insert(Acked { receiver, at: entry.at, receiver_gone: None });
                    }
                }
                Fact::MessageHandled { message } => {
                    done.insert(message);
                    if let Some(acked) = open.remove(message) {
                        self.tell(message, &acked, entry.at, history, found);
                    }
                }
                Fact::AgentDown { agent, .. } => {
                    for acked in open.values_mut().filter(|acked| acked.receiver == Some(agent)) {
                        acked.receiver_gone.get_or_insert(entry.at);
                    }
                }
                _ => {}
            }
        }
        for (message, acked) in &open {
            self.tell(message, acked, history.end, history, found);
        }
        found.subjects(seen.len());
    }
}

impl NoMessageLost {
    fn tell(&self, message: &Message, acked: &Acked<'_>, until: SimTime, history: &History<'_>, found: &mut Findings) {
        let (Some(receiver), Some(gone)) = (acked.receiver, acked.receiver_gone) else { return };
        if until > gone.max(history.heal_at) + self.recovery {
            let text = format_args!(
                "{receiver} acknowledged {message} at {} and ended at {gone} without having handled it; nobody made up \
                 for it within {} after that or after heal",
                acked.at,
                Span(self.recovery)
            );
            found.breach(message, gone, text);
        }
    }
}

/// Every message that was acknowledged is handled.
#[derive(Clone, Debug)]
pub struct AckedMessageHandled {
    /// How long its receiver may take, from heal on, whether it lives or not. Default: 15 minutes.
    pub bound: Duration,
}

impl Default for AckedMessageHandled {
    fn default() -> Self {
        Self { bound: Duration::from_secs(15 * 60) }
    }
}

impl Rule for AckedMessageHandled {
    const NAME: &'static str = "acked-message-handled";
    const SUMMARY: &'static str = "Every message that its receiver acknowledged is handled in time.";
    const SUBJECT: &'static str = "message";

    fn within(&self) -> Option<Duration> {
        Some(self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut done: BTreeSet<&Message> = BTreeSet::new();
        let mut open: Deadlines<&Message> = Deadlines::after_heal(history, self.bound);
        let tell = |found: &mut Findings, message: &Message, due: Due| {
            found.subject();
            if due.missed {
                let text = format_args!(
                    "{message} was acknowledged at {} and had not been handled by {} (heal was at {})",
                    due.since, due.deadline, history.heal_at
                );
                found.breach(message, due.deadline, text);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::MessageAcked { message } if done.contains(message) => found.subject(),
                Fact::MessageAcked { message } => open.arise(message, entry.at),
                Fact::MessageHandled { message } => {
                    done.insert(message);
                    open.settle(message, entry.at).into_iter().for_each(|due| tell(found, message, due));
                }
                _ => {}
            }
        }
        open.missed(history.end).for_each(|(message, due)| tell(found, message, due));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn messages_may_be_handled_before_or_after_they_are_acknowledged() {
        let facts = vec![
            (1, delivered("m", "a")),
            (2, handled("m")),
            (3, acked("m")),
            (4, down("a")),
            (2_000, delivered("n", "a")),
            (2_001, acked("n")),
            (2_002, down("b")),
            (2_003, handled("n")),
        ];
        holds(&NoMessageLost::default(), 2, facts.clone());
        holds(&AckedMessageHandled::default(), 2, facts);
    }

    #[test]
    fn a_later_process_may_make_up_for_it() {
        let facts = vec![(1, delivered("m", "a")), (2, acked("m")), (3, down("a")), (1_600, handled("m"))];
        holds(&NoMessageLost::default(), 1, facts);
    }

    #[test]
    fn a_message_that_went_down_with_its_receiver_is_a_breach() {
        let broken = (2_010, "m", "no-message-lost/message");
        let facts = vec![(2_000, delivered("m", "a")), (2_001, acked("m")), (2_010, down("a")), (2_300, down("a"))];
        breaks(&NoMessageLost::default(), broken, &["a acknowledged m", "0:33:21", "0:33:30"], facts.clone());
        breaks(&NoMessageLost::default(), broken, &[], [facts, vec![(2_611, handled("m"))]].concat());
    }

    #[test]
    fn a_message_that_nobody_handles_is_a_breach() {
        let broken = (2_901, "m", "acked-message-handled/message");
        let facts = vec![(2_000, delivered("m", "a")), (2_001, acked("m"))];
        holds(&NoMessageLost::default(), 1, facts.clone());
        breaks(&AckedMessageHandled::default(), broken, &["0:33:21", "0:48:21"], facts.clone());
        breaks(&AckedMessageHandled::default(), broken, &[], [facts, vec![(2_902, handled("m"))]].concat());
    }
}
