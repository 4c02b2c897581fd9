//! The order of one instant.

use axum::Router;
use axum::routing::get;
use http::Request;
use squall_protocol::http::empty;
use squall_sim::http::serve;
use squall_sim::run;
use squall_sim::trace::Keep;
use tower::ServiceExt;

use crate::{END, Told, secs, take, tell};

/// In which order tasks of these names run, first as they start and then as one timer instant wakes them all.
fn order(seed: u64, names: &[&'static str]) -> Vec<&'static str> {
    let told = Told::default();
    run(seed, Keep::Digest, END, |world| {
        for name in names.iter().copied() {
            let (telling, world) = (told.clone(), world.clone());
            world.clone().spawn(name, async move {
                tell(&telling, name);
                for _ in 0..3 {
                    world.sleep(secs(1)).await;
                    tell(&telling, name);
                }
            });
        }
    });
    take(&told)
}

#[test]
fn the_order_of_one_instant_is_drawn_from_the_seed() {
    let names = ["a", "b", "c", "d", "e", "f"];
    assert_eq!(order(1, &names), order(1, &names));
    let firsts: std::collections::BTreeSet<_> = (0..50).map(|seed| order(seed, &names)[0]).collect();
    assert_eq!(firsts.len(), names.len(), "each of them is first in some world");
    let rounds: std::collections::BTreeSet<_> = order(1, &names).chunks(6).map(<[_]>::to_vec).collect();
    assert!(rounds.len() > 1, "each instant has an order of its own");
}

#[test]
fn one_more_task_never_changes_the_order_of_the_others() {
    for seed in 0..20 {
        let mut with = order(seed, &["x", "a", "b", "y", "c", "d"]);
        with.retain(|name| !["x", "y"].contains(name));
        assert_eq!(with, order(seed, &["a", "b", "c", "d"]));
    }
}

#[test]
fn equal_seeds_have_equal_digests_and_others_have_others() {
    let digest = |seed| {
        run(seed, Keep::Digest, END, |world| {
            let server = world.node("server");
            let router = Router::new().route("/", get(|| async { "hello" }));
            server.start("main", |process| async move { serve(process, 80, router).await.unwrap() });
            world.node("client").start("main", |process| async move {
                let request = Request::get("http://server/").body(empty()).unwrap();
                process.http().oneshot(request).await.unwrap();
            });
        })
        .digest
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}
