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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use event_listener::Event;

    use super::*;
    use crate::virtual_clock::{VirtualClock, secs};

    /// Holds a poll for a minute over these events, and says what it came to and when it looked.
    fn poll(
        clock: &VirtualClock,
        again: Option<Duration>,
        wake: &Event,
        found: impl Fn(u64) -> Result<bool, &'static str>,
    ) -> (Result<Option<u64>, &'static str>, Vec<u64>) {
        let looks = RefCell::new(Vec::new());
        let look = || {
            let (woken, now) = (wake.listen(), clock.now().as_secs());
            looks.borrow_mut().push(now);
            Ok(if found(now)? { Look::Found(now) } else { Look::Nothing { woken, again } })
        };
        let answer = clock.run(held(clock, secs(60), look));
        (answer, looks.into_inner())
    }

    #[test]
    fn it_is_held_for_its_time_and_no_longer() {
        let (answer, looks) = poll(&VirtualClock::default(), None, &Event::new(), |_| Ok(false));
        assert_eq!((answer, looks), (Ok(None), vec![0, 60]));
    }

    #[test]
    fn news_end_the_wait() {
        let (clock, wake) = (VirtualClock::default(), Event::new());
        let (later, news) = (clock.clone(), std::sync::Arc::new(wake));
        let teller = news.clone();
        clock.start(async move {
            later.sleep(secs(7)).await;
            teller.notify(usize::MAX);
        });
        let (answer, looks) = poll(&clock, None, &news, |now| Ok(now >= 7));
        assert_eq!((answer, looks), (Ok(Some(7)), vec![0, 7]));
    }

    #[test]
    fn what_is_due_is_looked_for_unasked() {
        let (answer, looks) = poll(&VirtualClock::default(), Some(secs(25)), &Event::new(), |now| Ok(now >= 50));
        assert_eq!((answer, looks), (Ok(Some(50)), vec![0, 25, 50]));
        let (answer, looks) = poll(&VirtualClock::default(), Some(secs(25)), &Event::new(), |_| Ok(false));
        assert_eq!((answer, looks), (Ok(None), vec![0, 25, 50, 60]));
    }

    #[test]
    fn what_is_no_more_ends_it() {
        let gone = |now| if now == 0 { Ok(false) } else { Err("gone") };
        let (answer, looks) = poll(&VirtualClock::default(), Some(secs(5)), &Event::new(), gone);
        assert_eq!((answer, looks), (Err("gone"), vec![0, 5]));
    }
}
