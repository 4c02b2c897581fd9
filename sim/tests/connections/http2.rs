//! HTTP/2 over the network.

use std::pin::pin;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get as on_get, post};
use futures_util::future::{join_all, select};
use http::{Request, Response, Version};
use hyper::server::conn::http2;
use squall_protocol::TransportError;
use squall_protocol::clock::timeout;
use squall_protocol::http::{full, read};
use squall_sim::Process;
use squall_sim::net::Condition;
use tower::{ServiceExt, service_fn};

use crate::stage::{ROUND_TRIP, Stage, get, get_all, millis, play, secs};

const H2: Version = Version::HTTP_2;

fn hello() -> Router {
    Router::new()
        .route("/", on_get(|| async { "hello" }))
        .route("/big", on_get(|| async { vec![0_u8; 1 << 20] }))
        .route("/count", post(|body: Bytes| async move { body.len().to_string() }))
}

fn hello_slowly(stage: &Stage) -> Router {
    let stage = stage.clone();
    let slow = on_get(move || async move {
        stage.sleep(secs(5)).await;
        "hello at last"
    });
    hello().route("/slow", slow)
}

#[test]
fn parallel_requests_share_one_connection_from_the_first_on() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        let answers = join_all((0..50).map(|_| get_all(&http, H2, "/"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|body| body == "hello")));
        assert_eq!(stage.now().since_start(), 2 * ROUND_TRIP);
        assert_eq!(stage.connections(), 1);
        get_all(&http, H2, "/").await.unwrap();
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn a_slow_answer_holds_up_no_other() {
    play(|stage| async move {
        stage.serve_router(hello_slowly(&stage));
        let http = stage.client.http();
        let slow = {
            let http = http.clone();
            stage.client_does(async move { get_all(&http, H2, "/slow").await })
        };
        stage.sleep(secs(1)).await;
        assert_eq!(get_all(&http, H2, "/").await.unwrap(), "hello");
        assert!(stage.now().since_start() < secs(2));
        assert_eq!(slow.done().await.unwrap(), "hello at last");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn both_protocols_are_served_on_one_port() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        assert_eq!(get(&http, H2, "/").await.unwrap().version(), H2);
        assert_eq!(get(&http, Version::HTTP_11, "/").await.unwrap().version(), Version::HTTP_11);
    });
}

