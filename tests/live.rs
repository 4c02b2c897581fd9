//! What only the live side has: a server that stops in order, and real time.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures_util::future::join;
use http::{Request, Version};
use squall_protocol::clock::timeout;
use squall_protocol::http::{empty, read};
use squall_protocol::live::{self, LiveClock};
use squall_protocol::{Clock, Http, Shutdown, TransportError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::ServiceExt;

/// Far longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn asks(http: &Http, version: Version, url: String) -> Result<String, TransportError> {
    let request = Request::get(url).version(version).body(empty()).unwrap();
    let answer = http.clone().oneshot(request).await?;
    Ok(String::from_utf8_lossy(&read(answer.into_body(), 1000).await?).into_owned())
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_answers_what_it_has_begun_and_takes_nothing_more() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let clock = LiveClock::start();
        let (begun, began) = oneshot::channel();
        let (finish, finished) = oneshot::channel::<()>();
        let once = std::sync::Arc::new(std::sync::Mutex::new(Some((begun, finished))));
        let slow = get(move || async move {
            let (begun, finished) = once.lock().unwrap().take().expect("it is asked once");
            begun.send(()).unwrap();
            finished.await.unwrap();
            "finished"
        });
        let router = Router::new().route("/slow", slow).route("/", get(|| async { "hello" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, asked) = oneshot::channel::<()>();
        let serving = live::serve(listener, router, Shutdown::when(async move { drop(asked.await) }));
        let http = live::http();
        let asking = async {
            // Leaves an idle connection behind, which must not keep the server.
            assert_eq!(asks(&http, version, format!("{url}/")).await.unwrap(), "hello");
            let stopping = async {
                began.await.unwrap();
                stop.send(()).unwrap();
                clock.sleep(Duration::from_millis(50)).await;
                let refused = asks(&live::http(), version, format!("{url}/")).await;
                assert_eq!(refused, Err(TransportError::Refused), "{version:?}");
                finish.send(()).unwrap();
            };
            let (answer, ()) = join(asks(&http, version, format!("{url}/slow")), stopping).await;
            assert_eq!(answer.unwrap(), "finished");
        };
        timeout(&clock, PATIENCE, join(serving, asking)).await.expect("the server ends");
    }
}

#[tokio::test]
async fn the_live_clock_tells_real_time() {
    let clock = LiveClock::start();
    let (wall, mono) = (clock.wall(), clock.mono());
    clock.sleep(Duration::from_millis(30)).await;
    let slept = clock.mono().since(mono);
    assert!(slept >= Duration::from_millis(30) && slept < PATIENCE, "{slept:?}");
    assert!(clock.wall() > wall);
    assert!(wall.as_second() > 1_700_000_000);
}

#[tokio::test]
async fn a_live_sleep_of_zero_gives_others_a_turn() {
    let clock = LiveClock::start();
    let turns = std::cell::RefCell::new(Vec::new());
    let takes_turns = |name: char| {
        let (clock, turns) = (&clock, &turns);
        async move {
            for _ in 0..3 {
                turns.borrow_mut().push(name);
                clock.sleep(Duration::ZERO).await;
            }
        }
    };
    join(takes_turns('a'), takes_turns('b')).await;
    assert_eq!(*turns.borrow(), ['a', 'b', 'a', 'b', 'a', 'b']);
}

#[tokio::test]
async fn the_live_client_speaks_http_only() {
    let asked = asks(&live::http(), Version::HTTP_11, "https://localhost/".to_owned()).await;
    assert!(matches!(&asked, Err(TransportError::Protocol(why)) if why.contains("https")), "{asked:?}");
}

#[tokio::test]
async fn a_server_without_a_port_is_refused_by_every_address_of_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let asked = asks(&live::http(), Version::HTTP_11, format!("http://localhost:{port}/")).await;
    assert_eq!(asked, Err(TransportError::Refused));
}
