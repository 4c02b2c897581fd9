//! What one HTTP exchange costs, beside hyper and axum over an in-memory pipe on tokio with paused time.

#![expect(clippy::disallowed_methods, reason = "what Squall is measured beside runs on tokio")]

mod support;

use criterion::{Criterion, Throughput};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use squall_sim::trace::Keep;
use squall_sim::{SimTime, World};

const EXCHANGES: u64 = 2_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("exchange");
    group.sample_size(20).throughput(Throughput::Elements(EXCHANGES));
    for (name, version) in [("h1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        group.bench_function(format!("{name}/squall"), |bench| bench.iter(|| simulated(version)));
        group.bench_function(format!("{name}/duplex"), |bench| bench.iter(|| duplex(version)));
    }
    group.finish();
    criterion.final_summary();
    support::print_ratio("exchange_h1_vs_duplex", || simulated(Version::HTTP_11), || duplex(Version::HTTP_11));
    support::print_ratio("exchange_h2_vs_duplex", || simulated(Version::HTTP_2), || duplex(Version::HTTP_2));
}

/// One agent and one server a few milliseconds apart, one connection.
fn simulated(version: Version) {
    let ended = squall_sim::run(1, Keep::Digest, SimTime::from_secs(3_600), |world: &World| {
        world.node("server").start("http", |process| async move {
            squall_sim::http::serve(process, 80, support::prompt_router()).await.expect("a free port");
        });
        let world = world.clone();
        world.clone().node("agent").start("agent", |process| async move {
            let (mut http, clock) = (process.http(), process.clock());
            for _ in 0..EXCHANGES {
                support::poll(&mut http, &clock, version).await;
            }
            world.stop();
        });
    });
    assert_eq!(ended.exchanges, EXCHANGES, "{:?}", ended.halt);
}

/// The same client and server code with nothing in between but memory.
fn duplex(version: Version) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("tokio");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let service = TowerToHyperService::new(support::prompt_router());
        match version {
            Version::HTTP_2 => {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(far), service));
                let (mut sender, driver) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.expect("h2");
                tokio::spawn(driver);
                for _ in 0..EXCHANGES {
                    let response = sender.send_request(request("http://server:80/message", version)).await.expect("h2");
                    response.into_body().collect().await.expect("a body");
                }
            }
            _ => {
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(far), service));
                let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.expect("h1");
                tokio::spawn(driver);
                for _ in 0..EXCHANGES {
                    sender.ready().await.expect("h1");
                    let response = sender.send_request(request("/message", version)).await.expect("h1");
                    response.into_body().collect().await.expect("a body");
                }
            }
        }
    });
}

fn request(uri: &str, version: Version) -> Request<Empty<bytes::Bytes>> {
    Request::get(uri).header("host", "server").version(version).body(Empty::new()).expect("a valid request")
}
