//! The executor of a world: tasks in processes, true time, and timers.
//!
//! Everything runs on one thread. Time stands still while any task is ready and then jumps to the next timer, so idle
//! time is free. Tasks that become ready at the same instant run in an order that is drawn from the seed for each
//! wake-up of each task by itself, so that one more task never changes the order of the others.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::future::Future;
use std::panic;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use slab::Slab;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::Engine;
pub(crate) use crate::mutex::lock;
use crate::panics::{self, Thrown};
use crate::time::SimTime;
use crate::timers::{TimerKey, Timers};

/// More steps than this without time passing are an endless loop.
const STEPS_PER_INSTANT_MAX: u64 = 1_000_000;
/// More steps than this in one world are a loop in which time hardly passes.
const STEPS_MAX: u64 = 200_000_000;

/// Names a process of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u32);

impl ProcessId {
    /// The world itself: what belongs to no machine.
    pub const WORLD: ProcessId = ProcessId(0);
}

/// Why a world stopped running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It reached the end it was given.
    End,
    /// Nothing can ever happen again.
    Idle,
    /// A task ran for ever without time passing.
    NoProgress {
        /// The task's name.
        task: String,
    },
    /// A task panicked.
    Panic {
        /// The task's name.
        task: String,
        /// What it said, and where.
        message: String,
    },
}

/// Something that a timer sets off without a task of its own.
pub(crate) trait Fire: Send + Sync {
    /// The timer is due.
    fn fire(&self, token: u64);
}

enum Due {
    Wake(Waker),
    Fire(Arc<dyn Fire>, u64),
}

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    /// `None` while it is being polled.
    future: Option<TaskFuture>,
    process: ProcessId,
    name: Arc<str>,
    wake: Arc<TaskWake>,
}

#[derive(Default)]
struct Process {
    frozen: bool,
    /// Tasks that became ready while the process was frozen.
    parked: Vec<usize>,
    tasks: BTreeSet<usize>,
    /// What ends with the process besides its tasks.
    belongings: Vec<Box<dyn Any + Send>>,
}

#[derive(Default)]
struct Tasks {
    all: Slab<Task>,
    processes: BTreeMap<ProcessId, Process>,
    process_next: u32,
    /// How many tasks each name had: tells two tasks of one name apart.
    named: BTreeMap<Arc<str>, u64>,
}

/// The executor. Handles to it are `Arc`s; all of them belong to one world.
pub(crate) struct Kernel {
    now: AtomicU64,
    /// Steps since time last passed, and in all.
    steps: AtomicU64,
    steps_all: AtomicU64,
    order_seed: u64,
    timers: Mutex<Timers<Due>>,
    tasks: Mutex<Tasks>,
    ready: Arc<Ready>,
    /// The process whose task is being polled.
    current: Mutex<ProcessId>,
    halt: Mutex<Option<Halt>>,
}

impl Kernel {
    pub(crate) fn new(order_seed: u64) -> Arc<Self> {
        let kernel = Arc::new(Self {
            now: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            steps_all: AtomicU64::new(0),
            order_seed,
            timers: Mutex::default(),
            tasks: Mutex::default(),
            ready: Arc::default(),
            current: Mutex::new(ProcessId::WORLD),
            halt: Mutex::default(),
        });
        kernel.new_process();
        kernel
    }

    /// True time.
    pub(crate) fn now(&self) -> SimTime {
        SimTime::from_nanos(self.now.load(Ordering::Relaxed))
    }

    /// Makes room for the tasks of a new process.
    pub(crate) fn new_process(&self) -> ProcessId {
        let mut tasks = lock(&self.tasks);
        let id = ProcessId(tasks.process_next);
        tasks.process_next += 1;
        tasks.processes.insert(id, Process::default());
        id
    }

    /// Runs `future` as a task of `process`; it is dropped at once if the process is gone.
    pub(crate) fn spawn(&self, process: ProcessId, name: &str, future: impl Future<Output = ()> + Send + 'static) {
        let future: TaskFuture = Box::pin(future);
        let wake = {
            let mut tasks = lock(&self.tasks);
            if !tasks.processes.contains_key(&process) {
                drop(tasks);
                return drop(future);
            }
            let name: Arc<str> = name.into();
            let ordinal = tasks.named.entry(name.clone()).or_default();
            *ordinal += 1;
            let key = xxh3_64_with_seed(name.as_bytes(), self.order_seed ^ *ordinal);
            let entry = tasks.all.vacant_entry();
            let id = entry.key();
            let wake = Arc::new(TaskWake {
                id,
                key,
                wakes: AtomicU64::new(0),
                queued: AtomicBool::new(false),
                ready: self.ready.clone(),
            });
            entry.insert(Task { future: Some(future), process, name, wake: wake.clone() });
            tasks.processes.get_mut(&process).expect("checked above").tasks.insert(id);
            wake
        };
        wake.wake();
    }

