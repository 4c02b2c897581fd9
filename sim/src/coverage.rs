//! What a campaign has really tried: faults that had effects, invariants that had something to judge.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::explore::Run;
use crate::invariant::{Tallies, Tally};
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
    /// Cases of the past that could not be run: their files, and why.
    pub lost_cases: BTreeMap<String, String>,
}

/// What became of the faults of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How bad it is.
    pub verdict: Severity,
    /// In how many trials it was the worst.
    pub trials: u64,
    /// The first seed that showed it.
    pub first_seed: u64,
    /// The case of the past that showed it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What happened there, in one sentence.
    pub message: String,
}

/// Something that a campaign did not try, though it looks as if it did: what passed there proves nothing.
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
        invariant: String,
    },
    /// What some run should have shown, and none did.
    NeverShown {
        /// The invariant's name.
        invariant: String,
    },
    /// Jobs were queued, and none was ever begun.
    NoJobRan {
        /// How many jobs.
        queued: u64,
    },
    /// No request was ever answered.
    NoExchange,
    /// A case of the past could not be run.
    LostCase {
        /// Its file.
        file: String,
        /// Why.
        why: String,
    },
}

/// A fault that has an effect one time in ten is missed so often in one campaign out of two hundred.
const FAULTS_MIN: u64 = 50;
/// What one run in fifty has to judge is missed so often in one campaign out of fifty.
const TRIALS_MIN: u64 = 200;
/// Worlds are alive from the first seed on; a few may be dead by their faults.
const LIVE_TRIALS_MIN: u64 = 10;

impl Gap {
    /// Is it no matter of chance after so many trials? Then a campaign that has it fails.
    pub fn is_certain(&self, trials: u64) -> bool {
        match self {
            Gap::NoEffect { drawn, .. } => *drawn >= FAULTS_MIN,
            Gap::NoSubject { .. } | Gap::NeverShown { .. } => trials >= TRIALS_MIN,
            Gap::NoJobRan { .. } | Gap::NoExchange => trials >= LIVE_TRIALS_MIN,
            Gap::LostCase { .. } => true,
            // A shard may be smaller than their number.
            Gap::NoTrial => false,
        }
    }
}

impl Coverage {
    /// Adds a trial.
    pub fn add(&mut self, run: &Run) {
        let outcome = &run.outcome;
        self.trials += 1;
        self.exchanges += outcome.exchanges;
        self.jobs_queued += outcome.jobs_queued;
        self.jobs_started += outcome.jobs_started;
        for fault in &outcome.faults {
            let family = self.families.entry(fault.family.clone()).or_default();
            family.add(&Family {
                drawn: 1,
                began: u64::from(fault.began),
                effective: u64::from(fault.effects > 0),
                effects: fault.effects,
            });
        }
        self.tallies.add(&outcome.tallies);
        if let Some(worst) = outcome.verdict.worst() {
            let message = worst.message.clone();
            let (verdict, first_seed, file) = (worst.severity, outcome.seed, run.file.clone());
            let found = Found { verdict, trials: 1, first_seed, file, message };
            self.found(worst.fingerprint(), found);
        }
    }

    /// Adds another part of the campaign.
    pub fn merge(&mut self, other: &Coverage) {
        self.trials += other.trials;
        self.exchanges += other.exchanges;
        self.jobs_queued += other.jobs_queued;
        self.jobs_started += other.jobs_started;
        other.families.iter().for_each(|(name, more)| self.families.entry(name.clone()).or_default().add(more));
        self.tallies.merge(&other.tallies);
        other.fingerprints.iter().for_each(|(name, found)| self.found(name.clone(), found.clone()));
        self.lost_cases.extend(other.lost_cases.clone());
    }

    pub(crate) fn found(&mut self, fingerprint: String, more: Found) {
        match self.fingerprints.get_mut(&fingerprint) {
            Some(known) => {
                let trials = known.trials + more.trials;
                if more.first_seed < known.first_seed {
                    *known = more;
                }
                known.trials = trials;
            }
            None => drop(self.fingerprints.insert(fingerprint, more)),
        }
    }

    /// The gaps for which a campaign of this size fails.
    pub fn certain_gaps(&self) -> Vec<Gap> {
        self.gaps().into_iter().filter(|gap| gap.is_certain(self.trials)).collect()
    }

    /// What was not tried.
    pub fn gaps(&self) -> Vec<Gap> {
        let lost = self.lost_cases.iter();
        let mut gaps: Vec<Gap> =
            lost.map(|(file, why)| Gap::LostCase { file: file.clone(), why: why.clone() }).collect();
        if self.trials == 0 {
            gaps.push(Gap::NoTrial);
            return gaps;
        }
        if self.exchanges == 0 {
            gaps.push(Gap::NoExchange);
        }
        if self.jobs_queued > 0 && self.jobs_started == 0 {
            gaps.push(Gap::NoJobRan { queued: self.jobs_queued });
        }
        let idle = self.families.iter().filter(|(_, family)| family.drawn > 0 && family.effective == 0);
        gaps.extend(idle.map(|(name, family)| Gap::NoEffect { family: name.clone(), drawn: family.drawn }));
        let name = |tally: &Tally| tally.invariant.clone();
        gaps.extend(self.tallies.without_subject().map(|tally| Gap::NoSubject { invariant: name(tally) }));
        gaps.extend(self.tallies.never_shown().map(|tally| Gap::NeverShown { invariant: name(tally) }));
        gaps
    }
}

