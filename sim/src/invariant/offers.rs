//! Offers: when nothing is wrong, an agent takes what it is offered, and at once.

use std::collections::BTreeMap;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job};

use super::deadlines::{Deadlines, Due};
use super::findings::Span;
use super::wanted::WantedEnds;
use super::{Findings, History, Rule};

/// Once the world has been quiet for a while, an agent takes a job as soon as it is offered.
///
/// Servers offer jobs to agents that they show as online and idle, so whoever is offered one has nothing else to do. One
/// that ends because somebody asked for that, and for its update, is excused.
#[derive(Clone, Debug)]
pub struct OfferedJobTaken {
    /// How long after heal the world counts as quiet: time to connect again, and for old offers to end. Default: 10
    /// minutes.
    pub quiet_after: Duration,
    /// How long an offer may take that is made in a quiet world. Default: 10 seconds.
    pub bound: Duration,
}

impl Default for OfferedJobTaken {
    fn default() -> Self {
        Self { quiet_after: Duration::from_secs(10 * 60), bound: Duration::from_secs(10) }
    }
}

impl Rule for OfferedJobTaken {
    const NAME: &'static str = "offered-job-taken";
    const SUMMARY: &'static str = "While nothing is wrong, an agent takes a job that it is offered without delay.";
    const SUBJECT: &'static str = "job";

    fn within(&self) -> Option<Duration> {
        Some(self.quiet_after + self.bound)
    }

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let quiet = history.heal_at + self.quiet_after;
        let mut open: Deadlines<(&Job, u32)> = Deadlines::despite_faults(self.bound);
        let mut offered_to: BTreeMap<(&Job, u32), &Agent> = BTreeMap::new();
        let mut wanted_ends = WantedEnds::default();
        let tell = |found: &mut Findings, (job, attempt): (&Job, u32), due: Due| {
            found.subject();
            if due.missed {
                let (at, bound) = (due.since, Span(self.bound));
                let message = format_args!(
                    "attempt {attempt} of {job} was offered at {at}, when nothing had been wrong since {}, and had not \
                     been taken {bound} later",
                    history.heal_at
                );
                found.breach(job, due.deadline, message);
            }
        };
        for entry in history.journal {
            match &entry.fact {
                Fact::JobOffered { job, attempt, agent } if entry.at >= quiet => {
                    offered_to.insert((job, *attempt), agent);
                    open.arise((job, *attempt), entry.at);
                }
                Fact::AgentDown { agent, .. } if wanted_ends.of(agent) => {
                    for offer in open.open(|offer| offered_to.get(offer) == Some(&agent)) {
                        open.settle(&offer, entry.at);
                    }
                }
                // Whoever takes it back did not wait in vain before its time.
                Fact::LeaseGranted { job, attempt, .. }
                | Fact::JobRequeued { job, attempt }
                | Fact::JobGivenUp { job, attempt } => {
                    let due = open.settle(&(job, *attempt), entry.at);
                    due.into_iter().for_each(|due| tell(found, (job, *attempt), due));
                }
                _ => {}
            }
            wanted_ends.follow(&entry.fact);
        }
        open.missed(history.end).for_each(|(offer, due)| tell(found, offer, due));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn offers_of_a_quiet_world_are_taken_at_once() {
        let facts = vec![
            (1_000, offered("i", 1, "a")),
            (1_300, requeued("i", 1)),
            (1_700, offered("j", 1, "a")),
            (1_710, granted("j", 1, "a")),
            (1_800, offered("k", 1, "a")),
            (1_805, given_up("k", 1)),
        ];
        holds(&OfferedJobTaken::default(), 2, facts);
    }

    #[test]
    fn an_agent_that_ends_for_its_update_takes_nothing() {
        let facts = |asked: Vec<(u64, Fact)>| {
            let ends = vec![(1_700, offered("j", 1, "a")), (1_701, exited("a", 3)), (1_703, up("a"))];
            [asked, ends, vec![(1_760, requeued("j", 1))]].concat()
        };
        holds(&OfferedJobTaken::default(), 0, facts(vec![(1_600, update_requested("a"))]));
        let broken = (1_710, "j", "offered-job-taken/job");
        for asked in
            [vec![], vec![(1_600, update_requested("b"))], vec![(1_500, update_requested("a")), (1_600, up("a"))]]
        {
            breaks(&OfferedJobTaken::default(), broken, &["attempt 1"], facts(asked));
        }
    }

    #[test]
    fn an_offer_that_waits_is_a_breach() {
        let broken = (1_710, "j", "offered-job-taken/job");
        for rest in [vec![], vec![(1_712, granted("j", 1, "a"))], vec![(1_820, requeued("j", 1))]] {
            let facts = [vec![(1_700, offered("j", 1, "a"))], rest].concat();
            breaks(&OfferedJobTaken::default(), broken, &["attempt 1", "0:28:20", "10 s"], facts);
        }
    }
}