    /// Makes `thing` live as long as the process does; it is dropped at once if the process is gone.
    pub(crate) fn entrust(&self, process: ProcessId, thing: impl Any + Send) {
        let thing: Box<dyn Any + Send> = Box::new(thing);
        let mut tasks = lock(&self.tasks);
        match tasks.processes.get_mut(&process) {
            Some(found) => found.belongings.push(thing),
            None => {
                drop(tasks);
                drop(thing);
            }
        }
    }

    /// Ends a process: all its tasks are dropped where they stand.
    pub(crate) fn kill(&self, process: ProcessId) {
        let dropped: (Vec<Option<TaskFuture>>, _) = {
            let mut tasks = lock(&self.tasks);
            let Some(dead) = tasks.processes.remove(&process) else { return };
            (dead.tasks.into_iter().map(|id| tasks.all.remove(id).future).collect(), dead.belongings)
        };
        // Outside the lock: futures cancel timers and close connections when they are dropped.
        drop(dropped);
    }

    /// Stops or resumes polling the tasks of a process. Its timers come late, as on a suspended machine.
    pub(crate) fn freeze(&self, process: ProcessId, frozen: bool) {
        let mut tasks = lock(&self.tasks);
        let Some(found) = tasks.processes.get_mut(&process) else { return };
        found.frozen = frozen;
        if !frozen {
            let parked = std::mem::take(&mut found.parked);
            let woken: Vec<_> = parked.into_iter().filter_map(|id| tasks.all.get(id)).map(|t| t.wake.clone()).collect();
            drop(tasks);
            woken.into_iter().for_each(Wake::wake);
        }
    }

    /// The process whose task is being polled.
    pub(crate) fn current(&self) -> ProcessId {
        *lock(&self.current)
    }

    /// Does the process exist?
    pub(crate) fn is_alive(&self, process: ProcessId) -> bool {
        lock(&self.tasks).processes.contains_key(&process)
    }

    /// Ends at `deadline`, and not before another turn of the executor.
    pub(crate) fn sleep_until(self: &Arc<Self>, deadline: SimTime) -> Sleep {
        Sleep { kernel: self.clone(), deadline, timer: None, slept: false }
    }

    /// Calls `target` at `at`.
    pub(crate) fn fire_at(&self, at: SimTime, target: Arc<dyn Fire>, token: u64) {
        lock(&self.timers).set(at, Due::Fire(target, token));
    }

    /// Counts a step of whoever runs. One who takes too many while time stands still is torn out of its loop.
    pub(crate) fn step(&self) {
        let exhausted = count(&self.steps) > STEPS_PER_INSTANT_MAX || count(&self.steps_all) > STEPS_MAX;
        // What is dropped on the way out of the loop may count steps too.
        if exhausted && !thread::panicking() {
            panic::resume_unwind(Box::new(StepsExhausted));
        }
    }

    /// Ends the world after the present step.
    pub(crate) fn halt(&self, why: Halt) {
        lock(&self.halt).get_or_insert(why);
    }

    /// Runs until `end` or until something stops the world.
    pub(crate) fn run_until(&self, end: SimTime, engine: &Engine) -> Halt {
        loop {
            while let Some(turn) = self.ready.take() {
                if let Some(halt) = self.poll(turn).or_else(|| lock(&self.halt).clone()) {
                    return halt;
                }
            }
            let Some(next) = lock(&self.timers).next_at() else { return Halt::Idle };
            let now = self.now();
            let at = next.min(end).max(now);
            if at > now {
                engine.advance(at.since(now));
                self.now.store(at.as_nanos(), Ordering::Relaxed);
                self.steps.store(0, Ordering::Relaxed);
            }
            if next > end {
                return Halt::End;
            }
            loop {
                let due = lock(&self.timers).take_due(at);
                match due {
                    Some(Due::Wake(waker)) => waker.wake(),
                    Some(Due::Fire(target, token)) => target.fire(token),
                    None => break,
                }
            }
        }
    }

