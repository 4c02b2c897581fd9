//! The clocks of nodes.

use squall_sim::clock::true_wall;
use squall_sim::{Halt, World};

use crate::{secs, world};

fn on_a_node<F: Future<Output = ()> + Send + 'static>(main: impl FnOnce(World, squall_sim::Node) -> F) {
    let ended = world(|world| {
        let node = world.node("node");
        world.spawn("main", main(world.clone(), node));
    });
    assert_eq!(ended.halt, Halt::Idle);
}

#[test]
fn a_clock_is_exact_until_somebody_disturbs_it() {
    on_a_node(|world, node| async move {
        world.sleep(secs(5)).await;
        assert_eq!(node.clock().wall(), true_wall(world.now()));
        assert_eq!(node.clock().mono().since_start(), secs(5));
    });
}

#[test]
fn a_step_moves_wall_time_and_leaves_monotonic_time_alone() {
    on_a_node(|world, node| async move {
        for step in [3_600_000_000_000, -7_200_000_000_000] {
            let (wall, mono) = (node.clock().wall(), node.clock().mono());
            node.node_clock().step_wall(step);
            assert_eq!((node.clock().wall() - wall).total(jiff::Unit::Nanosecond).unwrap(), step as f64);
            assert_eq!(node.clock().mono(), mono);
        }
        let before = world.now();
        node.sleep(secs(10)).await;
        assert_eq!(world.now().since(before), secs(10));
    });
}

#[test]
fn a_fast_clock_gains_and_its_sleeps_are_short() {
    on_a_node(|world, node| async move {
        node.node_clock().set_drift_ppm(250_000);
        node.sleep(secs(10)).await;
        assert_eq!(world.now().since_start(), secs(8));
        assert_eq!(node.clock().mono().since_start(), secs(10));
        assert_eq!(node.node_clock().wall_ahead_nanos(), 2_000_000_000);
        node.node_clock().set_drift_ppm(0);
        world.sleep(secs(100)).await;
        assert_eq!(node.node_clock().wall_ahead_nanos(), 2_000_000_000, "what was gained is not lost");
    });
}

#[test]
fn a_slow_clock_loses_and_its_sleeps_are_long() {
    on_a_node(|world, node| async move {
        node.node_clock().set_drift_ppm(-500_000);
        node.sleep(secs(10)).await;
        assert_eq!(world.now().since_start(), secs(20));
    });
}

#[test]
fn a_sleep_that_a_clock_slows_down_under_takes_longer() {
    on_a_node(|world, node| async move {
        let slowing = (world.clone(), node.clone());
        world.spawn("slow", async move {
            slowing.0.sleep(secs(5)).await;
            slowing.1.node_clock().set_drift_ppm(-500_000);
        });
        node.sleep(secs(10)).await;
        assert_eq!(world.now().since_start(), secs(15));
    });
}

#[test]
fn a_sleeping_machine_s_wall_time_goes_on_and_its_monotonic_time_does_not() {
    on_a_node(|world, node| async move {
        world.sleep(secs(1)).await;
        node.fall_asleep();
        world.sleep(secs(100)).await;
        assert_eq!(node.clock().mono().since_start(), secs(1));
        node.thaw();
        assert_eq!(node.clock().wall(), true_wall(world.now()));
        world.sleep(secs(1)).await;
        assert_eq!(node.clock().mono().since_start(), secs(2));
    });
}

#[test]
fn both_clocks_of_a_frozen_machine_go_on() {
    on_a_node(|world, node| async move {
        node.freeze();
        world.sleep(secs(100)).await;
        node.thaw();
        assert_eq!(node.clock().wall(), true_wall(world.now()));
        assert_eq!(node.clock().mono().since_start(), secs(100));
    });
}

#[test]
fn no_clock_runs_slower_than_half_or_faster_than_one_and_a_half() {
    on_a_node(|world, node| async move {
        node.node_clock().set_drift_ppm(-2_000_000);
        node.sleep(secs(10)).await;
        assert_eq!(world.now().since_start(), secs(20));
        node.node_clock().set_drift_ppm(2_000_000);
        node.sleep(secs(15)).await;
        assert_eq!(world.now().since_start(), secs(30));
    });
}
