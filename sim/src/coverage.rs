//! What a campaign has really tried: faults that had effects, invariants that had something to judge.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::invariant::Tallies;
use crate::trial::Outcome;
use crate::verdict::Severity;

/// Sums over the trials of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// By family of faults.
    pub families: BTreeMap<String, Family>,
    /// What each invariant applied to.
    pub tallies: Tallies,
    /// The failures that were found, by fingerprint.
    pub fingerprints: BTreeMap<String, Found>,
    /// Trials.
    pub trials: u64,
    /// Requests that were answered.
    pub exchanges: u64,
    /// Jobs that were queued.
    pub jobs_queued: u64,
    /// Executions of jobs that were begun.
    pub jobs_started: u64,
}

/// What became of the faults of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Family {
    /// Faults in plans.
    pub drawn: u64,
    /// Faults that began before their world ended.
    pub began: u64,
    /// Faults that changed something.
    pub effective: u64,
    /// Everything that they changed: bytes, requests, timers, processes.
    pub effects: u64,
}

/// A failure, and how often it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// How bad it is.
    pub verdict: Severity,
    /// In how many trials it was the worst.
    pub trials: u64,
    /// The first seed that showed it.
    pub first_seed: u64,
}

/// Something that a campaign did not try, though it looked as if it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// No trial was run.
    NoTrial,
    /// Faults of a family were drawn and never changed anything.
    NoEffect {
        /// The family.
        family: String,
        /// How many faults.
        drawn: u64,
    },
    /// An invariant never had anything to judge.
    NoSubject {
        /// The invariant's name.
        invariant: &'static str,
    },
    /// What some run should have shown, and none did.
    NeverShown {
        /// The invariant's name.
        invariant: &'static str,
    },
    /// Jobs were queued, and none was ever begun.
    NoJobRan {
        /// How many jobs.
        queued: u64,
    },
    /// No request was ever answered.
    NoExchange,
}

impl Coverage {
    /// Adds a trial.
    pub fn add(&mut self, outcome: &Outcome) {
        self.trials += 1;
        self.exchanges += outcome.exchanges;
        self.jobs_queued += outcome.jobs_queued;
        self.jobs_started += outcome.jobs_started;
        for fault in &outcome.faults {
            let family = self.families.entry(fault.family.clone()).or_default();
            family.drawn += 1;
            family.began += u64::from(fault.began);
            family.effective += u64::from(fault.effects > 0);
            family.effects += fault.effects;
        }
        self.tallies.add(&outcome.tallies);
        if let Some(worst) = outcome.verdict.worst() {
            let first = Found { verdict: worst.severity, trials: 0, first_seed: outcome.seed };
            self.fingerprints.entry(worst.fingerprint()).or_insert(first).trials += 1;
        }
    }

    /// What was not tried.
    pub fn gaps(&self) -> Vec<Gap> {
        if self.trials == 0 {
            return vec![Gap::NoTrial];
        }
        let mut gaps = Vec::new();
        if self.exchanges == 0 {
            gaps.push(Gap::NoExchange);
        }
        if self.jobs_queued > 0 && self.jobs_started == 0 {
            gaps.push(Gap::NoJobRan { queued: self.jobs_queued });
        }
        let idle = self.families.iter().filter(|(_, family)| family.drawn > 0 && family.effective == 0);
        gaps.extend(idle.map(|(name, family)| Gap::NoEffect { family: name.clone(), drawn: family.drawn }));
        gaps.extend(self.tallies.without_subject().map(|tally| Gap::NoSubject { invariant: tally.invariant }));
        gaps.extend(self.tallies.never_shown().map(|tally| Gap::NeverShown { invariant: tally.invariant }));
        gaps
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::NoTrial => write!(to, "no seed was run"),
            Gap::NoEffect { family, drawn } => {
                write!(to, "faults of family {family} were drawn {drawn} times and never changed anything")
            }
            Gap::NoSubject { invariant } => {
                write!(to, "invariant {invariant} never had anything to judge, so it proves nothing here")
            }
            Gap::NeverShown { invariant } => write!(to, "no run showed {invariant}"),
            Gap::NoJobRan { queued } => write!(to, "{queued} jobs were queued and none was ever started"),
            Gap::NoExchange => write!(to, "no request was ever answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::{Kind, Tally};
    use crate::time::SimTime;
    use crate::trial::FaultRecord;
    use crate::verdict::{Finding, Verdict};

    fn outcome(seed: u64, effects: u64) -> Outcome {
        let finding = Finding {
            severity: Severity::Stuck,
            invariant: "every-job-ends".to_owned(),
            subject_kind: "job".to_owned(),
            subject: format!("job-{seed}"),
            at: SimTime::ZERO,
            message: String::new(),
        };
        Outcome {
            scenario: "queue".to_owned(),
            variant: "upstream".to_owned(),
            seed,
            verdict: Verdict::of(vec![finding]),
            digest: String::new(),
            ended_at: SimTime::ZERO,
            exchanges: 1,
            faults: vec![FaultRecord { family: "crash".to_owned(), began: true, effects }],
            tallies: vec![
                Tally { invariant: "every-job-ends", kind: Kind::Always, subjects: effects, breaches: 0 },
                Tally { invariant: "lease-expires", kind: Kind::Sometimes, subjects: effects, breaches: 0 },
            ],
            jobs_queued: 2,
            jobs_started: effects,
        }
    }

    #[test]
    fn what_changed_nothing_is_a_gap_until_it_does() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.gaps(), [Gap::NoTrial]);
        coverage.add(&outcome(7, 0));
        let no_effect = Gap::NoEffect { family: "crash".to_owned(), drawn: 1 };
        let no_subject = Gap::NoSubject { invariant: "every-job-ends" };
        let never_shown = Gap::NeverShown { invariant: "lease-expires" };
        assert_eq!(coverage.gaps(), [Gap::NoJobRan { queued: 2 }, no_effect, no_subject, never_shown]);
        coverage.add(&outcome(8, 3));
        assert_eq!(coverage.gaps(), []);
        assert_eq!(coverage.families["crash"], Family { drawn: 2, began: 2, effective: 1, effects: 3 });
    }

    #[test]
    fn equal_failures_are_counted_as_one() {
        let mut coverage = Coverage::default();
        [outcome(7, 1), outcome(8, 1)].iter().for_each(|outcome| coverage.add(outcome));
        let found = Found { verdict: Severity::Stuck, trials: 2, first_seed: 7 };
        assert_eq!(coverage.fingerprints, BTreeMap::from([("every-job-ends/job".to_owned(), found)]));
    }
}
