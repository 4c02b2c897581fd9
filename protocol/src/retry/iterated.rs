//! Policies of other libraries, put in unchanged.

use std::time::Duration;

use super::conditions::RetryOn;
use super::{Attempt, Decision, RetryPolicy};
use crate::random::Random;

/// A policy from whatever hands out waits one after another, such as a builder of `backon`: each call begins a new
/// series, and its end is where the policy gives up.
///
/// ```ignore
/// let builder = backon::ExponentialBuilder::default().with_jitter();
/// Iterated::new(RetryOn::Anything, move |seed| builder.with_jitter_seed(seed).build())
/// ```
///
/// `begin` is handed a drawn seed. A library whose jitter comes from a generator of the process (`fastrand`, say) leaks
/// out of a simulation unless it is seeded with it.
pub struct Iterated<B, I> {
    retry_on: RetryOn,
    begin: B,
    waits: Option<I>,
}

impl<B, I> Iterated<B, I>
where
    B: FnMut(u64) -> I + Send + Sync,
    I: Iterator<Item = Duration> + Send + Sync,
{
    /// A policy that retries after these failures.
    pub fn new(retry_on: RetryOn, begin: B) -> Self {
        Self { retry_on, begin, waits: None }
    }
}

impl<B, I> RetryPolicy for Iterated<B, I>
where
    B: FnMut(u64) -> I + Send + Sync,
    I: Iterator<Item = Duration> + Send + Sync,
{
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        if !self.retry_on.covers(&attempt.outcome) {
            return Decision::GiveUp;
        }
        if attempt.number == 1 {
            self.waits = None;
        }
        let waits = self.waits.get_or_insert_with(|| (self.begin)(random.next_u64()));
        waits.next().map_or(Decision::GiveUp, Decision::Retry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::waits_of;
    use super::*;

    #[test]
    fn each_call_begins_a_series_anew() {
        let series = |_| [1, 2, 3].into_iter().map(Duration::from_secs);
        let mut policy = Iterated::new(RetryOn::Transient, series);
        for _ in 0..2 {
            assert_eq!(waits_of(&mut policy, 0, 10), [1_000, 2_000, 3_000]);
        }
    }
}
