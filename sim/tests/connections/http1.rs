//! HTTP/1.1 over the network.

use std::convert::Infallible;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get as on_get, post};
use futures_util::future::join_all;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use squall_protocol::TransportError;
use squall_protocol::clock::timeout;
use squall_protocol::http::{empty, full, read};
use squall_sim::net::{Condition, Stream};
use tower::{ServiceExt, service_fn};

use crate::stage::{ROUND_TRIP, Stage, get, get_all, millis, play, secs};

const H1: Version = Version::HTTP_11;

fn hello() -> Router {
    Router::new().route("/", on_get(|| async { "hello" }))
}

/// Serves connections by hand: each gets the answers in turn, and is then closed.
fn answer_by_hand(stage: &Stage, answers: &'static [&'static str]) {
    let process = stage.server.clone();
    stage.server.spawn("server", async move {
        let mut listener = process.listen(80).unwrap();
        loop {
            let mut stream = listener.accept().await;
            process.spawn("connection", async move {
                for answer in answers {
                    if read_head(&mut stream).await.is_none() {
                        return;
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
}

async fn read_head(stream: &mut Stream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let more = stream.read(8192).await.ok().filter(|more| !more.is_empty())?;
        head.extend_from_slice(&more);
    }
    Some(())
}

#[test]
fn one_request_on_a_new_connection_takes_two_round_trips() {
    play(|stage| async move {
        stage.serve_router(hello());
        assert_eq!(get_all(&stage.client.http(), H1, "/").await.unwrap(), "hello");
        assert_eq!(stage.now().since_start(), 2 * ROUND_TRIP);
    });
}

#[test]
fn sequential_requests_share_one_connection() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        for _ in 0..10 {
            get_all(&http, H1, "/").await.unwrap();
        }
        assert_eq!(stage.now().since_start(), 11 * ROUND_TRIP);
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn parallel_requests_have_a_connection_each() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        let answers = join_all((0..3).map(|_| get_all(&http, H1, "/"))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|body| body == "hello")));
        assert_eq!(stage.now().since_start(), 2 * ROUND_TRIP);
        assert_eq!(stage.connections(), 3);
        join_all((0..3).map(|_| get_all(&http, H1, "/"))).await;
        assert_eq!(stage.connections(), 3, "all of them are used again");
    });
}

#[test]
fn an_idle_connection_that_the_server_closed_is_not_used() {
    play(|stage| async move {
        answer_by_hand(&stage, &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"]);
        let http = stage.client.http();
        for _ in 0..3 {
            assert_eq!(get_all(&http, H1, "/").await.unwrap(), "hello");
            stage.sleep(secs(1)).await;
        }
    });
}

#[test]
fn an_idle_connection_that_was_reset_is_not_used() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        get_all(&http, H1, "/").await.unwrap();
        stage.world.net().reset_connections(0, None, None);
        assert_eq!(get_all(&http, H1, "/").await.unwrap(), "hello");
    });
}

#[test]
fn a_server_that_closes_as_the_request_is_on_its_way_fails_it() {
    play(|stage| async move {
        let (process, at) = (stage.server.clone(), stage.clone());
        stage.server.spawn("server", async move {
            let mut listener = process.listen(80).unwrap();
            loop {
                let mut stream = listener.accept().await;
                read_head(&mut stream).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
                at.sleep(millis(15)).await;
            }
        });
        let http = stage.client.http();
        assert_eq!(get_all(&http, H1, "/").await.unwrap(), "hello");
        // The FIN is on its way, so the client cannot know yet; whether the server saw the request, it cannot know either.
        assert_eq!(get_all(&http, H1, "/").await.unwrap_err(), TransportError::ClosedEarly);
        assert_eq!(get_all(&http, H1, "/").await.unwrap(), "hello");
    });
}

