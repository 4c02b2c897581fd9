//! Reports on one run: a story for people, lines of JSON for programs.

mod cast;
pub mod json;
mod quiet;
mod series;
mod story;
mod text;
pub mod words;

pub use self::text::text;
use crate::case::Case;
use crate::scenario::Scenario;
use crate::trial::Trial;

/// A run that is to be reported.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The command that runs it again.
    pub replay: &'a str,
    /// The scenario.
    pub scenario: &'a dyn Scenario,
    /// What was run.
    pub case: &'a Case,
    /// What came of it, with its events kept.
    pub trial: &'a Trial,
}
