//! Did campaigns come out as they should?

use std::collections::BTreeSet;
use std::fmt;

use squall_sim::explore::Summary;
use squall_sim::verdict::Severity;

use super::{UPSTREAM, exit_code};

/// The exit code of a campaign that passed and proves nothing, or of an upstream variant that was not caught.
const FALLS_SHORT: u8 = 1;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// How one variant does: the exit code tells its worst verdict.
    OneVariant,
    /// That upstream is caught and hardened is clean.
    Both,
}

/// What a campaign that was to be caught or clean came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Upstream, and it failed.
    Caught,
    /// Upstream, and it passed.
    NotCaught,
    /// Not upstream, and it passed.
    Clean,
    /// Not upstream, and it failed; or anything panicked.
    NotClean,
    /// It passed because something was never tried.
    ProvesNothing,
}

impl Mark {
    pub(super) fn of(summary: &Summary) -> Self {
        match (summary.worst, summary.variant == UPSTREAM) {
            (Severity::Panic | Severity::Nondeterminism, _) => Mark::NotClean,
            (Severity::Pass, true) => Mark::NotCaught,
            (Severity::Violation | Severity::Stuck, false) => Mark::NotClean,
            _ if !summary.coverage.certain_gaps().is_empty() => Mark::ProvesNothing,
            (Severity::Pass, false) => Mark::Clean,
            (Severity::Violation | Severity::Stuck, true) => Mark::Caught,
        }
    }

    pub(super) fn is_as_expected(self) -> bool {
        matches!(self, Mark::Caught | Mark::Clean)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Mark::Caught => "caught",
            Mark::NotCaught => "NOT CAUGHT",
            Mark::Clean => "clean",
            Mark::NotClean => "NOT CLEAN",
            Mark::ProvesNothing => "PROVES NOTHING",
        })
    }
}

impl Asked {
    /// What some campaigns must have been asked for.
    pub(super) fn by(summaries: &[Summary]) -> Self {
        let variants: BTreeSet<&str> = summaries.iter().map(|summary| summary.variant.as_str()).collect();
        if variants.len() > 1 { Asked::Both } else { Asked::OneVariant }
    }

    /// The exit code of so many campaigns, of which these were run.
    pub(super) fn exit_code(self, campaigns: usize, summaries: &[Summary]) -> u8 {
        // Upstream variants are there to fail, by what an invariant says and not by a panic.
        let counts = |summary: &&Summary| {
            self == Asked::OneVariant || summary.variant != UPSTREAM || summary.worst > Severity::Stuck
        };
        let worst = summaries.iter().filter(counts).map(|summary| summary.worst).max().unwrap_or(Severity::Pass);
        match worst {
            Severity::Pass if self.is_met(campaigns, summaries) => 0,
            Severity::Pass => FALLS_SHORT,
            worst => exit_code(worst),
        }
    }

    fn is_met(self, campaigns: usize, summaries: &[Summary]) -> bool {
        match self {
            Asked::OneVariant => summaries.iter().all(|summary| summary.coverage.certain_gaps().is_empty()),
            Asked::Both => {
                summaries.len() == campaigns && summaries.iter().all(|summary| Mark::of(summary).is_as_expected())
            }
        }
    }
}