impl Family {
    /// Adds other faults of the family.
    pub fn add(&mut self, more: &Family) {
        self.drawn += more.drawn;
        self.began += more.began;
        self.effective += more.effective;
        self.effects += more.effects;
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::NoTrial => write!(to, "no seed was run"),
            Gap::NoEffect { family, drawn } => {
                let were = if *drawn == 1 { "was drawn once" } else { &*format!("were drawn {drawn} times") };
                write!(to, "faults of family {family} {were} and never changed anything")
            }
            Gap::NoSubject { invariant } => {
                write!(to, "invariant {invariant} never had anything to judge, so it proves nothing here")
            }
            Gap::NeverShown { invariant } => write!(to, "no run showed {invariant}"),
            Gap::NoJobRan { queued } => write!(to, "{queued} jobs were queued and none was ever started"),
            Gap::NoExchange => write!(to, "no request was ever answered"),
            Gap::LostCase { file, why } => write!(to, "{file} was not run: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::invariant::Kind;
    use crate::time::SimTime;
    use crate::trial::{FaultRecord, Outcome};
    use crate::verdict::{Finding, Verdict};

    fn run(seed: u64, effects: u64) -> Run {
        let finding = Finding {
            severity: Severity::Stuck,
            invariant: "every-job-ends".to_owned(),
            subject_kind: "job".to_owned(),
            subject: format!("job-{seed}"),
            at: SimTime::ZERO,
            message: format!("job-{seed} is lost"),
        };
        let outcome = Outcome {
            scenario: "queue".to_owned(),
            variant: "upstream".to_owned(),
            seed,
            verdict: Verdict::of(vec![finding]),
            digest: String::new(),
            ended_at: SimTime::ZERO,
            exchanges: 1,
            faults: vec![FaultRecord { family: "crash".to_owned(), began: true, effects }],
            tallies: vec![
                Tally { invariant: "every-job-ends".to_owned(), kind: Kind::Always, subjects: effects, breaches: 0 },
                Tally { invariant: "lease-expires".to_owned(), kind: Kind::Sometimes, subjects: effects, breaches: 0 },
            ],
            jobs_queued: 2,
            jobs_started: effects,
        };
        Run { outcome, file: None, wall: Duration::ZERO }
    }

    #[test]
    fn what_changed_nothing_is_a_gap_until_it_does() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.gaps(), [Gap::NoTrial]);
        coverage.add(&run(7, 0));
        let no_effect = Gap::NoEffect { family: "crash".to_owned(), drawn: 1 };
        let no_subject = Gap::NoSubject { invariant: "every-job-ends".to_owned() };
        let never_shown = Gap::NeverShown { invariant: "lease-expires".to_owned() };
        assert_eq!(coverage.gaps(), [Gap::NoJobRan { queued: 2 }, no_effect, no_subject, never_shown]);
        coverage.add(&run(8, 3));
        assert_eq!(coverage.gaps(), []);
        assert_eq!(coverage.families["crash"], Family { drawn: 2, began: 2, effective: 1, effects: 3 });
    }

    #[test]
    fn equal_failures_are_counted_as_one() {
        let mut coverage = Coverage::default();
        [run(7, 1), run(8, 1)].iter().for_each(|run| coverage.add(run));
        let found = Found {
            verdict: Severity::Stuck,
            trials: 2,
            first_seed: 7,
            file: None,
            message: "job-7 is lost".to_owned(),
        };
        assert_eq!(coverage.fingerprints, BTreeMap::from([("every-job-ends/job".to_owned(), found)]));
    }

    #[test]
    fn parts_of_a_campaign_add_up_to_the_whole() {
        let of = |seeds: &[u64]| {
            let mut coverage = Coverage::default();
            seeds.iter().for_each(|seed| coverage.add(&run(*seed, seed % 3)));
            coverage
        };
        let mut merged = of(&[2, 4, 6]);
        merged.merge(&of(&[1, 3, 5]));
        assert_eq!(merged, of(&[1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn a_gap_fails_a_campaign_once_it_is_no_matter_of_chance() {
        let mut coverage = Coverage::default();
        let certain =
            |coverage: &Coverage| -> Vec<String> { coverage.certain_gaps().iter().map(ToString::to_string).collect() };
        let mut seen = vec![(0, certain(&coverage))];
        for seed in 1..=TRIALS_MIN {
            coverage.add(&run(seed, 0));
            let now = certain(&coverage);
            if seen.last().is_some_and(|(_, before)| before.len() != now.len()) {
                seen.push((seed, now));
            }
        }
        let [(0, none), (LIVE_TRIALS_MIN, idle), (FAULTS_MIN, no_effect), (TRIALS_MIN, blind)] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((none.len(), idle.len(), no_effect.len(), blind.len()), (0, 1, 2, 4));
        assert_eq!(idle[0], "20 jobs were queued and none was ever started");
        assert_eq!(no_effect[1], "faults of family crash were drawn 50 times and never changed anything");
        assert_eq!(blind[2], "invariant every-job-ends never had anything to judge, so it proves nothing here");
        coverage.add(&run(0, 1));
        assert_eq!(coverage.certain_gaps(), []);
        coverage.lost_cases.insert("old.json".to_owned(), "there is no such node".to_owned());
        assert_eq!(certain(&coverage), ["old.json was not run: there is no such node"]);
    }
}
