//! Long polls: a server holds them until there is something to answer, or for long enough.

use std::time::Duration;

use event_listener::EventListener;

use crate::clock::{Clock, sleep_or};
use crate::deadlines::SHORTEST_WAIT;

/// What a look at the store comes to.
pub enum Look<T> {
    /// There is something.
    Found(T),
    /// There is nothing yet.
    Nothing {
        /// Ends when another look may find more. It has to listen since before the look, so that nothing is missed in
        /// between.
        woken: EventListener,
        /// After so long another look may find more, even if nobody says so.
        again: Option<Duration>,
    },
}

/// Looks again and again until there is something; `None` when there was nothing for as long as `hold`.
///
/// # Errors
/// That of the first look that fails.
pub async fn held<T, E>(
    clock: &dyn Clock,
    hold: Duration,
    mut look: impl FnMut() -> Result<Look<T>, E>,
) -> Result<Option<T>, E> {
    let began = clock.mono();
    loop {
        let (woken, again) = match look()? {
            Look::Found(found) => return Ok(Some(found)),
            Look::Nothing { woken, again } => (woken, again),
        };
        let left = hold.saturating_sub(clock.mono().since(began));
        if left.is_zero() {
            return Ok(None);
        }
        let wait = again.map_or(left, |again| again.min(left)).max(SHORTEST_WAIT);
        sleep_or(clock, woken, Some(wait)).await;
    }
}
