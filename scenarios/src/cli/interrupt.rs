//! Ctrl-C: the first asks for an orderly end, the second ends at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports for a process that Ctrl-C ended.
const KILLED_BY_INTERRUPT: i32 = 130;

/// Watches for Ctrl-C from now on.
pub(super) fn watch() -> &'static AtomicBool {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let watching = ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(KILLED_BY_INTERRUPT);
            }
        });
        // Without a handler Ctrl-C ends the process at once, as it does everywhere.
        drop(watching);
    });
    &INTERRUPTED
}
