//! Faults that only these systems know: what the token service and the pool do to an agent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use squall_protocol::distributed_task::server::{Denial, Server};
use squall_protocol::effect::OnEffect;
use squall_sim::World;
use squall_sim::fault::{Phase, SystemFamily};

use super::fronts::FRONT_RESTARTS;

/// The token service does not find an agent's registration while it lasts.
pub const REGISTRATION_REFUSED: &str = "registration-refused";
/// Every token of an agent becomes invalid.
pub const TOKENS_REVOKED: &str = "tokens-revoked";

/// The pool denies an agent access while it lasts.
pub const ACCESS_DENIED: &str = "access-denied";
/// The pool does not know an agent for so many seconds.
pub const AGENT_UNKNOWN: &str = "agent-unknown";
/// The pool offers a busy agent up to so many jobs while it lasts, as if it were idle.
pub const JOB_OVERLOOKED: &str = "job-overlooked";

/// What is done to agents, and how much of it. A copy that lags behind catches up before an agent that asks five times,
/// a minute apart, has to believe it.
const TO_AGENTS: [(&str, RangeInclusive<i64>); 5] = [
    (REGISTRATION_REFUSED, 0..=0),
    (TOKENS_REVOKED, 0..=0),
    (ACCESS_DENIED, 0..=0),
    (AGENT_UNKNOWN, 1..=100),
    (JOB_OVERLOOKED, 1..=2),
];

/// What a reader is told about each of them.
pub const SUMMARIES: &[(&str, &str)] = &[
    (REGISTRATION_REFUSED, "The token service does not find an agent's registration."),
    (TOKENS_REVOKED, "Every token of an agent becomes invalid."),
    (ACCESS_DENIED, "The pool denies an agent access."),
    (AGENT_UNKNOWN, "The pool does not know an agent for as many seconds as the amount."),
    (JOB_OVERLOOKED, "The pool offers a busy agent as many jobs as the amount, as if it were idle."),
    (
        FRONT_RESTARTS,
        "A front of the service is started anew: its connections are reset, new ones are refused meanwhile.",
    ),
];

/// All of them, as plans may contain them.
pub fn swarm(agents: &[String], fronts: &[&str]) -> Vec<SystemFamily> {
    let fronts: Vec<String> = fronts.iter().map(ToString::to_string).collect();
    let to_agents = TO_AGENTS.map(|(name, amounts)| (name, agents.to_vec(), amounts));
    let all = to_agents.into_iter().chain([(FRONT_RESTARTS, fronts, 0..=0)]);
    all.map(|(name, nodes, amounts)| SystemFamily { name: name.to_owned(), nodes, amounts }).collect()
}

/// Carries out what is done to agents, on agents by their machines' names.
pub fn carry_out(world: &World, server: &Server, agents: BTreeMap<String, i64>) {
    let agents = Arc::new(agents);
    for (name, _) in TO_AGENTS {
        let (world_of, server, agents) = (world.clone(), server.clone(), agents.clone());
        world.on_system_fault(name, move |fault| {
            let agent = fault.target.node.as_ref().and_then(|node| agents.get(node));
            let (Some(agent), Phase::Begins) = (agent, fault.phase) else { return };
            let (effects, id) = (world_of.effects().clone(), fault.id);
            let on_effect = OnEffect::new(move || effects.count(id));
            // An agent that is not registered yet has nothing to be refused.
            let _ = match name {
                REGISTRATION_REFUSED => server.refuse_registration(*agent, fault.lasts, on_effect),
                TOKENS_REVOKED => server.revoke_tokens(*agent, &on_effect),
                ACCESS_DENIED => server.deny(*agent, Denial::AccessDenied, fault.lasts, on_effect),
                JOB_OVERLOOKED => {
                    let jobs = u32::try_from(fault.amount).unwrap_or(u32::MAX);
                    server.overlook_jobs(*agent, jobs, fault.lasts, on_effect)
                }
                _ => {
                    let lasting = Duration::from_secs(fault.amount.unsigned_abs());
                    server.deny(*agent, Denial::AgentUnknown, lasting, on_effect)
                }
            };
        });
    }
}