#[test]
fn a_connection_that_its_answer_closes_is_not_used_again() {
    play(|stage| async move {
        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        answer_by_hand(&stage, Box::leak(Box::new([answer])));
        let http = stage.client.http();
        for _ in 0..3 {
            assert_eq!(get_all(&http, H1, "/").await.unwrap(), "");
        }
        stage.sleep(secs(1)).await;
        assert!(stage.connections() <= 1, "{}", stage.connections());
    });
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    play(|stage| async move {
        answer_by_hand(&stage, &["HTTP/1.1 200 OK\r\n\r\nuntil I close"]);
        assert_eq!(get_all(&stage.client.http(), H1, "/").await.unwrap(), "until I close");
    });
}

#[test]
fn a_body_shorter_than_its_length_is_closed_early() {
    play(|stage| async move {
        answer_by_hand(&stage, &["HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"]);
        let mut body = get(&stage.client.http(), H1, "/").await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "short");
        assert_eq!(body.frame().await.unwrap().unwrap_err(), TransportError::ClosedEarly);
    });
}

#[test]
fn a_chunked_body_without_its_last_chunk_is_closed_early() {
    play(|stage| async move {
        answer_by_hand(&stage, &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"]);
        let mut body = get(&stage.client.http(), H1, "/").await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "short");
        assert_eq!(body.frame().await.unwrap().unwrap_err(), TransportError::ClosedEarly);
    });
}

#[test]
fn a_server_that_closes_without_an_answer_has_closed_early() {
    play(|stage| async move {
        answer_by_hand(&stage, &[""]);
        assert_eq!(get(&stage.client.http(), H1, "/").await.unwrap_err(), TransportError::ClosedEarly);
    });
}

#[test]
fn an_answer_that_is_not_http_breaks_the_protocol() {
    play(|stage| async move {
        answer_by_hand(&stage, &["220 mail.example ESMTP\r\n\r\n"]);
        let answer = get(&stage.client.http(), H1, "/").await.unwrap_err();
        assert!(matches!(answer, TransportError::Protocol(_)), "{answer:?}");
    });
}

