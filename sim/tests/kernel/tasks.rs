//! Processes, their tasks, and how these end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use squall_sim::{Halt, Node, SimTime, World};

use crate::{END, Told, secs, take, tell, world};

#[test]
fn killing_a_process_drops_its_tasks_where_they_stand() {
    let (token, told) = (Arc::new(()), Told::default());
    let (held, telling) = (token.clone(), told.clone());
    world(|world| {
        let process = world.node("node").start("main", |process| async move {
            process.clock().sleep(secs(100)).await;
            tell(&telling, "slept");
            drop(held);
        });
        let (world, telling, token) = (world.clone(), told.clone(), Arc::downgrade(&token));
        world.clone().spawn("killer", async move {
            world.sleep(secs(10)).await;
            assert_eq!(token.strong_count(), 2);
            assert!(process.kill());
            assert_eq!(token.strong_count(), 1);
            assert!(!process.is_alive() && !process.kill());
            process.spawn("late", async move { tell(&telling, "spawned in a dead process") });
        });
    });
    assert_eq!(take(&told), [""; 0]);
}

#[test]
fn a_process_that_kills_itself_runs_to_its_next_wait_and_no_further() {
    let told = Told::default();
    let telling = told.clone();
    world(|world| {
        world.node("node").start("main", |process| async move {
            process.kill();
            tell(&telling, "still here");
            process.clock().sleep(Duration::ZERO).await;
            tell(&telling, "gone");
        });
    });
    assert_eq!(take(&told), ["still here"]);
}

#[test]
fn a_process_on_a_machine_that_is_down_never_runs() {
    let told = Told::default();
    let telling = told.clone();
    world(|world| {
        let node = world.node("node");
        node.crash();
        let process = node.start("main", |_| async move { tell(&telling, "ran") });
        assert!(!process.is_alive());
        node.boot();
    });
    assert_eq!(take(&told), [""; 0]);
}

/// When a sleep of ten seconds ends whose machine is suspended for a minute, four seconds into it.
fn sleep_ends(suspend: fn(&Node) -> usize) -> Vec<SimTime> {
    let told = Told::default();
    let telling = told.clone();
    world(|world| {
        let node = world.node("node");
        let seen = world.clone();
        node.start("main", |process| async move {
            process.clock().sleep(secs(10)).await;
            tell(&telling, seen.now());
        });
        let world = world.clone();
        world.clone().spawn("suspender", async move {
            world.sleep(secs(4)).await;
            assert_eq!(suspend(&node), 1);
            world.sleep(secs(60)).await;
            node.thaw();
        });
    });
    take(&told)
}

#[test]
fn a_timer_of_a_frozen_machine_is_late() {
    assert_eq!(sleep_ends(Node::freeze), [SimTime::from_secs(64)]);
}

#[test]
fn a_timer_of_a_machine_that_fell_asleep_has_not_noticed() {
    assert_eq!(sleep_ends(Node::fall_asleep), [SimTime::from_secs(70)]);
}

#[test]
fn a_process_that_starts_on_a_frozen_machine_runs_from_the_thaw_on() {
    let told = Told::default();
    let telling = told.clone();
    world(|world| {
        let node = world.node("node");
        node.freeze();
        let seen = world.clone();
        node.start("main", |_| async move { tell(&telling, seen.now()) });
        let world = world.clone();
        world.clone().spawn("thaw", async move {
            world.sleep(secs(3)).await;
            node.thaw();
        });
    });
    assert_eq!(take(&told), [SimTime::from_secs(3)]);
}

#[test]
fn a_sleep_of_zero_gives_every_other_task_a_turn() {
    let told = Told::default();
    world(|world| {
        let node = world.node("node");
        for name in ["a", "b"] {
            let telling = told.clone();
            node.start(name, |process| async move {
                for _ in 0..5 {
                    tell(&telling, name);
                    process.clock().sleep(Duration::ZERO).await;
                }
            });
        }
    });
    for turn in take(&told).chunks(2) {
        assert_ne!(turn[0], turn[1]);
    }
}

#[test]
fn a_dropped_sleep_leaves_nothing_to_wait_for() {
    let ended = world(|world| {
        world.node("node").start("main", |process| async move {
            for _ in 0..10_000 {
                select(process.clock().sleep(secs(3600)), process.clock().sleep(Duration::from_millis(1))).await;
            }
        });
    });
    assert_eq!((ended.halt, ended.at), (Halt::Idle, SimTime::from_secs(10)));
}

#[test]
fn a_world_ends_at_its_end_or_when_it_is_stopped() {
    let endless = |world: &World| {
        world.node("node").start("main", |process| async move {
            loop {
                process.clock().sleep(secs(7)).await;
            }
        });
    };
    let ended = world(endless);
    assert_eq!((ended.halt, ended.at), (Halt::End, END));
    let ended = world(|world| {
        endless(world);
        let world = world.clone();
        world.clone().spawn("stop", async move {
            world.sleep(secs(10)).await;
            world.stop();
        });
    });
    assert_eq!((ended.halt, ended.at), (Halt::End, SimTime::from_secs(10)));
}
