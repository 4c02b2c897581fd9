//! Services: processes that a supervisor starts, watches, stops and starts again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_listener::Event;
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use squall_protocol::facts::Agent;
use squall_protocol::supervise::Exit;
use squall_protocol::{Fact, Restart, Supervise};

use crate::kernel::lock;
use crate::node::Node;
use crate::process::Process;

/// A process under a supervisor. Handles are cheap to clone and mean the same one.
#[derive(Clone)]
pub struct Service {
    node: Node,
    name: Arc<str>,
    agent: Agent,
    state: Arc<State>,
}

struct State {
    control: Mutex<Control>,
    changed: Event,
}

struct Control {
    wanted: bool,
    running: Option<(Process, Option<oneshot::Sender<()>>)>,
}

type Main = Box<dyn FnMut(Process) -> BoxFuture<'static, i32> + Send>;
type Policy = Box<dyn FnMut() -> Box<dyn Supervise> + Send>;

impl Node {
    /// Runs `main` as a service of this machine. It starts now, again as the policy says when it ends, and with a fresh
    /// policy whenever the machine boots. Its start and end are facts about `agent`.
    pub fn service<S, F>(
        &self,
        name: &str,
        agent: impl Into<Agent>,
        mut policy: impl FnMut() -> S + Send + 'static,
        mut main: impl FnMut(Process) -> F + Send + 'static,
    ) -> Service
    where
        S: Supervise,
        F: Future<Output = i32> + Send + 'static,
    {
        let control = Control { wanted: true, running: None };
        let state = State { control: Mutex::new(control), changed: Event::new() };
        let service = Service { node: self.clone(), name: name.into(), agent: agent.into(), state: Arc::new(state) };
        let main: Main = Box::new(move |process| main(process).boxed());
        let policy: Policy = Box::new(move || Box::new(policy()));
        self.world.spawn(&format!("supervisor of {}/{name}", self.name()), service.clone().supervise(policy, main));
        service
    }
}

impl Service {
    /// The machine that it runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The service's name, unique on its machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is its process running?
    pub fn is_running(&self) -> bool {
        lock(&self.state.control).running.is_some()
    }

    /// Kills the process, as SIGKILL does. The supervisor notices.
    ///
    /// Returns whether there was one.
    pub fn kill(&self) -> bool {
        let running = lock(&self.state.control).running.as_ref().map(|(process, _)| process.clone());
        running.is_some_and(|process| process.kill())
    }

    /// Asks the process to stop, kills it if it has not done so after `grace`, and does not start it again before
    /// [`Service::start`].
    ///
    /// Returns whether it was running.
    pub fn stop(&self, grace: Duration) -> bool {
        let asked = {
            let mut control = lock(&self.state.control);
            control.wanted = false;
            control.running.as_mut().map(|(process, ask)| (process.clone(), ask.take()))
        };
        self.node.ledger().record(Fact::AgentStopRequested { agent: self.agent.clone() });
        let Some((process, ask)) = asked else { return false };
        if let Some(ask) = ask {
            // Nobody may be listening; the kill below is for those.
            let _ = ask.send(());
        }
        let world = self.node.world().clone();
        let deadline = world.now() + grace;
        self.node.world().spawn("grace period", async move {
            world.sleep_until(deadline).await;
            process.kill();
        });
        true
    }

    /// Starts the service again after [`Service::stop`] or after its supervisor gave up.
    pub fn start(&self) {
        lock(&self.state.control).wanted = true;
        self.state.changed.notify(usize::MAX);
        self.node.state.changed.notify(usize::MAX);
    }

    async fn supervise(self, mut policy: Policy, mut main: Main) {
        let (world, ledger) = (self.node.world().clone(), self.node.ledger());
        loop {
            self.until_startable().await;
            let (mut rules, boots) = (policy(), self.node.boots());
            loop {
                let started = world.now();
                ledger.record(Fact::AgentUp { agent: self.agent.clone() });
                let exit = self.run(&mut main).await;
                let code = if let Exit::Code(code) = exit { Some(code) } else { None };
                ledger.record(Fact::AgentDown { agent: self.agent.clone(), code });
                if self.node.boots() != boots || !self.may_start() {
                    break;
                }
                match rules.ended(exit, world.now().since(started)) {
                    Restart::After(pause) => world.sleep(pause).await,
                    Restart::Never => {
                        ledger.record(Fact::AgentStopped { agent: self.agent.clone() });
                        self.until_revived(boots).await;
                        break;
                    }
                }
                if self.node.boots() != boots || !self.may_start() {
                    break;
                }
            }
        }
    }

    async fn run(&self, main: &mut Main) -> Exit {
        let (process, ask) = self.node.new_process(&self.name);
        let (tell, told) = oneshot::channel();
        let running = main(process.clone());
        process.spawn(&format!("{}/{}", self.node.name(), self.name), async move {
            // The supervisor waits for it for as long as the world runs.
            let _ = tell.send(running.await);
        });
        lock(&self.state.control).running = Some((process.clone(), Some(ask)));
        let exit = told.await.map_or(Exit::Killed, Exit::Code);
        lock(&self.state.control).running = None;
        process.kill();
        exit
    }

    fn may_start(&self) -> bool {
        self.node.is_up() && lock(&self.state.control).wanted
    }

    async fn until_startable(&self) {
        loop {
            let changed = self.node.state.changed.listen();
            if self.may_start() && !self.node.is_frozen() {
                return;
            }
            changed.await;
        }
    }

    /// Until the machine has booted anew, or somebody starts the service by hand.
    async fn until_revived(&self, boots: u32) {
        lock(&self.state.control).wanted = false;
        loop {
            let (booted, started) = (self.node.state.changed.listen(), self.state.changed.listen());
            if self.node.boots() != boots {
                lock(&self.state.control).wanted = true;
            }
            if lock(&self.state.control).wanted {
                return;
            }
            futures_util::future::select(booted, started).await;
        }
    }
}
