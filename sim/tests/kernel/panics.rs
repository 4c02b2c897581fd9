//! Panics end a world and are told.

use std::future::pending;

use futures_util::FutureExt;
use squall_sim::{Halt, SimTime};

use crate::{secs, world};

struct PanicsInDrop;
impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("within a drop");
    }
}

#[test]
fn a_panic_ends_the_world_and_says_who_what_and_where() {
    let ended = world(|world| {
        world.node("node").start("careless", |process| async move {
            process.clock().sleep(secs(5)).await;
            panic!("no such {}", "thing");
        });
    });
    let Halt::Panic { task, message } = ended.halt else { panic!("{:?}", ended.halt) };
    assert_eq!(task, "careless");
    assert!(message.starts_with("no such thing (sim/tests/kernel/panics.rs:"), "{message}");
    assert_eq!(ended.at, SimTime::from_secs(5));
}

#[test]
fn a_panic_in_the_drop_of_a_task_that_has_ended_is_told() {
    let ended = world(|world| {
        world.node("node").start("careless", |_| {
            let guard = PanicsInDrop;
            // Kept by the closure of the future and not by its body: it is dropped after the end.
            std::future::ready(()).inspect(move |()| {
                let _ = &guard;
            })
        });
    });
    assert!(matches!(ended.halt, Halt::Panic { .. }), "{:?}", ended.halt);
}

#[test]
fn a_panic_while_the_world_is_torn_down_changes_nothing() {
    let ended = world(|world| {
        world.spawn("careless", async move {
            let _guard = PanicsInDrop;
            pending::<()>().await;
        });
    });
    assert_eq!(ended.halt, Halt::Idle);
}
