//! Services: processes that a supervisor starts, watches, stops and starts again.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_listener::Event;
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use squall_protocol::facts::Agent;
use squall_protocol::supervise::Exit;
use squall_protocol::{Fact, Restart, Supervise};

use crate::mutex::lock;
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    /// Somebody stopped it.
    Stopped,
    /// Its supervisor will not start it again.
    GivenUp,
}

struct Control {
    wanted: Wanted,
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
        let control = Control { wanted: Wanted::Yes, running: None };
        let state = State { control: Mutex::new(control), changed: Event::new() };
        let service = Service { node: self.clone(), name: name.into(), agent: agent.into(), state: Arc::new(state) };
        let main: Main = Box::new(move |process| main(process).boxed());
        let policy: Policy = Box::new(move || Box::new(policy()));
        self.world.register(&service);
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

    /// Is it to run whenever its machine does? Not after [`Service::stop`], nor after its supervisor gave up.
    pub fn is_wanted(&self) -> bool {
        lock(&self.state.control).wanted == Wanted::Yes
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
            control.wanted = Wanted::Stopped;
            control.running.as_mut().map(|(process, ask)| (process.clone(), ask.take()))
        };
        self.state.changed.notify(usize::MAX);
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
        lock(&self.state.control).wanted = Wanted::Yes;
        self.state.changed.notify(usize::MAX);
    }

    async fn supervise(self, mut policy: Policy, mut main: Main) {
        loop {
            self.until_startable().await;
            let (rules, boots) = (policy(), self.node.boots());
            self.supervise_boot(boots, rules, &mut main).await;
        }
    }

    /// Supervises with one set of rules, until the machine boots anew or somebody starts or stops the service by hand.
    async fn supervise_boot(&self, boots: u32, mut rules: Box<dyn Supervise>, main: &mut Main) {
        let (world, ledger) = (self.node.world().clone(), self.node.ledger());
        loop {
            let started = world.now();
            ledger.record(Fact::AgentUp { agent: self.agent.clone() });
            let (exit, stopped) = self.run(main).await;
            let code = if let Exit::Code(code) = exit { Some(code) } else { None };
            ledger.record(Fact::AgentDown { agent: self.agent.clone(), code });
            if self.has_changed(boots) || stopped {
                return;
            }
            match rules.ended(exit, world.now().since(started)) {
                Restart::After(pause) => {
                    let (paused, changed) = (pin!(world.sleep(pause)), pin!(self.until(|| self.has_changed(boots))));
                    future::select(paused, changed).await;
                }
                Restart::Never => {
                    ledger.record(Fact::AgentStopped { agent: self.agent.clone() });
                    lock(&self.state.control).wanted = Wanted::GivenUp;
                    self.until(|| self.node.boots() != boots || self.is(Wanted::Yes)).await;
                    let mut control = lock(&self.state.control);
                    // A boot revives what the supervisor gave up, but not what somebody stopped.
                    if control.wanted == Wanted::GivenUp {
                        control.wanted = Wanted::Yes;
                    }
                    return;
                }
            }
            self.until(|| self.has_changed(boots) || !self.node.is_frozen()).await;
            if self.has_changed(boots) {
                return;
            }
        }
    }

    /// Runs the process, and says how it ended and whether somebody had asked it to. A start that was asked for meanwhile
    /// waits for that end.
    async fn run(&self, main: &mut Main) -> (Exit, bool) {
        let (process, ask) = self.node.new_process(&self.name);
        let (tell, told) = oneshot::channel();
        let running = main(process.clone());
        process.spawn(&format!("{}/{}", self.node.name(), self.name), async move {
            // The supervisor waits for it for as long as the world runs.
            let _ = tell.send(running.await);
        });
        lock(&self.state.control).running = Some((process.clone(), Some(ask)));
        let exit = told.await.map_or(Exit::Killed, Exit::Code);
        let ran = lock(&self.state.control).running.take();
        process.kill();
        (exit, ran.is_some_and(|(_, ask)| ask.is_none()))
    }

    fn is(&self, wanted: Wanted) -> bool {
        lock(&self.state.control).wanted == wanted
    }

    /// Did the machine go down or boot, or was the service stopped?
    fn has_changed(&self, boots: u32) -> bool {
        self.node.boots() != boots || !self.node.is_up() || !self.is(Wanted::Yes)
    }

    async fn until_startable(&self) {
        self.until(|| self.node.is_up() && !self.node.is_frozen() && self.is(Wanted::Yes)).await;
    }

    /// Waits for something about the machine or the service to come true.
    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let (machine, service) = (self.node.state.changed.listen(), self.state.changed.listen());
            if holds() {
                return;
            }
            future::select(machine, service).await;
        }
    }
}
