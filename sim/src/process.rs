//! Processes of a node, and the worker processes that they start.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use squall_protocol::facts::WorkerId;
use squall_protocol::supervise::Exit;
use squall_protocol::workers::{Parent, WorkerError};
use squall_protocol::{Clock, Disk, Fact, Http, Ledger, Random, Shutdown, Worker, Workers};

use crate::http::client;
use crate::kernel::ProcessId;
use crate::mutex::lock;
use crate::net::Listener;
use crate::node::Node;
use crate::trace::What;

/// A process of a node: what the code under test is given. Handles are cheap to clone and mean the same one.
#[derive(Clone)]
pub struct Process {
    node: Node,
    id: ProcessId,
    name: Arc<str>,
    incarnation: u64,
    shutdown: Shutdown,
    http: Http,
}

impl Process {
    pub(crate) fn new(node: Node, id: ProcessId, name: String, incarnation: u64) -> (Self, oneshot::Sender<()>) {
        let (ask, asked) = oneshot::channel();
        let shutdown = Shutdown::when(async move {
            if asked.await.is_err() {
                futures_util::future::pending::<()>().await;
            }
        });
        let http = client::http(&node, id);
        let process = Self { node, id, name: name.into(), incarnation, shutdown, http };
        process.tell(|process| What::ProcessStarted { process });
        (process, ask)
    }

    /// The machine that it runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its name, with the machine's before it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many processes its machine had started when it was, itself included: what a process id tells on a real one.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Its name as one that executes jobs.
    pub fn as_worker(&self) -> WorkerId {
        format!("{}#{}", self.name, self.incarnation).into()
    }

    /// The machine's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.node.clock()
    }

    /// An HTTP client with its own pool of connections, which ends with the process.
    pub fn http(&self) -> Http {
        self.http.clone()
    }

    /// The machine's disk.
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.node.disk()
    }

    /// A random generator of this very process.
    pub fn random(&self) -> Random {
        self.node.random(&format!("{}#{}", self.name, self.incarnation))
    }

    /// The journal.
    pub fn ledger(&self) -> Arc<dyn Ledger> {
        self.node.ledger()
    }

    /// The request to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs a task that ends with the process at the latest.
    pub fn spawn(&self, name: &str, future: impl Future<Output = ()> + Send + 'static) {
        self.node.world().inner.kernel.spawn(self.id, name, future);
    }

    /// Listens on a port of the machine until the listener is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`].
    pub fn listen(&self, port: u16) -> io::Result<Listener> {
        self.node.listen(port)
    }

    /// Ends the process where it stands. The machine closes its connections.
    ///
    /// Returns whether it was still there.
    pub fn kill(&self) -> bool {
        let kernel = &self.node.world().inner.kernel;
        if !kernel.is_alive(self.id) {
            return false;
        }
        self.node.process_ended(self.id);
        self.tell(|process| What::ProcessEnded { process, how: "ended".to_owned() });
        kernel.kill(self.id);
        true
    }

    /// Does it still exist?
    pub fn is_alive(&self) -> bool {
        self.node.world().inner.kernel.is_alive(self.id)
    }

    /// Starts worker processes on the same machine, each of which runs `main` and outlives this process. How each ended is
    /// in the journal.
    pub fn workers<F>(&self, main: impl Fn(Process, Box<dyn Parent>) -> F + Send + Sync + 'static) -> Arc<dyn Workers>
    where
        F: Future<Output = i32> + Send + 'static,
    {
        let main = move |process, parent| -> BoxFuture<'static, i32> { main(process, parent).boxed() };
        Arc::new(NodeWorkers { node: self.node.clone(), main: Arc::new(main) })
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.id
    }

    fn tell(&self, what: impl FnOnce(String) -> What) {
        let (world, name) = (self.node.world(), self.name.to_string());
        world.inner.trace.add(world.now(), self.node.id(), &[7, self.incarnation], || what(name));
    }
}

type WorkerMain = dyn Fn(Process, Box<dyn Parent>) -> BoxFuture<'static, i32> + Send + Sync;

struct NodeWorkers {
    node: Node,
    main: Arc<WorkerMain>,
}

impl Workers for NodeWorkers {
    fn start(&self) -> BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>> {
        let (process, _) = self.node.new_process("worker");
        let pipe = Arc::new(Pipe::default());
        let (tell, told) = oneshot::channel();
        let running = (self.main)(process.clone(), Box::new(PipeEnd(pipe.clone())));
        let (own, end) = (process.clone(), End::of(&process));
        process.spawn("worker", async move {
            let code = running.await;
            end.exited(code);
            // The parent may be gone; nobody else wants to know.
            let _ = tell.send(code);
            own.kill();
        });
        let ended = async move { told.await.map_or(Exit::Killed, Exit::Code) }.boxed().shared();
        let worker: Box<dyn Worker> = Box::new(ProcessWorker { process, pipe, ended });
        async move { Ok(worker) }.boxed()
    }
}

/// The end of a worker process, which the machine tells the journal. It is dropped with a process that was killed, after
/// all that this process did.
struct End {
    ledger: Arc<dyn Ledger>,
    worker: WorkerId,
    code: Option<i32>,
}

impl End {
    fn of(process: &Process) -> Self {
        Self { ledger: process.ledger(), worker: process.as_worker(), code: None }
    }

    fn exited(mut self, code: i32) {
        self.code = Some(code);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.ledger.record(Fact::WorkerExited { worker: self.worker.clone(), code: self.code });
    }
}

struct ProcessWorker {
    process: Process,
    pipe: Arc<Pipe>,
    ended: Shared<BoxFuture<'static, Exit>>,
}

impl Worker for ProcessWorker {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), WorkerError>> {
        async move {
            if !self.process.is_alive() {
                return Err(WorkerError::BrokenPipe);
            }
            let (taken, when_taken) = oneshot::channel();
            if !self.pipe.push(message, taken) {
                return Err(WorkerError::BrokenPipe);
            }
            when_taken.await.map_err(|_| WorkerError::BrokenPipe)
        }
        .boxed()
    }

    fn ended(&mut self) -> BoxFuture<'_, Exit> {
        self.ended.clone().boxed()
    }

    fn kill(&mut self) {
        self.process.kill();
    }
}

impl Drop for ProcessWorker {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

/// A pipe from a process to its worker.
#[derive(Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: event_listener::Event,
}

#[derive(Default)]
struct PipeState {
    waiting: VecDeque<(Bytes, oneshot::Sender<()>)>,
    /// The parent sends nothing more.
    closed: bool,
    /// The worker takes nothing more.
    broken: bool,
}

impl Pipe {
    /// Puts a message in, unless nobody will take it.
    fn push(&self, message: Bytes, taken: oneshot::Sender<()>) -> bool {
        let mut state = lock(&self.state);
        if state.broken {
            return false;
        }
        state.waiting.push_back((message, taken));
        drop(state);
        self.changed.notify(usize::MAX);
        true
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify(usize::MAX);
    }
}

/// The worker's end; when the worker is gone, so is every message it did not take.
struct PipeEnd(Arc<Pipe>);

impl Parent for PipeEnd {
    fn receive(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        async move {
            loop {
                let changed = self.0.changed.listen();
                {
                    let mut state = lock(&self.0.state);
                    if let Some((message, taken)) = state.waiting.pop_front() {
                        // The sender may have stopped waiting; the message is taken all the same.
                        let _ = taken.send(());
                        return Some(message);
                    }
                    if state.closed {
                        return None;
                    }
                }
                changed.await;
            }
        }
        .boxed()
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.broken = true;
        state.waiting.clear();
    }
}
