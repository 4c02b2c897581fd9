//! An agent in a world in which connections break, machines crash and clocks go wrong.
//!
//! Put yours in the place of this one: it is any async code over the clock and the HTTP client that it is handed.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::post;
use squall::prelude::*;

/// The agent: the process of a machine, from its start to its exit code.
async fn agent(process: Process) -> i32 {
    let clock = process.clock();
    while !process.shutdown().is_requested() {
        let beat = Request::post("http://server/heartbeat").body(http::empty()).expect("a valid request");
        // Over a bad network an answer may never come.
        let _ = clock::timeout(&*clock, Duration::from_secs(10), process.http().oneshot(beat)).await;
        clock.sleep(Duration::from_secs(30)).await;
    }
    0
}

/// The server: any axum router.
fn server(heartbeats: Arc<AtomicU64>) -> Router {
    let beat = move || async move {
        heartbeats.fetch_add(1, Ordering::Relaxed);
    };
    Router::new().route("/heartbeat", post(beat))
}

#[test]
fn an_agent_gets_through_after_bad_times() {
    squall::check("an agent gets through after bad times", |world| async move {
        let heartbeats = Arc::<AtomicU64>::default();
        let counted = heartbeats.clone();
        world.server("server", move |_| server(counted.clone()));
        world.agent("agent-1", agent);
        // Faults come and go in the first twenty minutes of the simulated time.
        world.sleep(Duration::from_secs(20 * 60)).await;
        let before = heartbeats.load(Ordering::Relaxed);
        world.sleep(Duration::from_secs(5 * 60)).await;
        assert!(heartbeats.load(Ordering::Relaxed) > before, "nothing is heard of it any more");
    });
}
