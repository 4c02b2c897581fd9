//! Pieces of work on several threads, handed over in the order in which they were given out, whatever the threads do.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use crate::mutex::lock;

/// How many pieces a fast thread may be ahead of the slowest: bounds what waits for its turn to be handed over.
const AHEAD_MAX: u64 = 1_024;
/// As much as a main thread has, so that a run does not depend on which thread it is on.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// How the work came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every piece that was given out was handed over.
    Done,
    /// The receiver wanted no more.
    Broken,
}

/// Does pieces of work on so many threads. `pieces` gives them out until it has no more; each result is handed to `sink`
/// in the order in which the pieces were given out. When `sink` breaks, no further piece is begun.
///
/// # Panics
/// When the operating system gives no thread.
pub fn side_by_side<P: Send, R: Send>(
    jobs: NonZeroUsize,
    pieces: impl Iterator<Item = P> + Send,
    work: impl Fn(P) -> R + Sync,
    mut sink: impl FnMut(R) -> ControlFlow<()>,
) -> Ended {
    let queue =
        Queue { state: Mutex::new(State { pieces, taken: 0, delivered: 0, broken: false }), room: Condvar::new() };
    let (deliver, delivered) = mpsc::channel();
    #[expect(clippy::disallowed_methods, reason = "threads run whole worlds side by side; none is inside of one")]
    thread::scope(|scope| {
        for n in 0..jobs.get() {
            let (queue, work, deliver) = (&queue, &work, deliver.clone());
            let worker = thread::Builder::new().name(format!("worlds-{n}")).stack_size(STACK_BYTES);
            let works = move || {
                while let Some((place, piece)) = queue.take() {
                    if deliver.send((place, work(piece))).is_err() {
                        return;
                    }
                }
            };
            worker.spawn_scoped(scope, works).expect("the operating system gives a thread");
        }
        drop(deliver);
        let (mut waiting, mut next) = (BTreeMap::new(), 0);
        for (place, result) in delivered {
            waiting.insert(place, result);
            while let Some(result) = waiting.remove(&next) {
                next += 1;
                queue.delivered(next);
                if !queue.is_broken() && sink(result).is_break() {
                    queue.break_off();
                }
            }
        }
    });
    if queue.is_broken() { Ended::Broken } else { Ended::Done }
}

/// The pieces that are still to be done.
struct Queue<I> {
    state: Mutex<State<I>>,
    room: Condvar,
}

struct State<I> {
    pieces: I,
    taken: u64,
    delivered: u64,
    broken: bool,
}

impl<I: Iterator> Queue<I> {
    /// The next piece and its place in the order of delivery.
    fn take(&self) -> Option<(u64, I::Item)> {
        let mut state = lock(&self.state);
        while !state.broken && state.taken >= state.delivered + AHEAD_MAX {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken {
            return None;
        }
        let piece = state.pieces.next()?;
        state.taken += 1;
        Some((state.taken - 1, piece))
    }

    fn delivered(&self, count: u64) {
        lock(&self.state).delivered = count;
        self.room.notify_all();
    }

    fn break_off(&self) {
        lock(&self.state).broken = true;
        self.room.notify_all();
    }

    fn is_broken(&self) -> bool {
        lock(&self.state).broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_until_nobody_wants_more() {
        let jobs = NonZeroUsize::new(4).expect("some");
        let mut seen = Vec::new();
        let ended = side_by_side(
            jobs,
            0..3_000_u64,
            |n| n * 2,
            |result| {
                seen.push(result);
                ControlFlow::Continue(())
            },
        );
        assert_eq!((ended, seen), (Ended::Done, (0..3_000).map(|n| n * 2).collect()));

        let mut seen = Vec::new();
        let ended = side_by_side(
            jobs,
            0_u64..,
            |n| n,
            |result| {
                seen.push(result);
                if result == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!((ended, seen), (Ended::Broken, (0..10).collect()));
    }
}
