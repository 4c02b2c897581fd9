//! An agent that was written for plain tokio, brought into the simulation with the fewest changes.
//!
//! `before.rs` is the agent as it was: `tokio::time`, `tokio::spawn`, hyper-util's client, `rand::random`. `after.rs` is
//! the same agent after these five changes, and they are all of them:
//!
//! 1. it is handed `Arc<dyn Clock>`, `Http` and `Random` and keeps them, instead of reaching for the runtime's;
//! 2. `tokio::time::sleep(d)` is `self.clock.sleep(d)`, and `tokio::time::timeout(d, f)` is `clock::timeout(..)`;
//! 3. the client's `request(r)` is `self.http.clone().oneshot(r)`, and a body is read by `http::read(body, limit)`;
//! 4. the task that was spawned is the other arm of a `select`;
//! 5. `rand::random()` draws from the generator that was handed in.
//!
//! Channels, mutexes and `select!` of tokio need no runtime and stay as they are. The agent of `after.rs` still runs on
//! tokio with real sockets: the same test drives both there.

mod after;
mod before;

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::post;
use rand::SeedableRng;
use squall::prelude::*;
use squall::protocol::live::{self, LiveClock};
use tokio::net::TcpListener;

/// Counts heartbeats, and greets.
fn router(heartbeats: Arc<AtomicU64>) -> Router {
    let beat = move || {
        heartbeats.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    Router::new().route("/heartbeat", post(beat)).route("/work", post(async || "sweep the floor"))
}

#[tokio::test]
async fn both_run_on_tokio_with_real_sockets() {
    let heartbeats = Arc::<AtomicU64>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let serving = live::serve(listener, router(heartbeats.clone()), Shutdown::never());
    let pace = Duration::from_millis(20);
    let random: squall::protocol::Random = Box::new(rand_chacha::ChaCha8Rng::seed_from_u64(1));
    let after = after::Agent::new(Arc::new(LiveClock::start()), live::http(), random, &url, pace);
    let working = async {
        assert_eq!(before::Agent::new(&url, pace).work_once().await.expect("it is answered"), "sweep the floor");
        assert_eq!(after.work_once().await.expect("it is answered"), "sweep the floor");
    };
    tokio::select! {
        _ = serving => unreachable!("it serves on"),
        () = working => {}
    }
    assert!(heartbeats.load(Ordering::Relaxed) >= 2, "each has a heart that beats");
}

#[test]
fn it_works_on_through_bad_times() {
    Check::new("plain tokio works on").seeds(30).run(|world| async move {
        let heartbeats = Arc::<AtomicU64>::default();
        let counted = heartbeats.clone();
        world.server("front", move |_| router(counted.clone()));
        world.agent("agent", |process| async move {
            let (clock, http, random) = (process.clock(), process.http(), process.random());
            let shutdown = process.shutdown();
            let agent = after::Agent::new(clock.clone(), http, random, "http://front", Duration::from_secs(10));
            let working = async {
                loop {
                    let _ = agent.work_once().await;
                    clock.sleep(Duration::from_secs(5)).await;
                }
            };
            tokio::select! {
                never = working => never,
                () = shutdown.requested() => 0,
            }
        });
        world.sleep(Duration::from_secs(1_260)).await;
        let before = heartbeats.load(Ordering::Relaxed);
        world.sleep(Duration::from_secs(600)).await;
        assert!(heartbeats.load(Ordering::Relaxed) > before, "its heart has stopped");
    });
}
