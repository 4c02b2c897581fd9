//! The reference scenario without a simulation: hyper and axum alone, over in-memory pipes on tokio with paused time. What
//! a simulation of real HTTP can reach is near what this does.

#![expect(clippy::disallowed_methods, reason = "what Squall is measured beside runs on tokio")]

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;

use crate::elsewhere::SleepClock;
use crate::support;

/// What a pipe holds, in bytes.
const PIPE: usize = 64 * 1024;

/// Runs `agents` agents with `polls` polls each, every agent on a connection of its own. Nothing is late.
pub fn world(agents: usize, polls: usize, hold: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("tokio").block_on(async {
        let mut polling = tokio::task::JoinSet::new();
        for _ in 0..agents {
            let (near, far) = tokio::io::duplex(PIPE);
            let service = TowerToHyperService::new(support::router(Arc::new(SleepClock(tokio::time::sleep)), hold));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), service));
            polling.spawn(async move {
                let (mut sender, driver) = handshake(TokioIo::new(near)).await.expect("h1");
                tokio::spawn(driver);
                for _ in 0..polls {
                    sender.ready().await.expect("h1");
                    let request = Request::get("/message").header("host", "server");
                    let request = request.body(Empty::<bytes::Bytes>::new()).expect("a valid request");
                    sender.send_request(request).await.expect("h1").into_body().collect().await.expect("a body");
                }
            });
        }
        while let Some(done) = polling.join_next().await {
            done.expect("no panic");
        }
    });
}
