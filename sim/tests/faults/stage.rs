//! A server, an agent that visits it, and a plan of faults.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use squall_protocol::supervise::Always;
use squall_protocol::{Clock, Fact, Receipt, TransportError, clock, http as bodies};
use squall_sim::effects::FaultId;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target};
use squall_sim::trace::{Event, Keep};
use squall_sim::{Ended, Halt, Process, SimTime, World};
use tower::ServiceExt;

/// Faults of the tests begin at this time,
pub const BEGIN_MS: u64 = 1_000;
/// and last so long unless a test says otherwise,
pub const LAST_MS: u64 = 10_000;
/// and all is well again from here on.
pub const HEAL_MS: u64 = 60_000;
/// How large the large answers are.
pub const BIG_BYTES: usize = 10_000;

/// A fault at the usual time.
pub fn fault(kind: FaultKind, target: Target) -> Fault {
    Fault { kind, target, at_ms: BEGIN_MS, for_ms: LAST_MS }
}

pub fn plan(faults: impl Into<Vec<Fault>>) -> FaultPlan {
    FaultPlan { faults: faults.into(), heal_at_ms: HEAL_MS }
}

pub fn at_agent() -> Target {
    Target { node: Some("agent".to_owned()), ..Target::default() }
}

pub fn at_server() -> Target {
    Target { node: Some("server".to_owned()), ..Target::default() }
}

pub fn agent_to_server() -> Target {
    Target { peer: Some("server".to_owned()), ..at_agent() }
}

/// What a play came to.
pub struct Played<T> {
    pub seen: T,
    /// How many requests the server carried out.
    pub commits: u64,
    pub ended: Ended,
}

impl<T> Played<T> {
    pub fn effects(&self, fault: FaultId) -> u64 {
        self.ended.effects.of(fault)
    }
}

/// Plays a plan while an agent visits a server. After the plan has healed another visitor must be served at once.
pub fn play<T, F>(plan: &FaultPlan, visit: impl FnOnce(Visitor) -> F) -> Played<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let seen = Arc::new(Mutex::new(None));
    let (committed, healthy) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ended = squall_sim::run(11, Keep::Events, SimTime::from_millis(HEAL_MS + 3_600_000), |world| {
        furnish(world, committed.clone());
        let seen = seen.clone();
        let visitor = world.node("agent");
        visitor.start("visit", |process| {
            let visiting = visit(Visitor { process, version: Version::HTTP_11 });
            async move { *seen.lock().unwrap() = Some(visiting.await) }
        });
        healed_visit(world, healthy.clone());
        world.inject(plan).expect("the plan fits");
    });
    assert!(matches!(ended.halt, Halt::End | Halt::Idle), "{:?}", ended.halt);
    assert_eq!(healthy.load(Ordering::Relaxed), 2, "all is well after the plan has healed");
    let seen = seen.lock().unwrap().take().expect("the visit ended");
    Played { seen, commits: committed.load(Ordering::Relaxed) - 2, ended }
}

/// A server with a supervisor, as in production.
pub fn furnish(world: &World, committed: Arc<AtomicU64>) {
    let server = world.node("server");
    let app = server_app(committed, server.clock());
    server.service(
        "api",
        "server",
        || Always { delay: Duration::from_secs(1) },
        move |process| {
            let (app, asked) = (app.clone(), process.shutdown());
            async move {
                let serving = std::pin::pin!(squall_sim::http::serve(process, 80, app));
                futures_util::future::select(serving, std::pin::pin!(asked.requested())).await;
                0
            }
        },
    );
}

fn server_app(committed: Arc<AtomicU64>, clock: Arc<dyn Clock>) -> Router {
    let slow = move || {
        let slept = clock.sleep(Duration::from_secs(5));
        async move {
            slept.await;
            "slow"
        }
    };
    let chunks = || async {
        let chunks = (0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'c'; BIG_BYTES / 10])));
        Body::from_stream(stream::iter(chunks))
    };
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/other", get(|| async { "other" }))
        .route("/slow", get(slow))
        .route("/big", get(|| async { vec![b'b'; BIG_BYTES] }))
        .route("/chunked", get(chunks))
        .route("/take", post(|| async { "taken" }))
        .route("/receipt", get(|| async { (Extension(receipt()), "whole") }))
        .layer(axum::middleware::from_fn_with_state(committed, count))
}

/// What is true once an answer of `/receipt` has arrived.
pub fn receipt() -> Receipt {
    Fact::AgentDismissed { agent: "agent".into() }.into()
}

async fn count(
    State(committed): State<Arc<AtomicU64>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    committed.fetch_add(1, Ordering::Relaxed);
    next.run(request).await
}

/// A machine that no fault names comes when all is over.
fn healed_visit(world: &World, healthy: Arc<AtomicU64>) {
    let (machine, waiting) = (world.node("late-agent"), world.clone());
    machine.start("late visit", |process| async move {
        waiting.sleep_until(SimTime::from_millis(HEAL_MS + 1)).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let visitor = Visitor { process: process.clone(), version };
            let before = visitor.now_ms();
            let answer = visitor.get("/hello").await.expect("the server is well");
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
            assert!(visitor.now_ms() - before < 100, "answered after {} ms", visitor.now_ms() - before);
            healthy.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// An agent's process, and which HTTP it speaks.
#[derive(Clone)]
pub struct Visitor {
    pub process: Process,
    pub version: Version,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Why the body ended before its end.
    pub broken: Option<TransportError>,
}

impl Visitor {
    /// The same process, speaking HTTP/2.
    pub fn h2(&self) -> Visitor {
        Visitor { version: Version::HTTP_2, ..self.clone() }
    }

    pub fn now_ms(&self) -> u64 {
        self.process.node().world().now().as_millis()
    }

    /// Waits for an instant of true time.
    pub async fn until_ms(&self, at_ms: u64) {
        self.process.node().world().sleep_until(SimTime::from_millis(at_ms)).await;
    }

    pub async fn get(&self, path: &str) -> Result<Answer, TransportError> {
        self.send(Method::GET, path).await
    }

    /// Sends a request and reads the answer to its end, however long that takes.
    pub async fn send(&self, method: Method, path: &str) -> Result<Answer, TransportError> {
        let request = Request::builder().method(method).uri(format!("http://server{path}")).version(self.version);
        let request = request.body(bodies::empty()).unwrap();
        let (head, mut body) = self.process.http().oneshot(request).await?.into_parts();
        let (mut bytes, mut broken) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes.into(), broken })
    }

    /// What `work` comes to within so many milliseconds of the agent's own time.
    pub async fn within_ms<T>(&self, limit_ms: u64, work: impl Future<Output = T>) -> Option<T> {
        clock::timeout(&*self.process.clock(), Duration::from_millis(limit_ms), work).await.ok()
    }
}

/// What a trace says of a fault.
pub fn told(events: &[Event], fault: FaultId) -> Vec<(u64, String)> {
    let told = events.iter().filter_map(|event| match &event.what {
        squall_sim::trace::What::Fault { fault: of, what, .. } if *of == fault => {
            Some((event.at.as_millis(), what.clone()))
        }
        _ => None,
    });
    told.collect()
}
