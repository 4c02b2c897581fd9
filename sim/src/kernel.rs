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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use slab::Slab;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::Engine;
use crate::one_thread::OneThread;
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

/// What timers set off that belong to no task.
pub(crate) trait Fire: Send + Sync {
    /// A timer is due.
    fn fire(&self, token: Token);
}

/// Tells whoever timers set off what is due: words of its own choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) what: u32,
    pub(crate) id: u64,
}

enum Due {
    Wake(Waker),
    Fire(Token),
}

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    /// `None` while it is being polled.
    running: Option<Running>,
    wake: Arc<TaskWake>,
    process: ProcessId,
    /// As its process is: whoever polls a task need not look at that.
    frozen: bool,
    name: Arc<str>,
}

/// What a task is polled with.
struct Running {
    future: TaskFuture,
    waker: Waker,
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
    /// By their ids; one that has ended leaves its place empty.
    processes: Vec<Option<Box<Process>>>,
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
    timers: OneThread<Timers<Due>>,
    tasks: OneThread<Tasks>,
    ready: Arc<Ready>,
    /// The process whose task is being polled.
    current: AtomicU32,
    halt: OneThread<Option<Halt>>,
    target: OnceLock<Weak<dyn Fire>>,
}

impl Tasks {
    /// A task's name, shared with the others of that name, and how many there have been with it.
    fn next_of(&mut self, name: &str) -> (Arc<str>, u64) {
        let name = self.named.get_key_value(name).map_or_else(|| name.into(), |(known, _)| known.clone());
        let count = self.named.entry(name.clone()).or_default();
        *count += 1;
        (name, *count)
    }

    fn process(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.processes.get_mut(id.0 as usize)?.as_deref_mut()
    }
}

impl Kernel {
    pub(crate) fn new(order_seed: u64) -> Arc<Self> {
        let kernel = Arc::new(Self {
            now: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            steps_all: AtomicU64::new(0),
            order_seed,
            timers: OneThread::default(),
            tasks: OneThread::default(),
            ready: Arc::default(),
            current: AtomicU32::new(ProcessId::WORLD.0),
            halt: OneThread::default(),
            target: OnceLock::new(),
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
        let processes = &mut self.tasks.borrow_mut().processes;
        let id = u32::try_from(processes.len()).expect("fewer than four thousand million processes");
        processes.push(Some(Box::default()));
        ProcessId(id)
    }

    /// Runs `future` as a task of `process`; it is dropped at once if the process is gone.
    pub(crate) fn spawn(&self, process: ProcessId, name: &str, future: impl Future<Output = ()> + Send + 'static) {
        let future: TaskFuture = Box::pin(future);
        let wake = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(frozen) = tasks.process(process).map(|home| home.frozen) else {
                drop(tasks);
                return drop(future);
            };
            let (name, ordinal) = tasks.next_of(name);
            let key = xxh3_64_with_seed(name.as_bytes(), self.order_seed ^ ordinal);
            let entry = tasks.all.vacant_entry();
            let id = entry.key();
            let (wakes, queued) = (AtomicU64::new(0), AtomicBool::new(false));
            let wake = Arc::new(TaskWake { id, key, wakes, queued, ready: self.ready.clone() });
            let running = Running { future, waker: wake.clone().into() };
            entry.insert(Task { running: Some(running), wake: wake.clone(), process, frozen, name });
            tasks.process(process).expect("checked above").tasks.insert(id);
            wake
        };
        wake.wake();
    }

    /// Makes `thing` live as long as the process does; it is dropped at once if the process is gone.
    pub(crate) fn entrust(&self, process: ProcessId, thing: impl Any + Send) {
        let thing: Box<dyn Any + Send> = Box::new(thing);
        let mut tasks = self.tasks.borrow_mut();
        match tasks.process(process) {
            Some(found) => found.belongings.push(thing),
            None => {
                drop(tasks);
                drop(thing);
            }
        }
    }

    /// Ends a process: all its tasks are dropped where they stand.
    pub(crate) fn kill(&self, process: ProcessId) {
        let dropped: (Vec<Option<Running>>, _) = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(dead) = tasks.processes.get_mut(process.0 as usize).and_then(Option::take) else { return };
            (dead.tasks.into_iter().map(|id| tasks.all.remove(id).running).collect(), dead.belongings)
        };
        // Not while the tasks are borrowed: futures cancel timers and close connections when they are dropped.
        drop(dropped);
    }

    /// Stops or resumes polling the tasks of a process. Its timers come late, as on a suspended machine.
    pub(crate) fn freeze(&self, process: ProcessId, frozen: bool) {
        let mut tasks = self.tasks.borrow_mut();
        let Tasks { all, processes, .. } = &mut *tasks;
        let Some(found) = processes.get_mut(process.0 as usize).and_then(Option::as_mut) else { return };
        found.frozen = frozen;
        for id in &found.tasks {
            all[*id].frozen = frozen;
        }
        if !frozen {
            let parked = std::mem::take(&mut found.parked);
            let woken: Vec<_> = parked.into_iter().filter_map(|id| all.get(id)).map(|t| t.wake.clone()).collect();
            drop(tasks);
            woken.into_iter().for_each(Wake::wake);
        }
    }

