//! One agent, one server, one conversation; on both grounds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use http::{Request, StatusCode, Version};
use http_body_util::BodyExt;
use squall_protocol::clock::timeout;
use squall_protocol::http::{empty, full, read};
use squall_protocol::{Clock, Http, TransportError};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use crate::ground::{Ground, Listens, Seen, Service, same_on_both_grounds};

/// A server with something of everything.
fn server(clock: Arc<dyn Clock>) -> Service {
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|Json(sent): Json<serde_json::Value>| async move { Json(sent) }))
        .route("/count", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/stream", get(streams))
        .route("/breaks", get(breaks))
        .route("/poll", get(polls))
        .route("/busy", any(|| async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "later") }))
        .with_state(clock);
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let router = router.clone();
        async move {
            match request.uri().path() {
                "/fails" => Err("the handler failed"),
                _ => Ok(router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {})),
            }
        }
    }))
}

#[derive(serde::Deserialize)]
struct Wait {
    wait_ms: u64,
}

async fn polls(State(clock): State<Arc<dyn Clock>>, Query(Wait { wait_ms }): Query<Wait>) -> impl IntoResponse {
    clock.sleep(Duration::from_millis(wait_ms)).await;
    "a message"
}

async fn streams(State(clock): State<Arc<dyn Clock>>) -> Body {
    Body::from_stream(stream::unfold(0, move |line| {
        let clock = clock.clone();
        async move {
            clock.sleep(Duration::from_millis(20)).await;
            (line < 3).then(|| (Ok::<_, Infallible>(format!("line {line}\n")), line + 1))
        }
    }))
}

async fn breaks(State(clock): State<Arc<dyn Clock>>) -> Body {
    let parts = [Ok("part"), Err("the source of the body failed")];
    Body::from_stream(stream::iter(parts).then(move |part| {
        let pause = clock.sleep(Duration::from_millis(20));
        async move {
            pause.await;
            part
        }
    }))
}

/// The agent: it knows a clock, a client, and where its server is.
struct Agent<'a> {
    clock: &'a dyn Clock,
    http: Http,
    version: Version,
}

impl Agent<'_> {
    async fn converse(&self, server: &str, closed: &str) -> Seen {
        vec![
            self.gets(server, "/hello").await,
            self.posts(server, "/echo", r#"{"agent":"one"}"#.as_bytes().into()).await,
            self.posts(server, "/count", vec![7; 300_000]).await,
            self.gets(server, "/missing").await,
            self.gets(server, "/busy").await,
            self.reads_stream(server, "/stream").await,
            self.reads_stream(server, "/breaks").await,
            self.polls(server, 60_000, Duration::from_millis(100)).await,
            self.polls(server, 50, Duration::from_secs(60)).await,
            self.does_two_things_at_once(server).await,
            self.gets(server, "/fails").await,
            self.gets(server, "/hello").await,
            self.gets(closed, "/hello").await,
            self.gets(&format!("http://{}.invalid", "a".repeat(64)), "/hello").await,
            self.gets("", "/hello").await,
        ]
    }

    async fn gets(&self, server: &str, path: &str) -> String {
        let request = Request::get(format!("{server}{path}")).version(self.version).body(empty()).unwrap();
        self.asks(request).await
    }

    async fn posts(&self, server: &str, path: &str, body: Vec<u8>) -> String {
        let request = Request::post(format!("{server}{path}")).version(self.version);
        let request = request.header("content-type", "application/json").body(full(body)).unwrap();
        self.asks(request).await
    }

    async fn polls(&self, server: &str, wait_ms: u64, patience: Duration) -> String {
        let path = format!("/poll?wait_ms={wait_ms}");
        let answered = timeout(self.clock, patience, self.gets(server, &path)).await;
        answered.unwrap_or_else(|timeout| timeout.to_string())
    }

    async fn does_two_things_at_once(&self, server: &str) -> String {
        let began = self.clock.mono();
        let both =
            join(self.polls(server, 400, Duration::from_secs(60)), self.polls(server, 400, Duration::from_secs(60)));
        let (one, two) = both.await;
        let together = self.clock.mono().since(began) < Duration::from_millis(790);
        format!("{one}, {two}, at once: {together}")
    }

    async fn reads_stream(&self, server: &str, path: &str) -> String {
        let request = Request::get(format!("{server}{path}")).version(self.version).body(empty()).unwrap();
        let mut body = self.http.clone().oneshot(request).await.unwrap().into_body();
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    // HTTP/2 may end a body with an empty frame.
                    let data = frame.into_data().unwrap();
                    seen.extend(String::from_utf8_lossy(&data).lines().map(str::to_owned));
                }
                Err(error) => {
                    seen.push(format!("{error:?}"));
                    break;
                }
            }
        }
        seen.join("; ")
    }

    async fn asks(&self, request: Request<squall_protocol::Body>) -> String {
        let told = |error: TransportError| format!("{error:?}");
        match self.http.clone().oneshot(request).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                let after =
                    head.headers.get("retry-after").map(|after| format!(" after {} s", after.to_str().unwrap()));
                let body = read(body, 1000).await.map_or_else(told, |body| String::from_utf8_lossy(&body).into_owned());
                format!("{:?} {}{} {body}", head.version, head.status.as_u16(), after.unwrap_or_default())
            }
            Err(error) => told(error),
        }
    }
}

async fn conversation(ground: impl Ground, version: Version) -> Seen {
    let server = ground.serve(server(ground.server_clock())).await;
    let closed = ground.listen().await.url();
    let clock = ground.client_clock();
    let agent = Agent { clock: &*clock, http: ground.http(), version };
    agent.converse(&server, &closed).await
}

async fn over_http1(ground: impl Ground) -> Seen {
    conversation(ground, Version::HTTP_11).await
}
same_on_both_grounds!(
    a_conversation_over_http1,
    over_http1,
    [
        "HTTP/1.1 200 hello",
        r#"HTTP/1.1 200 {"agent":"one"}"#,
        "HTTP/1.1 200 300000",
        "HTTP/1.1 404 ",
        "HTTP/1.1 429 after 7 s later",
        "line 0; line 1; line 2",
        "part; ClosedEarly",
        "no answer within 100ms",
        "HTTP/1.1 200 a message",
        "HTTP/1.1 200 a message, HTTP/1.1 200 a message, at once: true",
        "ClosedEarly",
        "HTTP/1.1 200 hello",
        "Refused",
        r#"Dns { host: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid" }"#,
        r#"Protocol("/hello names no host")"#,
    ]
);

async fn over_http2(ground: impl Ground) -> Seen {
    conversation(ground, Version::HTTP_2).await
}
same_on_both_grounds!(
    a_conversation_over_http2,
    over_http2,
    [
        "HTTP/2.0 200 hello",
        r#"HTTP/2.0 200 {"agent":"one"}"#,
        "HTTP/2.0 200 300000",
        "HTTP/2.0 404 ",
        "HTTP/2.0 429 after 7 s later",
        "line 0; line 1; line 2",
        "part; StreamReset { code: 2 }",
        "no answer within 100ms",
        "HTTP/2.0 200 a message",
        "HTTP/2.0 200 a message, HTTP/2.0 200 a message, at once: true",
        "StreamReset { code: 2 }",
        "HTTP/2.0 200 hello",
        "Refused",
        r#"Dns { host: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid" }"#,
        r#"Protocol("/hello names no host")"#,
    ]
);
