//! Panics of the code under test are verdicts: they are caught and told, not printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A caught panic. Its text is what it said, and where.
pub(crate) struct Thrown {
    pub(crate) payload: Box<dyn Any + Send>,
    location: Option<String>,
}

impl fmt::Display for Thrown {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str));
        to.write_str(said.unwrap_or("a panic without a message"))?;
        match &self.location {
            Some(location) => write!(to, " ({location})"),
            None => Ok(()),
        }
    }
}

/// From now on, panics inside of [`caught`] are kept from the standard error output. Others are printed as ever.
pub(crate) fn keep_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outside = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                LOCATION.set(info.location().map(ToString::to_string));
            } else {
                outside(info);
            }
        }));
    });
}

/// Runs a step of the code under test.
pub(crate) fn caught<T>(step: impl FnOnce() -> T) -> Result<T, Thrown> {
    let before = INSIDE.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(step));
    INSIDE.set(before);
    result.map_err(|payload| Thrown { payload, location: LOCATION.take() })
}
