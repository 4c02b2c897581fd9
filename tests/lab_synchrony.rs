//! The synchrony index tells policies that keep a fleet in step from those that part it.

use squall::lab::measure;
use squall::lab::triggers::Trigger;
use squall_protocol::retry::named;

/// The index after an outage of five minutes that began when all agents were in step.
fn synchrony(policy: &str, agents: u32) -> f64 {
    let outage = Trigger::plain().swap_remove(0);
    let seen = Trigger { agents, ..outage }.observe(&named(policy).expect("a policy"));
    let index = measure::named("synchrony").expect("a measure").of(&seen);
    println!("{policy}, {agents} agents: {index:.2}");
    index
}

#[test]
fn without_jitter_a_fleet_stays_in_step() {
    // Fewer agents than a hundred are parted by the server, which admits them one after another.
    for agents in [100, 1_000] {
        for policy in ["fixed", "exponential"] {
            let index = synchrony(policy, agents);
            assert!(index > 0.8, "{policy}, {agents} agents: {index}");
        }
    }
}

#[test]
fn full_jitter_parts_it() {
    for agents in [10, 100, 1_000] {
        let index = synchrony("full-jitter", agents);
        assert!(index < 0.1, "{agents} agents: {index}");
    }
}