#[test]
fn a_reset_within_a_body_is_a_reset_and_not_its_end() {
    for head in ["content-length: 100000", "transfer-encoding: chunked", "server: without a length"] {
        play(move |stage| async move {
            let process = stage.server.clone();
            stage.server.spawn("server", async move {
                let mut stream = process.listen(80).unwrap().accept().await;
                read_head(&mut stream).await.unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nffff\r\n{}", "x".repeat(5_000));
                stream.write_all(answer.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            });
            stage.impose_back(Condition::ResetAfter(4_000));
            let body = get(&stage.client.http(), H1, "/").await.unwrap().into_body();
            assert_eq!(read(body, 1 << 20).await.unwrap_err(), TransportError::Reset, "{head}");
        });
    }
}

#[test]
fn a_reset_before_the_head_is_a_reset() {
    play(|stage| async move {
        stage.serve_router(hello());
        stage.impose_back(Condition::ResetAfter(0));
        assert_eq!(get(&stage.client.http(), H1, "/").await.unwrap_err(), TransportError::Reset);
    });
}

#[test]
fn a_handler_that_fails_closes_the_connection_early() {
    play(|stage| async move {
        stage.serve(service_fn(|request: Request<axum::body::Body>| async move {
            match request.uri().path() {
                "/fails" => Err("the handler failed"),
                _ => Ok(Response::new("fine".into())),
            }
        }));
        let http = stage.client.http();
        assert_eq!(get(&http, H1, "/fails").await.unwrap_err(), TransportError::ClosedEarly);
        assert_eq!(get_all(&http, H1, "/").await.unwrap(), "fine");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn a_dropped_body_closes_its_connection() {
    play(|stage| async move {
        stage.serve_router(Router::new().route("/", on_get(|| async { vec![0_u8; 1 << 20] })));
        let http = stage.client.http();
        let answer = get(&http, H1, "/").await.unwrap();
        assert_eq!(stage.connections(), 1);
        drop(answer);
        stage.sleep(secs(1)).await;
        assert_eq!(stage.connections(), 0);
        assert_eq!(get_all(&http, H1, "/").await.unwrap().len(), 1 << 20);
    });
}

#[test]
fn a_request_that_nobody_waits_for_any_more_closes_its_connection() {
    play(|stage| async move {
        let slow = stage.clone();
        stage.serve_router(Router::new().route(
            "/",
            on_get(move || async move {
                slow.sleep(secs(3600)).await;
                "at last"
            }),
        ));
        let clock = stage.client.clock();
        assert!(timeout(&clock, secs(10), get(&stage.client.http(), H1, "/")).await.is_err());
        stage.sleep(secs(1)).await;
        assert_eq!(stage.connections(), 0, "the handler is dropped with its connection");
    });
}

#[test]
fn big_bodies_pass_both_ways() {
    play(|stage| async move {
        stage.serve_router(Router::new().route("/", post(|body: Bytes| async move { body })));
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let request = Request::post("http://server/").body(full(sent.clone())).unwrap();
        let answer = stage.client.http().oneshot(request).await.unwrap();
        assert_eq!(read(answer.into_body(), 1 << 21).await.unwrap(), sent);
    });
}

#[test]
fn an_answer_s_body_can_be_the_next_request_s_body() {
    play(|stage| async move {
        let router = Router::new()
            .route("/big", on_get(|| async { vec![7_u8; 300_000] }))
            .route("/count", post(|body: Bytes| async move { body.len().to_string() }));
        stage.serve_router(router);
        let http = stage.client.http();
        let big = get(&http, H1, "/big").await.unwrap().into_body();
        let answer = http.oneshot(Request::post("http://server/count").body(big).unwrap()).await.unwrap();
        assert_eq!(read(answer.into_body(), 100).await.unwrap(), "300000");
        assert_eq!(stage.connections(), 2);
    });
}

#[test]
fn an_answer_that_comes_before_the_request_has_been_read_ends_the_connection() {
    play(|stage| async move {
        stage.serve(service_fn(|_: Request<axum::body::Body>| async move {
            Ok::<_, Infallible>(Response::builder().status(413).body("too much".into()).unwrap())
        }));
        let http = stage.client.http();
        let request = Request::post("http://server/").body(full(vec![0; 1_000_000])).unwrap();
        let answer = http.clone().oneshot(request).await;
        // As on a real network it is a race: the answer comes first here, the reset for what was not read comes second.
        assert!(answer.is_ok_and(|answer| answer.status() == 413));
        assert_eq!(get(&http, H1, "/").await.unwrap().status(), 413, "on a new connection");
    });
}

#[test]
fn what_keeps_a_request_from_being_sent_has_a_type() {
    play(|stage| async move {
        let http = stage.client.http();
        assert_eq!(get(&http, H1, "/").await.unwrap_err(), TransportError::Refused);
        let nowhere = Request::get("http://nowhere/").body(empty()).unwrap();
        let nowhere = http.clone().oneshot(nowhere).await.unwrap_err();
        assert_eq!(nowhere, TransportError::Dns { host: "nowhere".to_owned() });
        stage.server.node().crash();
        assert_eq!(get(&http, H1, "/").await.unwrap_err(), TransportError::TimedOut);
        let relative = http.oneshot(Request::get("/path").body(empty()).unwrap()).await.unwrap_err();
        assert!(matches!(relative, TransportError::Protocol(_)));
    });
}

#[test]
fn a_request_to_a_host_that_died_times_out_when_its_caller_waits_long_enough() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        get_all(&http, H1, "/").await.unwrap();
        stage.server.node().crash();
        assert_eq!(get(&http, H1, "/").await.unwrap_err(), TransportError::TimedOut);
    });
}

#[test]
fn the_idle_connections_of_a_process_end_with_it() {
    play(|stage| async move {
        stage.serve_router(hello());
        let http = stage.client.http();
        join_all((0..3).map(|_| get_all(&http, H1, "/"))).await;
        assert_eq!(stage.connections(), 3);
        stage.client.kill();
        stage.sleep(millis(100)).await;
        assert_eq!(stage.connections(), 0, "although somebody still has a handle to the process and its client");
        drop(http);
    });
}
