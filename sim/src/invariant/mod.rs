//! Invariants by kind: always, eventually within a bound after heal, sometimes in a campaign.
//!
//! An invariant reads the journal and nothing else, so each one serves any agent and any server that write the facts
//! it reads. There are three ways to have one: take a rule of this module with its bounds set, write a [`Property`]
//! from a closure, or implement [`Rule`] for a type with parameters of its own.
//!
//! ```
//! use squall_protocol::{Fact, facts::Outcome};
//! use squall_sim::invariant::Property;
//!
//! let calm = Property::always("no-job-abandoned", "No job is reported as abandoned.", "job", |history, found| {
//!     for entry in history.journal {
//!         let Fact::JobReported { job, outcome, .. } = &entry.fact else { continue };
//!         found.subject();
//!         if *outcome == Outcome::Abandoned {
//!             found.breach(job, entry.at, format_args!("{job} was reported as abandoned"));
//!         }
//!     }
//! });
//! # let _: Box<dyn squall_sim::invariant::Invariant> = Box::new(calm);
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_protocol::Fact;

use crate::journal::Entry;
use crate::time::SimTime;
use crate::verdict::{Finding, Severity};

pub mod aborts;
pub mod arrivals;
pub mod artifacts;
mod catalogue;
pub mod coverage;
mod deadlines;
pub mod endings;
pub mod exits;
mod findings;
pub mod giving_up;
pub mod idle;
pub mod jobs;
mod judge;
pub mod leases;
pub mod leaving;
mod live_sessions;
pub mod load;
pub mod locks;
pub mod look_ups;
pub mod messages;
pub mod offers;
mod overlaps;
pub mod patience;
pub mod pools;
pub mod progress;
pub mod queue;
pub mod restarts;
mod running;
pub mod session_ends;
pub mod sessions;
pub mod shutdown;
pub mod stages;
mod suspensions;
#[cfg(test)]
mod testing;
pub mod unused_leases;
mod wanted;
pub mod workers;
pub mod workspaces;

pub use catalogue::{catalogue, every_invariant};
pub use findings::Findings;
pub use judge::{Judged, Tallies, Tally, judge};

/// What an invariant asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Safety: it must never be broken, at any time. A breach is a violation.
    Always,
    /// Liveness: after the faults have healed it must come true within this time. A breach is stuck.
    EventuallyWithin(Duration),
    /// Coverage: some run of a campaign must show it. A run never breaks it.
    Sometimes,
}

impl Kind {
    /// How bad a breach is.
    pub fn severity(self) -> Severity {
        match self {
            Kind::Always => Severity::Violation,
            Kind::EventuallyWithin(_) => Severity::Stuck,
            Kind::Sometimes => Severity::Pass,
        }
    }
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
    /// How many things it applied to; for [`Kind::Sometimes`], how often it was shown. An invariant that never has a
    /// subject proves nothing.
    pub subjects: u64,
    /// Its breaches, by time: the earliest of each subject.
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

/// An invariant with parameters: a type whose fields are its bounds.
pub trait Rule: Send + Sync {
    /// See [`Invariant::name`].
    const NAME: &'static str;
    /// See [`Invariant::summary`].
    const SUMMARY: &'static str;
    /// The kind of thing that breaks it, such as `job`: a part of the fingerprint.
    const SUBJECT: &'static str;

    /// The time after heal within which it must come true, or `None` for what must hold always.
    fn within(&self) -> Option<Duration> {
        None
    }

    /// Reads a history, counts the things to which the rule applies and names those that broke it.
    fn look(&self, history: &History<'_>, found: &mut Findings);
}

impl<R: Rule> Invariant for R {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn summary(&self) -> &'static str {
        R::SUMMARY
    }

    fn kind(&self) -> Kind {
        self.within().map_or(Kind::Always, Kind::EventuallyWithin)
    }

    fn judge(&self, history: &History<'_>) -> Judgement {
        let mut found = Findings::new(R::NAME, R::SUBJECT, self.kind().severity());
        self.look(history, &mut found);
        found.into_judgement()
    }
}

type Look = Box<dyn Fn(&History<'_>, &mut Findings) + Send + Sync>;

/// An invariant from a closure.
pub struct Property {
    name: &'static str,
    summary: &'static str,
    subject_kind: &'static str,
    kind: Kind,
    look: Look,
}

impl Property {
    /// Something that must never be broken. `look` reads a history as [`Rule::look`] does.
    pub fn always(
        name: &'static str,
        summary: &'static str,
        subject_kind: &'static str,
        look: impl Fn(&History<'_>, &mut Findings) + Send + Sync + 'static,
    ) -> Self {
        Self { name, summary, subject_kind, kind: Kind::Always, look: Box::new(look) }
    }

    /// Something that must come true `within` this time after heal. `look` reads a history as [`Rule::look`] does and
    /// minds the bound itself.
    pub fn eventually(
        name: &'static str,
        summary: &'static str,
        subject_kind: &'static str,
        within: Duration,
        look: impl Fn(&History<'_>, &mut Findings) + Send + Sync + 'static,
    ) -> Self {
        Self { name, summary, subject_kind, kind: Kind::EventuallyWithin(within), look: Box::new(look) }
    }

    /// A fact that some run of a campaign must show.
    pub fn sometimes(
        name: &'static str,
        summary: &'static str,
        shows: impl Fn(&Fact) -> bool + Send + Sync + 'static,
    ) -> Self {
        let look: Look = Box::new(move |history, found| {
            let shown = history.journal.iter().filter(|entry| shows(&entry.fact)).count();
            found.subjects(shown);
        });
        Self { name, summary, subject_kind: "run", kind: Kind::Sometimes, look }
    }
}

impl Invariant for Property {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn judge(&self, history: &History<'_>) -> Judgement {
        let mut found = Findings::new(self.name, self.subject_kind, self.kind.severity());
        (self.look)(history, &mut found);
        found.into_judgement()
    }
}
