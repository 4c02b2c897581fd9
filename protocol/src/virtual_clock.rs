//! Virtual time, for tests without a world.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::clock::{Clock, Mono};

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// No test has so much to do at one instant.
const TURNS_AT_ONCE_MAX: u32 = 100_000;

/// A clock that jumps to the next timer whenever nothing else is left to do.
#[derive(Clone, Default)]
pub struct VirtualClock(Arc<Mutex<Time>>, Beside);

/// Processes that go on beside whatever is run, until they end.
type Beside = Arc<Mutex<Vec<BoxFuture<'static, ()>>>>;

#[derive(Default)]
struct Time {
    now: Duration,
    last: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
}

impl VirtualClock {
    /// One that shows this time.
    pub fn at(now: Duration) -> Self {
        let clock = Self::default();
        clock.0.lock().unwrap().now = now;
        clock
    }

    pub fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    /// Starts a process. It goes on whenever something is run.
    pub fn start(&self, process: impl Future<Output = ()> + Send + 'static) {
        self.1.lock().unwrap().push(process.boxed());
    }

    /// Ends every process that was started.
    pub fn stop_all(&self) {
        self.1.lock().unwrap().clear();
    }

    fn poll_processes(&self, context: &mut Context<'_>) {
        let mut waiting = Vec::new();
        loop {
            let started = std::mem::take(&mut *self.1.lock().unwrap());
            if started.is_empty() {
                break;
            }
            waiting.extend(
                started
                    .into_iter()
                    .filter_map(|mut process| process.as_mut().poll(context).is_pending().then_some(process)),
            );
        }
        *self.1.lock().unwrap() = waiting;
    }

    /// Runs a future to its end.
    ///
    /// # Panics
    /// When it goes on without end while no time passes.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let (waker, mut main) = (Waker::from(woken.clone()), pin!(main));
        let (mut at, mut turns) = (self.now(), 0);
        loop {
            while woken.0.swap(false, Ordering::SeqCst) {
                (at, turns) = if self.now() == at { (at, turns + 1) } else { (self.now(), 1) };
                assert!(turns < TURNS_AT_ONCE_MAX, "an endless loop at {at:?}");
                let mut context = Context::from_waker(&waker);
                if let Poll::Ready(done) = main.as_mut().poll(&mut context) {
                    return done;
                }
                self.poll_processes(&mut context);
            }
            let mut time = self.0.lock().unwrap();
            let ((at, _), due) = time.timers.pop_first().expect("nothing left that could happen");
            time.now = time.now.max(at);
            drop(time);
            due.wake();
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Sleep {
    clock: VirtualClock,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().unwrap();
        if time.now >= self.key.0 {
            time.timers.remove(&self.key);
            return Poll::Ready(());
        }
        time.timers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.0.lock().unwrap().timers.remove(&self.key);
    }
}

impl Clock for VirtualClock {
    fn wall(&self) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + self.now()
    }
    fn mono(&self) -> Mono {
        Mono::from_start(self.now())
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut time = self.0.lock().unwrap();
        time.last += 1;
        let key = (time.now + duration, time.last);
        Sleep { clock: self.clone(), key }.boxed()
    }
}
