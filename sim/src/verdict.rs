//! What a run came to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::SimTime;

/// How bad it is, from good to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Every invariant held.
    Pass,
    /// Something happened that must never happen.
    Violation,
    /// Something did not happen that must happen.
    Stuck,
    /// The code under test panicked.
    Panic,
    /// The same case did not run the same way twice.
    #[serde(rename = "nondeterministic")]
    Nondeterminism,
}

impl fmt::Display for Severity {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Severity::Pass => "pass",
            Severity::Violation => "violation",
            Severity::Stuck => "stuck",
            Severity::Panic => "panic",
            Severity::Nondeterminism => "nondeterministic",
        })
    }
}

/// One breach of one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The invariant's name, such as `one-live-session`.
    pub invariant: String,
    /// The kind of thing it happened to, such as `job`; with the invariant it makes the fingerprint.
    pub subject_kind: String,
    /// The thing it happened to.
    pub subject: String,
    /// When it became true.
    pub at: SimTime,
    /// What happened, in one sentence.
    pub message: String,
}

impl Finding {
    /// Tells one failure from another, so that shrinking never drifts to a different one.
    pub fn fingerprint(&self) -> String {
        format!("{}/{}", self.invariant, self.subject_kind)
    }
}

/// The verdict on a run: the worst finding first, then by time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Everything that was found.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Sorts findings into a verdict: those of the greatest severity first, within it the earliest.
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.at.cmp(&b.at)));
        Self { findings }
    }

    /// Adds a finding in its place.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
        *self = Self::of(std::mem::take(&mut self.findings));
    }

    /// The finding that the verdict is named after.
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.first()
    }

    /// How bad the run was.
    pub fn severity(&self) -> Severity {
        self.worst().map_or(Severity::Pass, |finding| finding.severity)
    }
}
