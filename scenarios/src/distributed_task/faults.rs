//! Faults that only these systems know: what the token service and the pool do to an agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_protocol::distributed_task::server::Server;
use squall_sim::World;
use squall_sim::fault::{Phase, SystemFamily};

use super::fronts::FRONT_RESTARTS;

/// The token service does not find an agent's registration while it lasts.
pub const REGISTRATION_REFUSED: &str = "registration-refused";
/// Every token of an agent becomes invalid.
pub const TOKENS_REVOKED: &str = "tokens-revoked";

/// What is done to agents.
const TO_AGENTS: [&str; 2] = [REGISTRATION_REFUSED, TOKENS_REVOKED];

/// All of them, as plans may contain them.
pub fn swarm(agents: &[String], fronts: &[&str]) -> Vec<SystemFamily> {
    let fronts: Vec<String> = fronts.iter().map(ToString::to_string).collect();
    let to_agents = TO_AGENTS.map(|name| (name, agents.to_vec()));
    let all = to_agents.into_iter().chain([(FRONT_RESTARTS, fronts)]);
    all.map(|(name, nodes)| SystemFamily { name: name.to_owned(), nodes, amounts: 0..=0 }).collect()
}

/// Carries out what is done to agents, on agents by their machines' names.
pub fn carry_out(world: &World, server: &Server, agents: BTreeMap<String, i64>) {
    let agents = Arc::new(agents);
    for name in TO_AGENTS {
        let (world_of, server, agents) = (world.clone(), server.clone(), agents.clone());
        world.on_system_fault(name, move |fault| {
            let agent = fault.target.node.as_ref().and_then(|node| agents.get(node));
            let (Some(agent), Phase::Begins) = (agent, fault.phase) else { return };
            let done = match name {
                REGISTRATION_REFUSED => server.refuse_registration(*agent, fault.lasts),
                _ => server.revoke_tokens(*agent),
            };
            if done.is_ok() {
                world_of.effects().count(fault.id);
            }
        });
    }
}
