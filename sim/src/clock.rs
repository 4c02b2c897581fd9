//! The clocks of nodes: each has an offset and a drift of its own, may step, and stands still while suspended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use squall_protocol::{Clock, Mono};

use crate::effects::{Effects, FaultId};
use crate::kernel::{Kernel, Sleep};
use crate::one_thread::OneThread;
use crate::time::SimTime;

/// Wall time at the beginning of every world: 2026-01-01T00:00:00Z.
pub const EPOCH_UNIX_SECS: i64 = 1_767_225_600;

/// The most that a clock may run fast or slow, in millionths.
pub const CLOCK_DRIFT_PPM_MAX: i32 = 500_000;

const PARTS: i128 = 1_000_000;

/// The wall time that a perfect clock shows at an instant of true time.
pub fn true_wall(at: SimTime) -> Timestamp {
    let epoch = Timestamp::from_second(EPOCH_UNIX_SECS).expect("the epoch is a valid instant");
    epoch + SignedDuration::from_nanos(at.as_nanos() as i64)
}

/// The clock of one node. Handles share it.
#[derive(Clone)]
pub struct NodeClock {
    kernel: Arc<Kernel>,
    state: Arc<OneThread<State>>,
}

/// Readings at the last change of rate; between changes both clocks run on a straight line.
#[derive(Debug)]
struct State {
    at: SimTime,
    mono_nanos: i128,
    wall_ahead_nanos: i128,
    drift_ppm: i32,
    suspended: bool,
    /// Faults that count the readings which they falsify.
    falsified_by: Vec<(FaultId, Falsified, Effects)>,
}

/// Which readings of a clock a fault falsifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Falsified {
    /// Those of wall time.
    Wall,
    /// Those of wall and monotonic time, and sleeps.
    Both,
}

impl NodeClock {
    /// A clock that is exact until somebody disturbs it.
    pub(crate) fn new(kernel: Arc<Kernel>) -> Self {
        let state = State {
            at: kernel.now(),
            mono_nanos: 0,
            wall_ahead_nanos: 0,
            drift_ppm: 0,
            suspended: false,
            falsified_by: Vec::new(),
        };
        Self { kernel, state: Arc::new(OneThread::new(state)) }
    }

    /// Moves wall time by so many nanoseconds, forward or back. Monotonic time does not notice.
    pub fn step_wall(&self, nanos: i64) {
        self.change(|state| state.wall_ahead_nanos += i128::from(nanos));
    }

    /// Lets both clocks run fast (positive) or slow (negative) by so many millionths, [`CLOCK_DRIFT_PPM_MAX`] at most.
    pub fn set_drift_ppm(&self, ppm: i32) {
        let ppm = ppm.clamp(-CLOCK_DRIFT_PPM_MAX, CLOCK_DRIFT_PPM_MAX);
        self.change(|state| state.drift_ppm = ppm);
    }

    /// Counts from now on what `fault` falsifies.
    pub(crate) fn falsified_by(&self, fault: FaultId, what: Falsified, effects: &Effects) {
        self.state.borrow_mut().falsified_by.push((fault, what, effects.clone()));
    }

    /// `fault` falsifies nothing any more.
    pub(crate) fn no_longer_falsified_by(&self, fault: FaultId) {
        self.state.borrow_mut().falsified_by.retain(|(of, ..)| *of != fault);
    }

    /// While suspended, monotonic time stands still and wall time goes on, as on a laptop whose lid is closed.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        self.change(|state| state.suspended = suspended);
    }

    /// How far wall time is ahead of true time, in nanoseconds.
    pub fn wall_ahead_nanos(&self) -> i64 {
        let state = self.state.borrow_mut();
        (state.wall_ahead_nanos + state.gained_nanos(self.kernel.now())) as i64
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let now = self.kernel.now();
        let mut state = self.state.borrow_mut();
        state.wall_ahead_nanos += state.gained_nanos(now);
        state.mono_nanos = state.mono_at(now);
        state.at = now;
        change(&mut state);
    }
}

impl State {
    fn count_wall_reading(&self) {
        self.falsified_by.iter().for_each(|(fault, _, effects)| effects.count(*fault));
    }

    fn count_mono_reading(&self) {
        let falsified = self.falsified_by.iter().filter(|(_, what, _)| *what == Falsified::Both);
        falsified.for_each(|(fault, _, effects)| effects.count(*fault));
    }

    /// What drift has added to both clocks since the last change.
    fn gained_nanos(&self, now: SimTime) -> i128 {
        // Nearly always, and a division of 128 bits is slow.
        if self.drift_ppm == 0 {
            return 0;
        }
        i128::from(now.since(self.at).as_nanos() as u64) * i128::from(self.drift_ppm) / PARTS
    }

    fn mono_at(&self, now: SimTime) -> i128 {
        if self.suspended {
            return self.mono_nanos;
        }
        self.mono_nanos + now.since(self.at).as_nanos() as i128 + self.gained_nanos(now)
    }

    /// When the monotonic clock will show `mono_nanos`, if nothing disturbs it until then.
    fn due(&self, now: SimTime, mono_nanos: i128) -> SimTime {
        let missing = (mono_nanos - self.mono_at(now)).max(0);
        let rate = PARTS + i128::from(self.drift_ppm);
        let nanos = if rate == PARTS { missing } else { (missing * PARTS + rate - 1) / rate };
        now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Clock for NodeClock {
    fn wall(&self) -> Timestamp {
        self.kernel.step();
        let now = self.kernel.now();
        self.state.borrow_mut().count_wall_reading();
        true_wall(now) + SignedDuration::from_nanos(self.wall_ahead_nanos())
    }

    fn mono(&self) -> Mono {
        self.kernel.step();
        let state = self.state.borrow_mut();
        state.count_mono_reading();
        let nanos = state.mono_at(self.kernel.now());
        Mono::from_start(Duration::from_nanos(nanos as u64))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let now = self.kernel.now();
        let (target, due) = {
            let state = self.state.borrow_mut();
            state.count_mono_reading();
            let target = state.mono_at(now) + duration.as_nanos() as i128;
            (target, state.due(now, target))
        };
        ClockSleep { until_due: self.kernel.sleep_until(due), clock: self.clone(), target }.boxed()
    }
}

/// Ends when the monotonic clock shows its target.
struct ClockSleep {
    until_due: Sleep,
    clock: NodeClock,
    target: i128,
}

impl Future for ClockSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Pin::new(&mut self.until_due).poll(cx));
            let kernel = &self.clock.kernel;
            let due = self.clock.state.borrow_mut().due(kernel.now(), self.target);
            if due <= kernel.now() {
                return Poll::Ready(());
            }
            // A clock that was slowed or suspended meanwhile has some way to go still.
            self.until_due = kernel.sleep_until(due);
        }
    }
}
