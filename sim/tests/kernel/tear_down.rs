//! Nothing outlives a world.

use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use http::{Request, Version};
use squall_protocol::Workers;
use squall_protocol::facts::Fact;
use squall_protocol::http::empty;
use squall_protocol::supervise::Always;
use squall_sim::http::serve;
use squall_sim::net::Net;
use squall_sim::trace::Keep;
use squall_sim::{Halt, SimTime, World, run};
use tower::ServiceExt;

use crate::secs;

/// Everything that a world can hold, each with a token.
fn furnish(world: &World, token: &Arc<()>) {
    let server = world.node("server");
    let held = token.clone();
    let router = Router::new().route(
        "/",
        get(move || {
            let held = held.clone();
            async move {
                let _held = held;
                pending::<&'static str>().await
            }
        }),
    );
    server.start("main", |process| async move { serve(process, 80, router).await.unwrap() });
    let agent = world.node("agent");
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let held = token.clone();
        agent.start("client", move |process| async move {
            let _held = held;
            let request = Request::get("http://server/").version(version).body(empty()).unwrap();
            let _answer = process.http().oneshot(request).await;
        });
    }
    let held = token.clone();
    let parent = agent.start("parent", |process| {
        let in_worker = held.clone();
        let workers: Arc<dyn Workers> = process.workers(move |_, mut parent| {
            let held = in_worker.clone();
            async move {
                let _held = held;
                while parent.receive().await.is_some() {}
                0
            }
        });
        async move {
            let _held = held;
            let mut worker = workers.start().await.unwrap();
            worker.send("work".into()).await.unwrap();
            worker.ended().await;
        }
    });
    let held = (token.clone(), parent);
    world.spawn("holder of a handle", async move {
        let _held = held;
        pending::<()>().await;
    });
    let held = token.clone();
    agent.service(
        "service",
        "agent",
        || Always { delay: secs(1) },
        move |process| {
            let held = held.clone();
            async move {
                process.clock().sleep(secs(10)).await;
                drop(held);
                1
            }
        },
    );
}

fn leaves_nothing(expected: impl Fn(&Halt) -> bool, disturb: impl FnOnce(&World)) {
    let token = Arc::new(());
    let mut net: Option<std::sync::Weak<Net>> = None;
    let ended = run(1, Keep::Digest, SimTime::from_secs(100), |world| {
        furnish(world, &token);
        disturb(world);
        net = Some(Arc::downgrade(world.net()));
    });
    assert!(expected(&ended.halt), "{:?}", ended.halt);
    assert!(ended.journal.iter().any(|entry| matches!(entry.fact, Fact::AgentUp { .. })));
    assert_eq!(Arc::strong_count(&token), 1, "something still holds a token");
    assert_eq!(net.unwrap().strong_count(), 0, "something still holds the network");
}

#[test]
fn nothing_outlives_a_world_that_reached_its_end() {
    leaves_nothing(|halt| *halt == Halt::End, |_| {});
}

#[test]
fn nothing_outlives_a_world_with_crashed_and_frozen_machines() {
    leaves_nothing(
        |halt| *halt == Halt::End,
        |world| {
            let world = world.clone();
            world.clone().spawn("disturb", async move {
                world.sleep(secs(5)).await;
                world.find("server").unwrap().crash();
                world.find("agent").unwrap().freeze();
                world.sleep(secs(1000)).await;
            });
        },
    );
}

#[test]
fn nothing_outlives_a_world_that_panicked_or_made_no_progress() {
    leaves_nothing(
        |halt| matches!(halt, Halt::Panic { .. }),
        |world| {
            let world = world.clone();
            world.clone().spawn("panic", async move {
                let _held = world.node("held");
                world.sleep(secs(50)).await;
                panic!("on purpose");
            });
        },
    );
    leaves_nothing(
        |halt| matches!(halt, Halt::NoProgress { .. }),
        |world| {
            let (world, node) = (world.clone(), world.node("looper"));
            world.clone().spawn("loop", async move {
                world.sleep(secs(50)).await;
                loop {
                    node.clock().wall();
                }
            });
        },
    );
}
