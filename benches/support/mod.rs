//! The reference scenario (one axum server, five agents with fifty long polls each, links of one to ten milliseconds),
//! and ratios measured side by side.

#![allow(dead_code, reason = "each bench uses its part")]

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::{Request, Version};
use http_body_util::BodyExt;
use squall_protocol::{Clock, clock};
use squall_sim::trace::Keep;
use squall_sim::{Ended, Process, SimTime, World};
use tower::Service;

/// Agents of the reference scenario.
pub const AGENTS: usize = 5;
/// Polls of each agent.
pub const POLLS: usize = 50;
/// How long the server holds a poll.
pub const HOLD: Duration = Duration::from_secs(1);
/// How long an agent waits for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// What a link may take, in milliseconds.
pub const LATENCY_MS: std::ops::Range<u64> = 1..10;

/// How many rounds a ratio is the median of.
const ROUNDS: usize = 15;

/// What the server answers.
pub const MESSAGE: &str = r#"{"messageId":1,"messageType":"none","body":""}"#;

/// The server of the reference scenario; `hold` ends when a poll has been held long enough.
pub fn router<F>(hold: impl Fn() -> F + Clone + Send + Sync + 'static) -> Router
where
    F: Future<Output = ()> + Send + 'static,
{
    Router::new().route(
        "/message",
        get(move || {
            let held = hold();
            async move {
                held.await;
                MESSAGE
            }
        }),
    )
}

/// Runs `agents` agents with `polls` polls each, and `watch` beside them once all are under way.
pub fn world(seed: u64, agents: usize, polls: usize, hold: Duration) -> Ended {
    let ended = squall_sim::run(seed, Keep::Digest, SimTime::from_secs(100_000), |world: &World| {
        start_server(world, hold);
        let busy = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(agents));
        for n in 0..agents {
            let (busy, world) = (busy.clone(), world.clone());
            world.clone().node(&format!("agent-{n}")).start("agent", |process| async move {
                for _ in 0..polls {
                    poll(&process, Version::HTTP_11).await;
                }
                if busy.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                    world.stop();
                }
            });
        }
    });
    assert_eq!(ended.exchanges as usize, agents * polls, "{:?}", ended.halt);
    ended
}

/// Starts the server of the reference scenario.
pub fn start_server(world: &World, hold: Duration) {
    world.node("server").start("http", |process| async move {
        let node_clock = process.clock();
        let router = router(move || node_clock.sleep(hold));
        squall_sim::http::serve(process, 80, router).await.expect("a free port");
    });
}

/// One poll through the `Http` seam, with the agent's time-out.
pub async fn poll(process: &Process, version: Version) {
    let request = Request::get("http://server:80/message").version(version);
    let request = request.body(squall_protocol::http::empty()).expect("a valid request");
    let mut http = process.http();
    let exchange = async { http.call(request).await.expect("an answer").into_body().collect().await.expect("a body") };
    clock::timeout(&process.clock(), TIMEOUT, exchange).await.expect("in time");
}

/// Prints the median over rounds of what `of` costs, divided by what `to` costs, both measured in turn.
pub fn print_ratio(name: &str, mut of: impl FnMut(), mut to: impl FnMut()) {
    of();
    to();
    let mut ratios: Vec<f64> = (0..ROUNDS).map(|_| wall(&mut of).as_secs_f64() / wall(&mut to).as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    println!("ratio {name} {:.3}", ratios[ROUNDS / 2]);
}

/// How long it takes.
#[expect(clippy::disallowed_methods, reason = "benches measure real time")]
pub fn wall(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
