//! A progress bar, on terminals only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is drawn at most.
const DRAWS_PER_S: u8 = 5;

/// A bar for one campaign; without a terminal it does nothing.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar on stderr for so many seeds, if that is known.
    pub(super) fn new(campaign: &str, seeds: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(seeds, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S));
        let template = match seeds {
            Some(_) => "{prefix} {wide_bar} {pos}/{len} seeds, {msg}, {eta} left",
            None => "{spinner} {prefix} {pos} seeds, {msg}, {elapsed}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
        bar.set_prefix(campaign.to_owned());
        bar.set_message("0 failed");
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
