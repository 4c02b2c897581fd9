//! What one invariant finds in one history.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::time::SimTime;
use crate::verdict::{Finding, Severity};

use super::Judgement;

/// Collects what an invariant applied to and what broke it: for each subject its earliest breach.
#[derive(Debug)]
pub struct Findings {
    invariant: &'static str,
    subject_kind: &'static str,
    severity: Severity,
    subjects: u64,
    breaches: BTreeMap<String, Finding>,
}

impl Findings {
    pub(super) fn new(invariant: &'static str, subject_kind: &'static str, severity: Severity) -> Self {
        Self { invariant, subject_kind, severity, subjects: 0, breaches: BTreeMap::new() }
    }

    /// Counts one thing to which the invariant applied.
    pub fn subject(&mut self) {
        self.subjects(1);
    }

    /// Counts so many of them.
    pub fn subjects(&mut self, count: usize) {
        self.subjects += count as u64;
    }

    /// A subject broke the invariant at this time. `message` says so in one sentence with names, times and numbers.
    pub fn breach(&mut self, subject: impl fmt::Display, at: SimTime, message: impl fmt::Display) {
        let subject = subject.to_string();
        if self.breaches.get(&subject).is_some_and(|earlier| earlier.at <= at) {
            return;
        }
        let finding = Finding {
            severity: self.severity,
            invariant: self.invariant.to_owned(),
            subject_kind: self.subject_kind.to_owned(),
            subject: subject.clone(),
            at,
            message: message.to_string(),
        };
        self.breaches.insert(subject, finding);
    }

    pub(super) fn into_judgement(self) -> Judgement {
        let mut findings: Vec<Finding> = self.breaches.into_values().collect();
        findings.sort_by_key(|finding| finding.at);
        Judgement { subjects: self.subjects, findings }
    }
}

/// A length of time as a reader of a message expects it: `850 ms`, `12.5 s`, `6 min 30 s`.
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match (millis / 60_000, millis / 1_000, millis % 1_000) {
            (0, 0, _) if !self.0.subsec_nanos().is_multiple_of(1_000_000) && millis < 10 => {
                write!(to, "{} us", self.0.as_micros())
            }
            (0, 0, rest) => write!(to, "{rest} ms"),
            (0 | 1, seconds, 0) => write!(to, "{seconds} s"),
            (0 | 1, seconds, rest) => {
                let fraction = format!("{rest:03}");
                write!(to, "{seconds}.{} s", fraction.trim_end_matches('0'))
            }
            (minutes, seconds, _) if seconds % 60 == 0 => write!(to, "{minutes} min"),
            (minutes, seconds, _) => write!(to, "{minutes} min {} s", seconds % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_breach_of_a_subject_is_kept() {
        let mut found = Findings::new("rule", "job", Severity::Violation);
        found.breach("b", SimTime::from_secs(9), "late");
        found.breach("a", SimTime::from_secs(5), "other");
        found.breach("b", SimTime::from_secs(2), "early");
        found.breach("b", SimTime::from_secs(3), "later");
        let kept: Vec<_> = found.into_judgement().findings.into_iter().map(|it| (it.subject, it.message)).collect();
        assert_eq!(kept, [("b".into(), "early".into()), ("a".into(), "other".to_owned())]);
    }

    #[test]
    fn spans_read_well() {
        let told =
            [0, 850, 12_500, 90_000, 119_050, 120_000, 390_999].map(|ms| Span(Duration::from_millis(ms)).to_string());
        assert_eq!(told, ["0 ms", "850 ms", "12.5 s", "90 s", "119.05 s", "2 min", "6 min 30 s"]);
        assert_eq!(Span(Duration::from_micros(1_500)).to_string(), "1500 us");
    }
}