    /// Drops everything that is left, so that nothing outlives the world. What panics meanwhile is of no interest: the
    /// world has ended already.
    pub(crate) fn tear_down(&self) {
        loop {
            let Some(process) = lock(&self.tasks).processes.keys().next().copied() else { break };
            self.forgive_steps();
            let _ = panics::caught(|| self.kill(process));
        }
        let timers = std::mem::take(&mut *lock(&self.timers));
        drop(timers);
    }

    /// Lets whoever cleans up after an endless loop take steps again.
    fn forgive_steps(&self) {
        self.steps.store(0, Ordering::Relaxed);
        self.steps_all.store(0, Ordering::Relaxed);
    }

    fn poll(&self, turn: Turn) -> Option<Halt> {
        let (mut future, wake, process) = {
            let mut tasks = lock(&self.tasks);
            let Tasks { all, processes, .. } = &mut *tasks;
            // The task may have ended, and its place may be another task's by now.
            let task = all.get_mut(turn.id).filter(|task| task.wake.key == turn.key)?;
            task.wake.queued.store(false, Ordering::Relaxed);
            let home = processes.get_mut(&task.process)?;
            if home.frozen {
                home.parked.push(turn.id);
                return None;
            }
            (task.future.take()?, task.wake.clone(), task.process)
        };
        *lock(&self.current) = process;
        let waker = Waker::from(wake.clone());
        let polled = panics::caught(|| {
            self.step();
            future.as_mut().poll(&mut Context::from_waker(&waker))
        });
        let mut tasks = lock(&self.tasks);
        // The task may have killed its own process, and its place may be another task's by now.
        let task = tasks.all.get_mut(turn.id).filter(|task| Arc::ptr_eq(&task.wake, &wake));
        match (polled, task) {
            (Ok(Poll::Pending), Some(task)) => {
                task.future = Some(future);
                None
            }
            (Ok(_), task) => {
                let name = task.map(|task| task.name.clone());
                if name.is_some() {
                    tasks.all.remove(turn.id);
                    if let Some(home) = tasks.processes.get_mut(&process) {
                        home.tasks.remove(&turn.id);
                    }
                }
                drop(tasks);
                panics::caught(|| drop(future)).err().map(|thrown| halt_of(name, thrown))
            }
            (Err(thrown), task) => {
                let name = task.map(|task| task.name.clone());
                drop(tasks);
                self.forgive_steps();
                // What a panic left behind may panic again when it is dropped. The first one is the one to tell.
                let _ = panics::caught(|| drop(future));
                Some(halt_of(name, thrown))
            }
        }
    }
}

fn halt_of(task: Option<Arc<str>>, thrown: Thrown) -> Halt {
    let task = task.map_or_else(|| "a process that ended itself".to_owned(), |name| name.to_string());
    if thrown.payload.is::<StepsExhausted>() {
        return Halt::NoProgress { task };
    }
    Halt::Panic { task, message: thrown.to_string() }
}

/// Carried by the unwinding that tears an endless loop apart.
struct StepsExhausted;

/// A task's turn: its drawn place in the order of an instant, and the task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    order: u64,
    key: u64,
    id: usize,
}

/// Tasks that are ready at this instant.
#[derive(Default)]
struct Ready(Mutex<BinaryHeap<Reverse<Turn>>>);

impl Ready {
    fn take(&self) -> Option<Turn> {
        lock(&self.0).pop().map(|Reverse(turn)| turn)
    }
}

struct TaskWake {
    id: usize,
    key: u64,
    wakes: AtomicU64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let wakes = count(&self.wakes);
            let turn = Turn { order: mix(self.key, wakes), key: self.key, id: self.id };
            lock(&self.ready.0).push(Reverse(turn));
        }
    }
}

/// Adds one, and returns what was there before. A world runs on one thread, so it needs no locked instruction.
fn count(counter: &AtomicU64) -> u64 {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before + 1, Ordering::Relaxed);
    before
}

/// The finalizer of splitmix64 over a key and a counter.
fn mix(key: u64, count: u64) -> u64 {
    let mut mixed = key ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Ends at an instant of true time.
pub(crate) struct Sleep {
    kernel: Arc<Kernel>,
    deadline: SimTime,
    timer: Option<TimerKey>,
    slept: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.slept && this.kernel.now() >= this.deadline {
            return Poll::Ready(());
        }
        this.kernel.step();
        this.slept = true;
        let mut timers = lock(&this.kernel.timers);
        match this.timer.and_then(|key| timers.get_mut(key)) {
            Some(Due::Wake(waker)) => waker.clone_from(cx.waker()),
            _ => this.timer = Some(timers.set(this.deadline, Due::Wake(cx.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            lock(&self.kernel.timers).cancel(key);
        }
    }
}
