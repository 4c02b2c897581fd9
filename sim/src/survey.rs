//! A look at a world before anything happens in it: what there is for faults to act on.

use std::sync::{Arc, Mutex};

use crate::fault::Inhabitants;
use crate::mutex::lock;
use crate::time::SimTime;
use crate::trace::Keep;
use crate::world::{self, World};

/// What a world consists of at its very beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Machines on which something listens.
    pub(crate) servers: Vec<String>,
    /// All others, but the world itself.
    pub(crate) agents: Vec<String>,
    /// The services: machine's name and own name.
    pub(crate) services: Vec<(String, String)>,
}

/// Furnishes a world, lets every process begin, and looks around.
pub(crate) fn survey(seed: u64, furnish: impl FnOnce(&World)) -> Survey {
    let seen = Arc::new(Mutex::new(Survey::default()));
    world::run(seed, Keep::Digest, SimTime::from_nanos(1), |world| {
        furnish(world);
        let (seen, looked_at) = (seen.clone(), world.clone());
        world.spawn("survey", async move {
            looked_at.sleep_until(SimTime::from_nanos(1)).await;
            *lock(&seen) = look(&looked_at);
            looked_at.stop();
        });
    });
    std::mem::take(&mut lock(&seen))
}

fn look(world: &World) -> Survey {
    let listening = world.net().listening();
    let Inhabitants { nodes, services, .. } = world.inhabitants();
    let (servers, agents) =
        nodes.into_iter().partition(|node| world.find(node).is_some_and(|node| listening.contains(&node.id())));
    Survey { servers, agents, services: services.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use super::*;

    #[test]
    fn what_listens_is_a_server_and_everything_else_an_agent() {
        let seen = survey(7, |world| {
            world.server("queue", |_| Router::new());
            world.agent("worker-1", |process| async move {
                process.clock().sleep(std::time::Duration::MAX).await;
                0
            });
            world.node("printer");
        });
        assert_eq!(seen.servers, ["queue"]);
        assert_eq!(seen.agents, ["printer", "worker-1"]);
        assert_eq!(seen.services.len(), 2);
    }
}
