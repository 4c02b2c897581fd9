//! Progress bars, on terminals only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is drawn at most.
const DRAWS_PER_S: u8 = 5;

/// A bar for one campaign; without a terminal it does nothing.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar on stderr for so many seeds, if that is known.
    pub(super) fn new(campaign: &str, seeds: Option<u64>) -> Self {
        let template = match seeds {
            Some(_) => "{prefix} {wide_bar} {pos}/{len} seeds, {msg}, {eta} left",
            None => "{spinner} {prefix} {pos} seeds, {msg}, {elapsed}",
        };
        let bar = ProgressBar::with_draw_target(seeds, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S))
            .with_style(style(template))
            .with_prefix(campaign.to_owned())
            .with_message("0 failed");
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self(bar)
    }

    /// One more seed is done.
    pub(super) fn advance(&self, failed: u64) {
        self.0.inc(1);
        if !self.0.is_hidden() {
            self.0.set_message(format!("{failed} failed"));
        }
    }

    /// Prints something without drawing over it.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line about one search that has no known end.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    /// A line on stderr.
    pub(super) fn new(name: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S))
            .with_style(style("{spinner} {prefix}: {msg}, {elapsed}"))
            .with_prefix(name.to_owned())
            .with_message("at the beginning");
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self(bar)
    }

    /// Says how far it is, if anybody looks.
    pub(super) fn tell(&self, how_far: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(how_far());
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar for several things at once, and a line for each that is under way.
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    found: AtomicU64,
}

impl Bars {
    /// A bar on stderr for so many things.
    pub(super) fn new(things: &str, count: usize) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S));
        let total = all.add(ProgressBar::new(count as u64));
        total.set_style(style("{wide_bar} {pos}/{len} {prefix}, {msg}, {elapsed}"));
        total.set_prefix(things.to_owned());
        total.set_message("0 found");
        if !all.is_hidden() {
            total.enable_steady_tick(Duration::from_millis(250));
        }
        Self { all, total, found: AtomicU64::new(0) }
    }

    /// One thing is done.
    pub(super) fn advance(&self, found: bool) {
        let found = self.found.fetch_add(u64::from(found), Ordering::Relaxed) + u64::from(found);
        self.total.inc(1);
        self.total.set_message(format!("{found} found"));
    }

    /// A line for one thing that is under way, until it is dropped.
    pub(super) fn line(&self, name: &str) -> Line<'_> {
        let bar = self.all.insert_before(&self.total, ProgressBar::new_spinner());
        bar.set_style(style("  {prefix} {msg}"));
        bar.set_prefix(name.to_owned());
        Line { bars: self, bar }
    }

    /// Prints something without drawing over it.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.all.suspend(print)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.total.finish_and_clear();
    }
}

/// One thing that is under way.
pub(super) struct Line<'a> {
    bars: &'a Bars,
    bar: ProgressBar,
}

impl Line<'_> {
    /// Says how far it is, if anybody looks.
    pub(super) fn tell(&self, how_far: impl FnOnce() -> String) {
        if !self.bars.all.is_hidden() {
            self.bar.set_message(how_far());
        }
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.bars.all.remove(&self.bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}
