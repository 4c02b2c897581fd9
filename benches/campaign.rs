//! Seeds per second of the reference scenario, beside madsim's own `TcpStream` and beside turmoil, and what a second
//! core gives.
//!
//! All three run the same agent and the same server, which know nothing but the seams `Http` and `Clock`. What differs is
//! what stands below the seams: here Squall's own client and network, there the client that `squall_protocol::live` has
//! over TCP as well (hyper-util's, with its pool) over the other simulator's sockets and timers. Nobody keeps events.
//! Squall alone computes a digest of what happened, has a gateway for faults before its server and counts requests.

#[path = "support/elsewhere.rs"]
mod elsewhere;
#[path = "support/piped.rs"]
mod piped;
mod support;

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use elsewhere::{FewFlushes, SleepClock, pooled};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use support::{AGENTS, HOLD, LATENCY_MS, POLLS};

/// Seeds that one measurement of a parallel campaign runs.
const CAMPAIGN_SEEDS: u64 = 400;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("campaign");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.bench_function("squall", |bench| bench.iter(|| squall(1)));
    group.bench_function("madsim", |bench| bench.iter(|| on_madsim(1)));
    group.bench_function("turmoil", |bench| bench.iter(|| on_turmoil(1)));
    group.finish();
    criterion.final_summary();
    // Each ratio is seeds per second over seeds per second; one round of the slower stack is measured against several
    // seeds of ours, so that a round is never shorter than a few milliseconds.
    support::print_ratio("campaign_vs_madsim", || repeat(8, on_madsim), || repeat(8, squall));
    // What that ratio could be if the simulation cost nothing.
    support::print_ratio("campaign_of_piped_vs_madsim", || repeat(8, on_madsim), || repeat(8, on_pipes));
    turmoil_ratio();
    support::print_ratio("jobs_2_vs_1", || campaign(1), || campaign(2));
}

/// Without a simulation.
fn on_pipes(_seed: u64) {
    piped::world(AGENTS, POLLS, HOLD);
}

fn repeat(times: u64, run: impl Fn(u64)) {
    (0..times).for_each(run);
}

/// One seed of turmoil takes about as long as hundreds of ours.
fn turmoil_ratio() {
    const OURS: u64 = 100;
    let ratio = |_| {
        let theirs = support::wall(&mut || on_turmoil(1));
        let ours = support::wall(&mut || repeat(OURS, squall));
        theirs.as_secs_f64() * OURS as f64 / ours.as_secs_f64()
    };
    support::print_median("campaign_vs_turmoil", (0..3).map(ratio).collect());
}

fn squall(seed: u64) {
    support::world(seed, AGENTS, POLLS, HOLD);
}

/// Seeds on so many threads, handed out one by one.
#[expect(clippy::disallowed_methods, reason = "worlds are independent; the threads are outside of them")]
fn campaign(jobs: usize) {
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= CAMPAIGN_SEEDS {
                        return;
                    }
                    squall(seed);
                }
            });
        }
    });
}

/// The scenario on madsim's executor and network.
fn on_madsim(seed: u64) {
    use madsim::net::{NetSim, TcpListener, TcpStream};
    let mut config = madsim::Config::default();
    config.net.send_latency = Duration::from_millis(LATENCY_MS.start)..Duration::from_millis(LATENCY_MS.end);
    let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, config);
    runtime.block_on(async move {
        let handle = madsim::runtime::Handle::current();
        let _ = madsim::plugin::simulator::<NetSim>();
        let clock = Arc::new(SleepClock(madsim::time::sleep));
        let server = handle.create_node().name("server").ip("10.0.0.1".parse().expect("an address")).build();
        let router = support::router(clock.clone(), HOLD);
        server.spawn(async {
            let listener = TcpListener::bind("10.0.0.1:80").await.expect("a free port");
            let service = TowerToHyperService::new(router);
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(FewFlushes::new(stream), service.clone());
                madsim::task::spawn(async move { serving.await.ok() });
            }
        });
        let agents: Vec<_> = (0..AGENTS)
            .map(|n| {
                let address = format!("10.0.1.{}", n + 1).parse().expect("an address");
                let node = handle.create_node().name(format!("agent-{n}")).ip(address).build();
                let clock = clock.clone();
                node.spawn(async {
                    madsim::time::sleep(Duration::from_millis(1)).await;
                    let connect = || async { Ok(FewFlushes::new(TcpStream::connect("10.0.0.1:80").await?)) };
                    support::agent(pooled(MadsimExecutor, connect), clock, POLLS).await;
                })
            })
            .collect();
        for agent in agents {
            agent.await.expect("an agent that ends");
        }
    });
}

#[derive(Clone)]
struct MadsimExecutor;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for MadsimExecutor {
    fn execute(&self, task: F) {
        madsim::task::spawn(task);
    }
}

/// The scenario on turmoil at its default tick.
#[expect(clippy::disallowed_methods, reason = "turmoil is tokio with paused time")]
fn on_turmoil(seed: u64) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .min_message_latency(Duration::from_millis(LATENCY_MS.start))
        .max_message_latency(Duration::from_millis(LATENCY_MS.end))
        .simulation_duration(Duration::from_secs(3_600))
        .build();
    let clock = Arc::new(SleepClock(tokio::time::sleep));
    let router = support::router(clock.clone(), HOLD);
    sim.host("server", move || {
        let service = TowerToHyperService::new(router.clone());
        async move {
            let listener = turmoil::net::TcpListener::bind("0.0.0.0:80").await?;
            loop {
                let (stream, _) = listener.accept().await?;
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                tokio::spawn(async move { serving.await.ok() });
            }
        }
    });
    for n in 0..AGENTS {
        let clock = clock.clone();
        sim.client(format!("agent-{n}"), async {
            let connect = || async { Ok(TokioIo::new(turmoil::net::TcpStream::connect("server:80").await?)) };
            support::agent(pooled(TokioExecutor::new(), connect), clock, POLLS).await;
            Ok(())
        });
    }
    sim.run().expect("a run to its end");
}