#[test]
fn a_handler_that_fails_resets_its_stream_and_the_connection_lives_on() {
    play(|stage| async move {
        let router = hello_slowly(&stage);
        stage.serve(service_fn(move |request: Request<axum::body::Body>| {
            let router = router.clone();
            async move {
                match request.uri().path() {
                    "/fails" => Err("the handler failed"),
                    _ => Ok(router.oneshot(request).await.unwrap()),
                }
            }
        }));
        let http = stage.client.http();
        let slow = {
            let http = http.clone();
            stage.client_does(async move { get_all(&http, H2, "/slow").await })
        };
        stage.sleep(secs(1)).await;
        let internal_error = TransportError::StreamReset { code: 2 };
        assert_eq!(get(&http, H2, "/fails").await.unwrap_err(), internal_error);
        assert_eq!(get_all(&http, H2, "/").await.unwrap(), "hello");
        assert_eq!(slow.done().await.unwrap(), "hello at last");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn a_handler_chooses_the_code_of_its_reset() {
    play(|stage| async move {
        stage.serve(service_fn(|_: Request<axum::body::Body>| async move {
            Err::<Response<axum::body::Body>, _>(h2::Error::from(h2::Reason::REFUSED_STREAM))
        }));
        let answer = get(&stage.client.http(), H2, "/").await.unwrap_err();
        assert_eq!(answer, TransportError::StreamReset { code: 7 });
    });
}

#[test]
fn a_reset_within_a_body_is_a_reset_and_not_its_end() {
    play(|stage| async move {
        stage.serve_router(hello());
        stage.impose_back(Condition::ResetAfter(20_000));
        let body = get(&stage.client.http(), H2, "/big").await.unwrap().into_body();
        assert_eq!(read(body, 1 << 21).await.unwrap_err(), TransportError::Reset);
    });
}

#[test]
fn a_server_that_ends_within_a_body_has_closed_early() {
    play(|stage| async move {
        stage.serve_router(hello());
        stage.impose_back(Condition::Narrow(100_000));
        let body = get(&stage.client.http(), H2, "/big").await.unwrap().into_body();
        let killing = stage.clone();
        stage.world.spawn("kill", async move {
            killing.sleep(secs(1)).await;
            killing.server.kill();
        });
        let error = read(body, 1 << 21).await.unwrap_err();
        // The client's window updates are unread by then, or not.
        assert!(matches!(error, TransportError::ClosedEarly | TransportError::Reset), "{error:?}");
    });
}

#[test]
fn a_server_that_ends_before_it_answers_has_closed_early() {
    play(|stage| async move {
        stage.serve_router(hello_slowly(&stage));
        let http = stage.client.http();
        let killing = stage.clone();
        stage.world.spawn("kill", async move {
            killing.sleep(secs(1)).await;
            killing.server.kill();
        });
        assert_eq!(get(&http, H2, "/slow").await.unwrap_err(), TransportError::ClosedEarly);
        assert_eq!(get(&http, H2, "/").await.unwrap_err(), TransportError::Refused, "the next one connects anew");
    });
}

#[test]
fn a_broken_connection_is_not_used_again() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        get_all(&http, H2, "/").await.unwrap();
        stage.world.net().reset_connections(0, None, None);
        stage.sleep(millis(1)).await;
        assert_eq!(get_all(&http, H2, "/").await.unwrap(), "hello");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn a_dropped_body_resets_its_stream_and_keeps_the_connection() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        drop(get(&http, H2, "/big").await.unwrap());
        stage.sleep(secs(1)).await;
        assert_eq!(get_all(&http, H2, "/").await.unwrap(), "hello");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn a_request_that_nobody_waits_for_any_more_keeps_the_connection() {
    play(|stage| async move {
        stage.serve_router(hello_slowly(&stage));
        let (http, clock) = (stage.client.http(), stage.client.clock());
        assert!(timeout(&clock, secs(1), get(&http, H2, "/slow")).await.is_err());
        assert_eq!(get_all(&http, H2, "/").await.unwrap(), "hello");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn connecting_goes_on_while_anybody_waits_for_it_and_no_longer() {
    play(|stage| async move {
        stage.serve_router(hello());
        stage.partition();
        let (http, clock) = (stage.client.http(), stage.client.clock());
        let second = {
            let http = http.clone();
            stage.client_does(async move { get_all(&http, H2, "/").await })
        };
        assert!(timeout(&clock, millis(500), get(&http, H2, "/")).await.is_err());
        stage.heal();
        assert_eq!(second.done().await.unwrap(), "hello");
        assert_eq!(stage.now().since_start(), secs(1) + 2 * ROUND_TRIP);
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn big_bodies_pass_both_ways() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        assert_eq!(get_all(&http, H2, "/big").await.unwrap().len(), 1 << 20);
        let request = Request::post("http://server/count").version(H2).body(full(vec![1; 1_000_000])).unwrap();
        let answer = http.oneshot(request).await.unwrap();
        assert_eq!(read(answer.into_body(), 100).await.unwrap(), "1000000");
    });
}

#[derive(Clone)]
struct Spawn(Process);

impl<F: Future + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        self.0.spawn("stream", async move { drop(future.await) });
    }
}

#[test]
fn after_a_goaway_requests_under_way_end_and_new_ones_go_elsewhere() {
    play(|stage| async move {
        let (process, router) = (stage.server.clone(), hello_slowly(&stage));
        let at = stage.clone();
        stage.server.spawn("server", async move {
            let mut listener = process.listen(80).unwrap();
            loop {
                let stream = listener.accept().await;
                let router = router.clone();
                let answering = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
                let at = at.clone();
                let serving = http2::Builder::new(Spawn(process.clone())).serve_connection(stream, answering);
                process.spawn("connection", async move {
                    let (mut serving, leaving) = (pin!(serving), pin!(at.sleep(secs(2))));
                    select(serving.as_mut(), leaving).await;
                    serving.as_mut().graceful_shutdown();
                    serving.await.unwrap();
                });
            }
        });
        let http = stage.client.http();
        let slow = {
            let http = http.clone();
            stage.client_does(async move { get_all(&http, H2, "/slow").await })
        };
        stage.sleep(secs(3)).await;
        assert_eq!(get_all(&http, H2, "/").await.unwrap(), "hello");
        assert_eq!(stage.connections(), 2);
        assert_eq!(slow.done().await.unwrap(), "hello at last");
    });
}

#[test]
fn the_shared_connection_of_a_process_ends_with_it() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        get_all(&http, H2, "/").await.unwrap();
        stage.client.kill();
        stage.sleep(secs(1)).await;
        assert_eq!(stage.connections(), 0);
        drop(http);
    });
}