    /// The process whose task is being polled.
    pub(crate) fn current(&self) -> ProcessId {
        ProcessId(self.current.load(Ordering::Relaxed))
    }

    /// Does the process exist?
    pub(crate) fn is_alive(&self, process: ProcessId) -> bool {
        self.tasks.borrow_mut().process(process).is_some()
    }

    /// Ends at `deadline`, and not before another turn of the executor.
    pub(crate) fn sleep_until(self: &Arc<Self>, deadline: SimTime) -> Sleep {
        Sleep { kernel: self.clone(), deadline, timer: None, slept: false }
    }

    /// Says whom timers without a task set off.
    pub(crate) fn fires(&self, target: Weak<dyn Fire>) {
        self.target.set(target).expect("a kernel has one target");
    }

    /// Tells the target at `at`.
    pub(crate) fn fire_at(&self, at: SimTime, token: Token) {
        self.timers.borrow_mut().set(at, Due::Fire(token));
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
        self.halt.borrow_mut().get_or_insert(why);
    }

    /// Runs until `end` or until something stops the world.
    pub(crate) fn run_until(&self, end: SimTime, engine: &Engine) -> Halt {
        let target = self.target.get().and_then(Weak::upgrade);
        loop {
            while let Some(turn) = self.ready.take() {
                if let Some(halt) = self.poll(turn).or_else(|| self.halt.borrow_mut().clone()) {
                    return halt;
                }
            }
            let Some(next) = self.timers.borrow_mut().next_at() else { return Halt::Idle };
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
                let due = self.timers.borrow_mut().take_due(at);
                match (due, &target) {
                    (Some(Due::Wake(waker)), _) => waker.wake(),
                    (Some(Due::Fire(token)), Some(target)) => target.fire(token),
                    (Some(Due::Fire(_)), None) => {}
                    (None, _) => break,
                }
            }
        }
    }

    /// Drops everything that is left, so that nothing outlives the world. What panics meanwhile is of no interest: the
    /// world has ended already.
    pub(crate) fn tear_down(&self) {
        // What is dropped may start processes; they come last.
        let mut next = ProcessId::WORLD;
        while self.has_had(next) {
            self.forgive_steps();
            let _ = panics::caught(|| self.kill(next));
            next.0 += 1;
        }
        let timers = std::mem::take(&mut *self.timers.borrow_mut());
        drop(timers);
    }

    fn has_had(&self, process: ProcessId) -> bool {
        self.tasks.borrow_mut().processes.len() > process.0 as usize
    }

    /// Lets whoever cleans up after an endless loop take steps again.
    fn forgive_steps(&self) {
        self.steps.store(0, Ordering::Relaxed);
        self.steps_all.store(0, Ordering::Relaxed);
    }

    fn poll(&self, turn: Turn) -> Option<Halt> {
        let (mut running, process) = {
            let mut tasks = self.tasks.borrow_mut();
            let task = tasks.all.get_mut(turn.id).filter(|task| task.is(turn))?;
            task.wake.queued.store(false, Ordering::Relaxed);
            if task.frozen {
                let home = task.process;
                tasks.process(home)?.parked.push(turn.id);
                return None;
            }
            (task.running.take()?, task.process)
        };
        self.current.store(process.0, Ordering::Relaxed);
        let polled = panics::caught(|| {
            self.step();
            running.future.as_mut().poll(&mut Context::from_waker(&running.waker))
        });
        let mut tasks = self.tasks.borrow_mut();
        // The task may have killed its own process.
        let task = tasks.all.get_mut(turn.id).filter(|task| task.is(turn));
        match (polled, task) {
            (Ok(Poll::Pending), Some(task)) => {
                task.running = Some(running);
                None
            }
            (Ok(_), task) => {
                let name = task.map(|task| task.name.clone());
                if name.is_some() {
                    tasks.all.remove(turn.id);
                    if let Some(home) = tasks.process(process) {
                        home.tasks.remove(&turn.id);
                    }
                }
                drop(tasks);
                panics::caught(|| drop(running)).err().map(|thrown| halt_of(name, thrown))
            }
            (Err(thrown), task) => {
                let name = task.map(|task| task.name.clone());
                drop(tasks);
                self.forgive_steps();
                // What a panic left behind may panic again when it is dropped. The first one is the one to tell.
                let _ = panics::caught(|| drop(running));
                Some(halt_of(name, thrown))
            }
        }
    }
}

impl Task {
    /// Is it the task whose turn it is? That may have ended, and its place be another task's by now.
    fn is(&self, turn: Turn) -> bool {
        self.wake.key == turn.key
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
struct Ready(OneThread<BinaryHeap<Reverse<Turn>>>);

impl Ready {
    fn take(&self) -> Option<Turn> {
        self.0.borrow_mut().pop().map(|Reverse(turn)| turn)
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
            self.ready.0.borrow_mut().push(Reverse(turn));
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
        let mut timers = this.kernel.timers.borrow_mut();
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
            self.kernel.timers.borrow_mut().cancel(key);
        }
    }
}
