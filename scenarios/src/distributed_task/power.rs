//! Machines that are switched on one after another.

use squall_sim::{Node, SimTime, World};

/// Lets a machine boot then, in milliseconds of true time. It must not have started anything.
pub fn switch_on(world: &World, node: &Node, at_ms: u64) {
    if at_ms > 0 {
        node.crash();
        let (booting, waiting) = (node.clone(), world.clone());
        world.spawn("power", async move {
            waiting.sleep_until(SimTime::from_millis(at_ms)).await;
            booting.boot();
        });
    }
}
