//! The one place that knows madsim.
//!
//! madsim gives a virtual `clock_gettime`, `gettimeofday` and `getrandom` to all code that runs inside of it, also to
//! libraries that never heard of a simulation. Tasks, timers and nodes are ours (see [`crate::kernel`]): killing one
//! process of a machine, a budget of steps, stable task identities and cancellable timers are not to be had from
//! madsim's executor. A whole world runs within a single poll of it.

use std::time::Duration;

use madsim::runtime::Runtime;
use madsim::time::TimeHandle;

/// The virtual clock that intercepted system calls read.
pub(crate) struct Engine {
    time: TimeHandle,
}

impl Engine {
    /// Runs `world` with intercepted system calls, on this thread, as a function of `seed`.
    pub(crate) fn run<T>(seed: u64, world: impl FnOnce(&Engine) -> T) -> T {
        Runtime::with_seed_and_config(seed, madsim::Config::default())
            .block_on(async move { world(&Engine { time: TimeHandle::current() }) })
    }

    /// Moves the virtual clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.time.advance(by);
    }
}
