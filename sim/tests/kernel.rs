//! The executor, time and clocks of a world.

#[path = "kernel/clocks.rs"]
mod clocks;
#[path = "kernel/loops.rs"]
mod loops;
#[path = "kernel/order.rs"]
mod order;
#[path = "kernel/panics.rs"]
mod panics;
#[path = "kernel/tasks.rs"]
mod tasks;
#[path = "kernel/tear_down.rs"]
mod tear_down;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_sim::trace::Keep;
use squall_sim::{Ended, SimTime, World, run};

const END: SimTime = SimTime::from_secs(24 * 3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn world(build: impl FnOnce(&World)) -> Ended {
    run(1, Keep::Digest, END, build)
}

/// What tasks tell, in order.
type Told<T> = Arc<Mutex<Vec<T>>>;

fn tell<T>(told: &Told<T>, what: T) {
    told.lock().unwrap().push(what);
}

fn take<T>(told: &Told<T>) -> Vec<T> {
    std::mem::take(&mut told.lock().unwrap())
}
