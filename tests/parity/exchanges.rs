//! What a client of HTTP sees of servers that end their connections in every way.

use futures_util::future::{join, join_all};
use http::{Request, Version};
use squall_protocol::http::{empty, read};
use squall_protocol::{Http, TransportError};
use tower::ServiceExt;

use crate::ground::{Ground, Listens, Seen, Stream, Wire, same_on_both_grounds};

/// How a server by hand ends a connection.
#[derive(Clone, Copy)]
enum End {
    Close,
    Reset,
}

async fn asks(http: &Http, url: &str) -> String {
    let request = Request::get(url).version(Version::HTTP_11).body(empty()).unwrap();
    let told = |error: TransportError| format!("{error:?}");
    match http.clone().oneshot(request).await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let body = read(answer.into_body(), 1 << 20).await;
            format!("{status} {}", body.map_or_else(told, |body| String::from_utf8_lossy(&body).into_owned()))
        }
        Err(error) => told(error),
    }
}

async fn reads_head(stream: &mut impl Wire) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(8192).await {
            Ok(more) if !more.is_empty() => head.extend_from_slice(&more),
            _ => return false,
        }
    }
    true
}

/// One request, answered with these bytes and then this end.
async fn answered<G: Ground>(ground: G, answer: &'static str, end: End) -> Seen {
    let mut listener = ground.listen().await;
    let url = listener.url();
    let serving = async {
        let mut stream = listener.accept().await;
        assert!(reads_head(&mut stream).await);
        stream.write(answer.as_bytes()).await.unwrap();
        ground.settle().await;
        match end {
            End::Close => drop(stream),
            End::Reset => stream.reset(),
        }
    };
    let http = ground.http();
    let (seen, ()) = join(asks(&http, &url), serving).await;
    vec![seen]
}

async fn complete(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", End::Close).await
}
same_on_both_grounds!(a_body_of_its_length_is_complete, complete, ["200 hello"]);

async fn short(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", End::Close).await
}
same_on_both_grounds!(a_body_shorter_than_its_length_is_closed_early, short, ["200 ClosedEarly"]);

async fn without_last_chunk(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n", End::Close).await
}
same_on_both_grounds!(a_chunked_body_without_its_last_chunk_is_closed_early, without_last_chunk, ["200 ClosedEarly"]);

async fn until_close(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\n\r\nuntil I close", End::Close).await
}
same_on_both_grounds!(a_body_without_a_length_ends_with_the_connection, until_close, ["200 until I close"]);

async fn reset_in_length(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", End::Reset).await
}
same_on_both_grounds!(a_reset_within_a_body_of_some_length_is_a_reset, reset_in_length, ["200 Reset"]);

async fn reset_in_chunks(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n", End::Reset).await
}
same_on_both_grounds!(a_reset_within_a_chunked_body_is_a_reset, reset_in_chunks, ["200 Reset"]);

async fn reset_until_close(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\n\r\nuntil I close", End::Reset).await
}
same_on_both_grounds!(a_reset_is_not_the_end_of_a_body_without_a_length, reset_until_close, ["200 Reset"]);

async fn no_answer(ground: impl Ground) -> Seen {
    answered(ground, "", End::Close).await
}
same_on_both_grounds!(a_connection_that_closes_without_an_answer_is_closed_early, no_answer, ["ClosedEarly"]);

async fn reset_answer(ground: impl Ground) -> Seen {
    answered(ground, "", End::Reset).await
}
same_on_both_grounds!(a_reset_in_place_of_an_answer_is_a_reset, reset_answer, ["Reset"]);

async fn half_a_head(ground: impl Ground) -> Seen {
    answered(ground, "HTTP/1.1 200 OK\r\ncontent-", End::Close).await
}
same_on_both_grounds!(half_a_head_is_closed_early, half_a_head, ["ClosedEarly"]);

async fn not_http(ground: impl Ground) -> Seen {
    answered(ground, "220 mail.example ESMTP\r\n\r\n", End::Close).await
}
same_on_both_grounds!(what_is_not_http_breaks_the_protocol, not_http, [r#"Protocol("invalid HTTP version parsed")"#]);

/// Serves connections by hand, one after the other: each gets an answer to each request that comes, until the server
/// closes it after so many. Tells how many connections it saw.
async fn serves<G: Ground>(ground: &G, listener: &mut G::Listener, per_connection: usize, requests: usize) -> usize {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let (mut connections, mut served) = (0, 0);
    while served < requests {
        let mut stream: Stream<G> = listener.accept().await;
        connections += 1;
        for _ in 0..per_connection.min(requests - served) {
            if !reads_head(&mut stream).await {
                break;
            }
            stream.write(answer).await.unwrap();
            served += 1;
        }
        ground.settle().await;
    }
    connections
}

async fn asks_in_turn<G: Ground>(ground: G, per_connection: usize) -> Seen {
    let mut listener = ground.listen().await;
    let (url, http) = (listener.url(), ground.http());
    let asking = async {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(asks(&http, &url).await);
            // An idle connection is closed in the meantime, or not.
            ground.settle().await;
            ground.settle().await;
        }
        seen
    };
    let (mut seen, connections) = join(asking, serves(&ground, &mut listener, per_connection, 3)).await;
    seen.push(format!("{connections} connections"));
    seen
}

async fn kept_open(ground: impl Ground) -> Seen {
    asks_in_turn(ground, 3).await
}
same_on_both_grounds!(
    sequential_requests_share_a_connection,
    kept_open,
    ["200 hello", "200 hello", "200 hello", "1 connections"]
);

async fn closed_while_idle(ground: impl Ground) -> Seen {
    asks_in_turn(ground, 1).await
}
same_on_both_grounds!(
    an_idle_connection_that_the_server_closed_is_not_used,
    closed_while_idle,
    ["200 hello", "200 hello", "200 hello", "3 connections"]
);

async fn asks_at_once(ground: impl Ground) -> Seen {
    let mut listener = ground.listen().await;
    let (url, http) = (listener.url(), ground.http());
    let serving = async {
        let (mut one, mut two) = (listener.accept().await, listener.accept().await);
        for stream in [&mut one, &mut two] {
            assert!(reads_head(stream).await);
            stream.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        }
        ground.settle().await;
    };
    let (seen, ()) = join(join_all([asks(&http, &url), asks(&http, &url)]), serving).await;
    seen
}
same_on_both_grounds!(parallel_requests_have_a_connection_each, asks_at_once, ["200 hello", "200 hello"]);

async fn drops_a_body(ground: impl Ground) -> Seen {
    let mut listener = ground.listen().await;
    let (url, http) = (listener.url(), ground.http());
    let serving = async {
        let mut stream = listener.accept().await;
        assert!(reads_head(&mut stream).await);
        stream.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nsome").await.unwrap();
        match stream.read(1).await {
            Ok(bytes) if bytes.is_empty() => "the server reads the end".to_owned(),
            other => format!("{other:?}"),
        }
    };
    let asking = async {
        let request = Request::get(url).body(empty()).unwrap();
        let answer = http.oneshot(request).await.unwrap();
        ground.settle().await;
        drop(answer);
    };
    let (seen, ()) = join(serving, asking).await;
    vec![seen]
}
same_on_both_grounds!(a_dropped_body_closes_its_connection, drops_a_body, ["the server reads the end"]);
