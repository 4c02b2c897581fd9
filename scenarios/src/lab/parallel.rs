//! Many runs on several threads, delivered in their order.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// As much as a main thread has, so that a run does not depend on which thread it is on.
const STACK_BYTES: usize = 8 << 20;

/// Does `work` for every unit on so many threads and hands the results to `sink` in the order of the units. It ends early
/// when `stop` becomes true or `sink` breaks.
///
/// # Panics
/// When the operating system gives no thread.
pub fn each<U: Sync, R: Send>(
    jobs: NonZeroUsize,
    units: &[U],
    stop: &AtomicBool,
    work: impl Fn(&U) -> R + Sync,
    mut sink: impl FnMut(usize, R) -> ControlFlow<()>,
) {
    let (next, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (deliver, delivered) = mpsc::channel();
    let over = || stop.load(Ordering::Relaxed) || broken.load(Ordering::Relaxed);
    #[expect(clippy::disallowed_methods, reason = "threads run whole worlds side by side; none is inside of one")]
    thread::scope(|scope| {
        for n in 0..jobs.get().min(units.len()) {
            let (deliver, next, over, work) = (deliver.clone(), &next, &over, &work);
            let worker = thread::Builder::new().name(format!("lab-{n}")).stack_size(STACK_BYTES);
            let started = worker.spawn_scoped(scope, move || {
                while !over() {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(unit) = units.get(place) else { return };
                    if deliver.send((place, work(unit))).is_err() {
                        return;
                    }
                }
            });
            started.expect("the operating system gives a thread");
        }
        drop(deliver);
        let (mut waiting, mut due) = (BTreeMap::new(), 0);
        for (place, result) in delivered {
            waiting.insert(place, result);
            while let Some(result) = waiting.remove(&due) {
                due += 1;
                if !broken.load(Ordering::Relaxed) && sink(due - 1, result).is_break() {
                    broken.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_until_somebody_breaks() {
        let (units, stop) = ((0..50).collect::<Vec<u64>>(), AtomicBool::new(false));
        let mut seen = Vec::new();
        each(
            NonZeroUsize::new(3).unwrap(),
            &units,
            &stop,
            |unit| unit * 2,
            |place, result| {
                seen.push((place, result));
                if place == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(seen, (0..10).map(|n| (n, n as u64 * 2)).collect::<Vec<_>>());
    }
}
