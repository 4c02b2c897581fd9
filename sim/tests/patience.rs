//! What the journal tells of clients that wait, that are told to wait, and that call again.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, StreamExt};
use http::{Request, StatusCode, Version, header};
use http_body_util::BodyExt;
use squall_protocol::http::empty;
use squall_protocol::{Fact, clock};
use squall_sim::trace::Keep;
use squall_sim::{Process, SimTime, run};
use tower::ServiceExt;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn stalled() -> Response {
    let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"first")) });
    Body::from_stream(first.chain(stream::pending())).into_response()
}

async fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")]).into_response()
}

fn server() -> Router {
    let silent = get(|| async { future::pending::<&str>().await });
    Router::new().route("/silent", silent).route("/stalled", get(stalled)).route("/busy", get(busy))
}

/// Asks for something, for so long at the most.
async fn ask(process: &Process, version: Version, path: &str, limit: Duration) {
    let request = Request::get(format!("http://server{path}")).version(version).body(empty()).expect("valid");
    let whole = async { process.http().oneshot(request).await?.into_body().collect().await };
    // What comes of it is for the journal to tell.
    drop(clock::timeout(&*process.clock(), limit, whole).await);
}

/// The facts about patience in a world that ends after 1000 s, each with its second.
fn told<F: Future<Output = ()> + Send + 'static>(
    client: impl FnOnce(Process) -> F + Send + 'static,
) -> Vec<(u64, Fact)> {
    let ended = run(1, Keep::Digest, SimTime::from_secs(1_000), |world| {
        world.node("server").start("http", |process| async move {
            squall_sim::http::serve(process, 80, server()).await.expect("nothing else listens there");
        });
        world.node("client").start("client", |process| async move {
            client(process).await;
            // The process lives to the end.
            future::pending::<()>().await;
        });
    });
    let of_patience = |fact: &Fact| {
        matches!(
            fact,
            Fact::ClientWaited { .. }
                | Fact::ClientToldToWait { .. }
                | Fact::ClientAskedAgain { .. }
                | Fact::CallRepeated { .. }
        )
    };
    let told = ended.journal.into_iter().filter(|entry| of_patience(&entry.fact));
    told.map(|entry| (entry.at.as_millis() / 1_000, entry.fact)).collect()
}

fn waited(at: u64, seconds: u64) -> (u64, Fact) {
    (at, Fact::ClientWaited { client: "client".into(), server: "server".into(), millis: seconds * 1_000 })
}

/// Waits in whole seconds: what latency adds is no matter.
fn rounded(told: Vec<(u64, Fact)>) -> Vec<(u64, Fact)> {
    let round = |fact| match fact {
        Fact::ClientWaited { client, server, millis } => {
            Fact::ClientWaited { client, server, millis: (millis + 500) / 1_000 * 1_000 }
        }
        other => other,
    };
    told.into_iter().map(|(at, fact)| (at, round(fact))).collect()
}

#[test]
fn long_waits_for_an_answer_are_told_and_short_ones_are_not() {
    let told = told(|process| async move {
        ask(&process, Version::HTTP_11, "/silent", secs(50)).await;
        ask(&process, Version::HTTP_11, "/silent", secs(100)).await;
        ask(&process, Version::HTTP_2, "/silent", secs(200)).await;
    });
    let waits: Vec<_> = told.into_iter().filter(|(_, fact)| matches!(fact, Fact::ClientWaited { .. })).collect();
    assert_eq!(rounded(waits), [waited(150, 100), waited(350, 200)]);
}

#[test]
fn waits_for_the_rest_of_a_body_are_told_on_both_protocols() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let told = told(move |process| async move { ask(&process, version, "/stalled", secs(90)).await });
        assert_eq!(rounded(told), [waited(90, 90)], "{version:?}");
    }
}

#[test]
fn a_wait_that_never_ends_is_told_at_the_end() {
    for path in ["/silent", "/stalled"] {
        let told = told(move |process| async move { ask(&process, Version::HTTP_11, path, secs(5_000)).await });
        assert_eq!(rounded(told), [waited(1_000, 1_000)], "{path}");
    }
}

#[test]
fn who_is_told_to_wait_is_watched_until_it_comes_back_and_until_it_makes_that_call_again() {
    let told = told(|process| async move {
        ask(&process, Version::HTTP_11, "/busy", secs(10)).await;
        process.clock().sleep(secs(5)).await;
        ask(&process, Version::HTTP_11, "/silent", secs(15)).await;
        ask(&process, Version::HTTP_11, "/busy?again", secs(10)).await;
    });
    let [(0, first), (5, back), (20, again), (20, second), rest @ ..] = &told[..] else { panic!("{told:#?}") };
    let told_to_wait = Fact::ClientToldToWait { client: "client".into(), server: "server".into(), seconds: 30 };
    assert_eq!((first, second), (&told_to_wait, &told_to_wait));
    assert_eq!(*back, Fact::ClientAskedAgain { client: "client".into() });
    let call = "GET server/busy".to_owned();
    let repeated =
        Fact::CallRepeated { client: "client".into(), call, after_ns: 20_000_000_000, told: Some(30), idle: false };
    assert_eq!(*again, repeated);
    assert_eq!(rest, []);
}
