//! The fronts of a service: machines that all serve the same store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use squall_sim::fault::{Phase, SystemFault};
use squall_sim::{Node, Process, World};

/// A fault of these systems: a front of the service is started anew, as for a new version. All its connections are reset
/// at once, and it refuses new ones while the fault lasts.
pub const FRONT_RESTARTS: &str = "front-restarts";

/// The port of every front.
const PORT: u16 = 80;

/// What serves each front, by host name.
struct Fronts {
    fronts: BTreeMap<String, Mutex<Front>>,
    router: Box<dyn Fn() -> Router + Send + Sync>,
}

struct Front {
    node: Node,
    serving: Option<Process>,
    /// Faults that keep it down.
    restarts: u32,
}

/// Serves on every front, and carries out its restarts.
pub fn serve(world: &World, nodes: &[Node], router: impl Fn() -> Router + Send + Sync + 'static) {
    let front = |node: &Node| Mutex::new(Front { node: node.clone(), serving: None, restarts: 0 });
    let fronts = nodes.iter().map(|node| (node.name().to_string(), front(node))).collect();
    let fronts = Arc::new(Fronts { fronts, router: Box::new(router) });
    fronts.fronts.values().for_each(|front| lock(front).serve(&fronts.router));
    let effects = world.effects().clone();
    world.on_system_fault(FRONT_RESTARTS, move |fault| {
        if fronts.restart(&fault) {
            effects.count(fault.id);
        }
    });
}

impl Fronts {
    /// Restarts a front. Returns whether anybody served it when the fault began.
    fn restart(&self, fault: &SystemFault<'_>) -> bool {
        let front = fault.target.node.as_ref().and_then(|node| self.fronts.get(node.as_str()));
        let Some(mut front) = front.map(lock) else { return false };
        match fault.phase {
            Phase::Begins => {
                front.restarts += 1;
                front.serving.take().is_some_and(|serving| serving.kill())
            }
            Phase::Ends => {
                front.restarts -= 1;
                front.serve(&self.router);
                false
            }
        }
    }
}

impl Front {
    fn serve(&mut self, router: &dyn Fn() -> Router) {
        if self.restarts > 0 || self.serving.is_some() {
            return;
        }
        let router = router();
        self.serving = Some(self.node.start("http", |process| async move {
            squall_sim::http::serve(process, PORT, router).await.expect("nothing else listens there");
        }));
    }
}

fn lock(front: &Mutex<Front>) -> MutexGuard<'_, Front> {
    front.lock().unwrap_or_else(PoisonError::into_inner)
}
