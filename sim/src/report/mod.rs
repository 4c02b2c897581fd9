//! Reports on one run: a story, a page and a diagram for people, JSON for programs and for the Perfetto UI.

mod cast;
mod html;
pub mod json;
mod mermaid;
mod perfetto;
mod quiet;
mod scene;
mod series;
mod story;
mod text;
pub mod words;

pub use self::html::page as html;
pub use self::mermaid::mermaid;
pub use self::perfetto::perfetto;
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
