//! Seeds per second of the reference scenario, beside madsim's own `TcpStream` and beside turmoil, and what a second
//! core gives.

mod support;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use support::{AGENTS, HOLD, LATENCY_MS, POLLS, TIMEOUT};
use tokio::io::{AsyncRead, AsyncWrite};

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
    turmoil_ratio();
    support::print_ratio("jobs_2_vs_1", || campaign(1), || campaign(2));
}

fn repeat(times: u64, run: impl Fn(u64)) {
    (0..times).for_each(run);
}

/// One seed of turmoil takes about as long as hundreds of ours.
fn turmoil_ratio() {
    const OURS: u64 = 100;
    let mut ratios: Vec<f64> = (0..3)
        .map(|_| {
            let theirs = support::wall(&mut || on_turmoil(1));
            let ours = support::wall(&mut || repeat(OURS, squall));
            theirs.as_secs_f64() * OURS as f64 / ours.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("ratio campaign_vs_turmoil {:.1}", ratios[1]);
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

fn request() -> Request<Empty<Bytes>> {
    Request::get("/message").header("host", "server").body(Empty::new()).expect("a valid request")
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
        let server = handle.create_node().name("server").ip("10.0.0.1".parse().expect("an address")).build();
        server.spawn(async {
            let listener = TcpListener::bind("10.0.0.1:80").await.expect("a free port");
            let service = TowerToHyperService::new(support::router(|| madsim::time::sleep(HOLD)));
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
                node.spawn(async {
                    madsim::time::sleep(Duration::from_millis(1)).await;
                    let stream = TcpStream::connect("10.0.0.1:80").await.expect("the server listens");
                    let (mut sender, driver) =
                        hyper::client::conn::http1::handshake(FewFlushes::new(stream)).await.expect("h1");
                    madsim::task::spawn(async move { driver.await.ok() });
                    for _ in 0..POLLS {
                        let exchange = async {
                            sender.ready().await.expect("h1");
                            let response = sender.send_request(request()).await.expect("h1");
                            response.into_body().collect().await.expect("a body")
                        };
                        madsim::time::timeout(TIMEOUT, exchange).await.expect("in time");
                    }
                })
            })
            .collect();
        for agent in agents {
            agent.await.expect("an agent that ends");
        }
    });
}

/// madsim's stream as hyper wants it. It passes a flush on only after a write: an empty one is a message of its own.
struct FewFlushes<S> {
    stream: TokioIo<S>,
    written: bool,
}

impl<S> FewFlushes<S> {
    fn new(stream: S) -> Self {
        Self { stream: TokioIo::new(stream), written: false }
    }
}

impl<S: AsyncRead + Unpin> Read for FewFlushes<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> Write for FewFlushes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.written = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The scenario on turmoil at its default tick.
fn on_turmoil(seed: u64) {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .min_message_latency(Duration::from_millis(LATENCY_MS.start))
        .max_message_latency(Duration::from_millis(LATENCY_MS.end))
        .simulation_duration(Duration::from_secs(3_600))
        .build();
    sim.host("server", || async {
        let listener = turmoil::net::TcpListener::bind("0.0.0.0:80").await?;
        #[expect(clippy::disallowed_methods, reason = "turmoil is tokio with paused time")]
        let service = TowerToHyperService::new(support::router(|| tokio::time::sleep(HOLD)));
        loop {
            let (stream, _) = listener.accept().await?;
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
            spawn(async move { serving.await.ok() });
        }
    });
    for n in 0..AGENTS {
        sim.client(format!("agent-{n}"), async {
            let stream = turmoil::net::TcpStream::connect("server:80").await?;
            let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            spawn(async move { driver.await.ok() });
            for _ in 0..POLLS {
                let exchange = async {
                    sender.ready().await.expect("h1");
                    let response = sender.send_request(request()).await.expect("h1");
                    response.into_body().collect().await.expect("a body")
                };
                #[expect(clippy::disallowed_methods, reason = "turmoil is tokio with paused time")]
                tokio::time::timeout(TIMEOUT, exchange).await?;
            }
            Ok(())
        });
    }
    sim.run().expect("a run to its end");
}

#[expect(clippy::disallowed_methods, reason = "turmoil is tokio with paused time")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) {
    tokio::spawn(task);
}
