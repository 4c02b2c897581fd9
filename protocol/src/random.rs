//! The random generator that is handed to an agent.

use rand::RngCore;
use std::ops::Range;
use std::time::Duration;

/// A generator that belongs to one agent; in the simulation its own stream of the seed.
pub type Random = Box<dyn RngCore + Send + Sync>;

/// One of several values, each as likely as its share of them.
///
/// # Panics
/// When there is none.
pub fn pick<T: Clone>(random: &mut (impl RngCore + ?Sized), from: &[T]) -> T {
    from[(random.next_u64() % from.len() as u64) as usize].clone()
}

/// A duration drawn uniformly from a half-open range, in whole nanoseconds; the start when the range is empty.
///
/// It draws by integers only, so that every machine draws the same.
pub fn uniform(random: &mut (impl RngCore + ?Sized), range: Range<Duration>) -> Duration {
    let span = range.end.saturating_sub(range.start).as_nanos() as u64;
    if span == 0 {
        return range.start;
    }
    let drawn = (u128::from(random.next_u64()) * u128::from(span)) >> 64;
    range.start + Duration::from_nanos(drawn as u64)
}
