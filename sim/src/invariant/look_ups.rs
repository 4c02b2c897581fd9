//! Look-ups: what is known is not asked for again.

use std::collections::BTreeMap;

use squall_protocol::Fact;
use squall_protocol::facts::Job;

use super::{Findings, History, Rule};

/// No attempt of a job looks the same thing up over and over.
///
/// What counts are answers that arrived: whoever has none may ask as long as he likes.
#[derive(Clone, Debug)]
pub struct LookUpsBounded {
    /// How many answers to the same question an attempt of a job may get, faults or not: one for each of its processes and
    /// for each part of them that keeps what it knows to itself. Default: 3.
    pub most: u32,
}

impl Default for LookUpsBounded {
    fn default() -> Self {
        Self { most: 3 }
    }
}

impl Rule for LookUpsBounded {
    const NAME: &'static str = "look-ups-bounded";
    const SUMMARY: &'static str = "No attempt of a job looks the same thing up over and over.";
    const SUBJECT: &'static str = "job";

    fn look(&self, history: &History<'_>, found: &mut Findings) {
        let mut answers: BTreeMap<(&Job, u32, &str), u32> = BTreeMap::new();
        for entry in history.journal {
            let Fact::LookUpAnswered { job, attempt, what } = &entry.fact else { continue };
            let count = answers.entry((job, *attempt, what)).or_default();
            *count += 1;
            if *count > self.most {
                let message = format_args!(
                    "attempt {attempt} of {job} was told {count} times by {} where to find {what}; {} are the most",
                    entry.at, self.most
                );
                found.breach(job, entry.at, message);
            }
        }
        found.subjects(answers.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn looked_up(attempt: u32, what: &str) -> Fact {
        Fact::LookUpAnswered { job: "j".into(), attempt, what: what.into() }
    }

    #[test]
    fn what_is_known_is_not_asked_for_again() {
        let facts = vec![
            (1, looked_up(1, "a")),
            (2, looked_up(1, "a")),
            (3, looked_up(1, "a")),
            (4, looked_up(1, "b")),
            (5, looked_up(2, "a")),
        ];
        holds(&LookUpsBounded::default(), 3, facts);
    }

    #[test]
    fn asking_over_and_over_is_a_breach() {
        let facts = (1..=5).map(|at| (at, looked_up(1, "a"))).collect();
        breaks(&LookUpsBounded::default(), (4, "j", "look-ups-bounded/job"), &["4 times", "0:00:04", "3 are"], facts);
    }
}
