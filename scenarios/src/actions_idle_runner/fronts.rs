//! The fronts of the service: a machine each, over one store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use squall_protocol::actions::Choices;
use squall_protocol::actions::server::Server;
use squall_sim::fault::{Phase, SystemFault};
use squall_sim::{Node, Process, World};

use super::{FRONTS, Parameters};

/// The port of every front.
const PORT: u16 = 80;

/// What serves each front, by host name.
pub(super) struct Fronts(BTreeMap<&'static str, Mutex<Front>>);

struct Front {
    node: Node,
    server: Server,
    serving: Option<Process>,
    /// Faults that keep it down.
    restarts: u32,
}

impl Fronts {
    /// The store, and its fronts from when the service starts on.
    pub(super) fn start(world: &World, choices: &Choices, parameters: &Parameters) -> (Server, Self) {
        let nodes = FRONTS.map(|name| (name, world.node(name)));
        let store = &nodes[0].1;
        let server = Server::new(
            parameters.service.clone(),
            choices.policy(),
            store.clock(),
            store.ledger(),
            store.random("service"),
        );
        let housekeeping = server.clone();
        world.spawn("housekeeping", async move { match housekeeping.housekeeping().await {} });
        let front = |node| Front { node, server: server.clone(), serving: None, restarts: 0 };
        let fronts = Self(nodes.into_iter().map(|(name, node)| (name, Mutex::new(front(node)))).collect());
        fronts.0.values().for_each(|front| lock(front).serve());
        (server, fronts)
    }

    /// Restarts a front. Returns whether anybody served it when the fault began.
    pub(super) fn restart(&self, fault: &SystemFault<'_>) -> bool {
        let front = fault.target.node.as_ref().and_then(|node| self.0.get(node.as_str()));
        let Some(mut front) = front.map(lock) else { return false };
        match fault.phase {
            Phase::Begins => {
                front.restarts += 1;
                front.serving.take().is_some_and(|serving| serving.kill())
            }
            Phase::Ends => {
                front.restarts -= 1;
                front.serve();
                false
            }
        }
    }
}

impl Front {
    fn serve(&mut self) {
        if self.restarts > 0 || self.serving.is_some() {
            return;
        }
        let router = self.server.router();
        self.serving = Some(self.node.start("http", |process| async move {
            squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
        }));
    }
}

fn lock(front: &Mutex<Front>) -> MutexGuard<'_, Front> {
    front.lock().unwrap_or_else(PoisonError::into_inner)
}
