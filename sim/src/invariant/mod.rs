//! Invariants by kind: always, eventually within a bound after heal, sometimes in a campaign.

use std::time::Duration;

use crate::journal::Entry;
use crate::time::SimTime;
use crate::verdict::Finding;

/// What an invariant asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Safety: it must never be broken, at any time. A breach is a violation.
    Always,
    /// Liveness: after the faults have healed it must come true within this time. A breach is stuck.
    EventuallyWithin(Duration),
    /// Coverage: some run of a campaign must show it. A run never breaks it.
    Sometimes,
}

/// What there is to judge: the journal of a run and its landmarks.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Every fact, by time.
    pub journal: &'a [Entry],
    /// From here on no fault acts.
    pub heal_at: SimTime,
    /// Where the run ended.
    pub end: SimTime,
}

/// What an invariant makes of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// How many things it applied to. An invariant that never has a subject proves nothing.
    pub subjects: u64,
    /// Its breaches.
    pub findings: Vec<Finding>,
}

/// Something that must hold, judged by the journal alone.
pub trait Invariant: Send + Sync {
    /// Its name, such as `one-live-session`.
    fn name(&self) -> &'static str;

    /// What it asks for, in one sentence.
    fn summary(&self) -> &'static str;

    /// What kind it is.
    fn kind(&self) -> Kind;

    /// Judges a history.
    fn judge(&self, history: &History<'_>) -> Judgement;
}
