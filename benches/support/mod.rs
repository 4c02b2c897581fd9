//! The reference scenario (one axum server, five agents with fifty long polls each, links of one to ten milliseconds),
//! and ratios measured side by side.

#![allow(dead_code, reason = "each bench uses its part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::{Request, Version};
use http_body_util::BodyExt;
use squall_protocol::{Clock, Http, clock};
use squall_sim::trace::Keep;
use squall_sim::{Ended, SimTime, World};
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

/// The server of the reference scenario, which holds each poll for `hold`.
pub fn router(clock: Arc<dyn Clock>, hold: Duration) -> Router {
    Router::new().route(
        "/message",
        get(move || {
            let held = clock.sleep(hold);
            async move {
                held.await;
                MESSAGE
            }
        }),
    )
}

/// A server that answers at once.
pub fn prompt_router() -> Router {
    Router::new().route("/message", get(async || MESSAGE))
}

/// An agent of the reference scenario: it polls, one poll after the other.
pub async fn agent(mut http: Http, clock: Arc<dyn Clock>, polls: usize) {
    for _ in 0..polls {
        poll(&mut http, &clock, Version::HTTP_11).await;
    }
}

/// One poll through the seams, with the agent's time-out.
pub async fn poll(http: &mut Http, clock: &dyn Clock, version: Version) {
    let request = Request::get("http://server:80/message").version(version);
    let request = request.body(squall_protocol::http::empty()).expect("a valid request");
    let exchange = async { http.call(request).await.expect("an answer").into_body().collect().await.expect("a body") };
    clock::timeout(clock, TIMEOUT, exchange).await.expect("in time");
}

/// Runs `agents` agents with `polls` polls each.
pub fn world(seed: u64, agents: usize, polls: usize, hold: Duration) -> Ended {
    let ended = squall_sim::run(seed, Keep::Digest, SimTime::from_secs(100_000), |world: &World| {
        start_server(world, hold);
        let busy = Arc::new(std::sync::atomic::AtomicUsize::new(agents));
        for n in 0..agents {
            let (busy, world) = (busy.clone(), world.clone());
            world.clone().node(&format!("agent-{n}")).start("agent", |process| async move {
                agent(process.http(), process.clock(), polls).await;
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
        let router = router(process.clock(), hold);
        squall_sim::http::serve(process, 80, router).await.expect("a free port");
    });
}

/// Prints the median over rounds of what `of` costs, divided by what `to` costs, both measured in turn.
pub fn print_ratio(name: &str, mut of: impl FnMut(), mut to: impl FnMut()) {
    of();
    to();
    let ratio = |_| wall(&mut of).as_secs_f64() / wall(&mut to).as_secs_f64();
    print_median(name, (0..ROUNDS).map(ratio).collect());
}

/// Prints the median of some rounds, and on a line of its own how far apart the middle half of them lies.
pub fn print_median(name: &str, mut ratios: Vec<f64>) {
    ratios.sort_by(f64::total_cmp);
    let quarter = ratios.len() / 4;
    println!("ratio {name} {:.3}", ratios[ratios.len() / 2]);
    println!("spread {name} {:.3} to {:.3}", ratios[quarter], ratios[ratios.len() - 1 - quarter]);
}

/// How long it takes.
#[expect(clippy::disallowed_methods, reason = "benches measure real time")]
pub fn wall(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
