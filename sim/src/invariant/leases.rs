//! Effects happen under a lease, and what the journal says of leases.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use squall_protocol::Fact;
use squall_protocol::facts::{Agent, Job};

use crate::journal::Entry;
use crate::time::SimTime;

use super::findings::Span;
use super::running::Running;
use super::suspensions::Suspensions;
use super::{Findings, History, Rule};

/// Every effect of a job happens under a valid lease of the agent that executes it, and of no later attempt.
///
/// A worker whose machine has just gone on after a suspension is excused.
#[derive(Clone, Debug, Default)]
pub struct EffectUnderLease {
    /// An effect at most this long after the lease's end is no breach. Default: zero.
    pub grace: Duration,
}

impl Rule for EffectUnderLease {
    const NAME: &'static str = "effect-under-lease";
    const SUMMARY: &'static str =
        "Every effect of a job happens under the valid, latest lease of the agent that executes it.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut running = Running::default();
        let mut leases = Leases::default();
        let mut acted: BTreeSet<&Job> = BTreeSet::new();
        let suspensions = Suspensions::of(history);
        for entry in history.journal {
            running.follow(entry);
            leases.follow(entry);
            let Fact::JobEffect { job, attempt, worker } = &entry.fact else { continue };
            acted.insert(job);
            if suspensions.excuse(entry.node, entry.at) {
                continue;
            }
            let agent = running.of(worker).map(|run| run.agent);
            if let Some(why) = leases.forbid(job, *attempt, agent, entry.at, self.grace) {
                let message =
                    format_args!("{worker} had an effect for attempt {attempt} of {job} at {}, {why}", entry.at);
                found.breach(job, entry.at, message);
            }
        }
        found.subjects(acted.len());
    }
}

/// What the server's store says about the leases of all attempts.
#[derive(Default)]
pub(super) struct Leases<'a> {
    leases: BTreeMap<(&'a Job, u32), Lease<'a>>,
}

pub(super) struct Lease<'a> {
    pub(super) agent: &'a Agent,
    granted: SimTime,
    pub(super) heard: SimTime,
    ended: Option<SimTime>,
}

/// Why an attempt may not act.
enum Forbidden<'a> {
    NeverLeased,
    Ended { at: SimTime, ago: Duration },
    Superseded { by: u32, at: SimTime },
    OfAnother { agent: &'a Agent },
}

impl<'a> Leases<'a> {
    pub(super) fn follow(&mut self, entry: &'a Entry) {
        match &entry.fact {
            Fact::LeaseGranted { job, attempt, agent, .. } => {
                let lease = Lease { agent, granted: entry.at, heard: entry.at, ended: None };
                self.leases.insert((job, *attempt), lease);
            }
            Fact::LeaseRenewed { job, attempt, .. } => {
                if let Some(lease) = self.leases.get_mut(&(job, *attempt)) {
                    (lease.heard, lease.ended) = (entry.at, None);
                }
            }
            Fact::LeaseExpired { job, attempt }
            | Fact::LeaseReleased { job, attempt }
            | Fact::JobRequeued { job, attempt } => {
                if let Some(lease) = self.leases.get_mut(&(job, *attempt)) {
                    lease.ended.get_or_insert(entry.at);
                }
            }
            _ => {}
        }
    }

    pub(super) fn valid(&self, job: &'a Job, attempt: u32) -> Option<&Lease<'a>> {
        self.leases.get(&(job, attempt)).filter(|lease| lease.ended.is_none())
    }

    fn forbid(
        &self,
        job: &'a Job,
        attempt: u32,
        agent: Option<&Agent>,
        at: SimTime,
        grace: Duration,
    ) -> Option<Forbidden<'a>> {
        let Some(lease) = self.leases.get(&(job, attempt)) else { return Some(Forbidden::NeverLeased) };
        if let Some(ended) = lease.ended.filter(|ended| at.since(*ended) > grace) {
            return Some(Forbidden::Ended { at: ended, ago: at.since(ended) });
        }
        let later = self
            .leases
            .range((job, attempt.saturating_add(1))..=(job, u32::MAX))
            .find(|(_, lease)| at.since(lease.granted) > grace);
        if let Some(((_, by), lease)) = later.filter(|((_, by), _)| *by > attempt) {
            return Some(Forbidden::Superseded { by: *by, at: lease.granted });
        }
        let another = agent.is_some_and(|agent| agent != lease.agent) && at.since(lease.granted) > grace;
        another.then_some(Forbidden::OfAnother { agent: lease.agent })
    }
}

impl fmt::Display for Forbidden<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forbidden::NeverLeased => write!(to, "for which no lease had been granted"),
            Forbidden::Ended { at, ago } => write!(to, "{} after its lease had ended at {at}", Span(*ago)),
            Forbidden::Superseded { by, at } => write!(to, "although attempt {by} had been leased at {at}"),
            Forbidden::OfAnother { agent } => write!(to, "although the lease was {agent}'s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn begun() -> Vec<(u64, Fact)> {
        vec![(1, granted("j", 1, "a")), (2, started("j", 1, "a", "w1"))]
    }

    #[test]
    fn effects_under_a_lease_are_fine() {
        let facts = vec![
            (5, effect("j", 1, "w1")),
            (60, renewed("j", 1)),
            (70, effect("j", 1, "w1")),
            (80, lease_released("j", 1)),
            (80, effect("j", 1, "w1")),
        ];
        holds(&EffectUnderLease::default(), 1, [begun(), facts].concat());
    }

    #[test]
    fn effects_after_the_lease_are_a_breach() {
        for end in [lease_expired("j", 1), lease_released("j", 1), requeued("j", 1)] {
            let facts = [begun(), vec![(60, end), (65, effect("j", 1, "w1")), (66, effect("j", 1, "w1"))]].concat();
            let broken = (65, "j", "effect-under-lease/job");
            breaks(&EffectUnderLease::default(), broken, &["w1", "5 s after", "0:01:00"], facts.clone());
            holds(&EffectUnderLease { grace: Duration::from_secs(6) }, 1, facts);
        }
    }

    #[test]
    fn effects_under_somebody_elses_lease_are_a_breach() {
        let rule = EffectUnderLease::default();
        let never = vec![(2, started("j", 1, "a", "w1")), (3, effect("j", 1, "w1"))];
        breaks(&rule, (3, "j", "effect-under-lease/job"), &["no lease"], never);
        let later = [begun(), vec![(10, granted("j", 2, "b")), (11, effect("j", 1, "w1"))]].concat();
        breaks(&rule, (11, "j", "effect-under-lease/job"), &["attempt 2 had been leased at 0:00:10"], later);
        let other = vec![(1, granted("j", 1, "a")), (2, started("j", 1, "b", "w1")), (3, effect("j", 1, "w1"))];
        breaks(&rule, (3, "j", "effect-under-lease/job"), &["a's"], other);
    }
}
