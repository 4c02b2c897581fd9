//! The gateway before a plain tower service: no world, no network, no runtime.

use std::convert::Infallible;
use std::fmt::Arguments;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use jiff::Timestamp;
use squall_protocol::{Clock, Mono};
use squall_sim::effects::{Effects, FaultId};
use squall_sim::fault::{Fault, FaultKind, RetryAfter, Target, When};
use squall_sim::gateway::{BoxError, ConnectionControl, GatewayLayer, Rules, Witness};
use squall_sim::random::Streams;
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};

/// A clock on which every sleep is over at once, or none ever is.
#[derive(Default)]
struct StoppedClock {
    slept: Mutex<Vec<Duration>>,
    sleeps_for_ever: AtomicBool,
}

impl Clock for StoppedClock {
    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
    fn mono(&self) -> Mono {
        Mono::default()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.slept.lock().unwrap().push(duration);
        if self.sleeps_for_ever.load(Ordering::Relaxed) { future::pending().boxed() } else { future::ready(()).boxed() }
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<(FaultId, String, String)>>);

impl Witness for Notes {
    fn saw(&self, fault: FaultId, kind: &str, what: Arguments<'_>) {
        self.0.lock().unwrap().push((fault, kind.to_owned(), what.to_string()));
    }
}

struct Server {
    rules: Rules,
    effects: Effects,
    clock: Arc<StoppedClock>,
    notes: Arc<Notes>,
    served: Arc<AtomicU64>,
}

impl Server {
    fn new(clock: StoppedClock) -> Self {
        let effects = Effects::default();
        let rules = Rules::new(Streams::new(1), effects.clone());
        Self { rules, effects, clock: Arc::new(clock), notes: Arc::default(), served: Arc::default() }
    }

    fn with(kind: FaultKind) -> Self {
        let server = Self::new(StoppedClock::default());
        assert!(server.rules.impose(0, &fault(kind)));
        server
    }

    fn service(&self) -> BoxCloneService<Request<Body>, Response<Body>, BoxError> {
        self.behind(self.gateway())
    }

    fn gateway(&self) -> GatewayLayer {
        GatewayLayer::new("api", self.rules.clone(), self.clock.clone()).witnessed_by(self.notes.clone())
    }

    fn behind(&self, gateway: GatewayLayer) -> BoxCloneService<Request<Body>, Response<Body>, BoxError> {
        let served = self.served.clone();
        let inner = tower::service_fn(move |_: Request<Body>| {
            served.fetch_add(1, Ordering::Relaxed);
            future::ready(Ok::<_, Infallible>(Response::new(Body::from("0123456789"))))
        });
        gateway.layer(inner).boxed_clone()
    }

    /// Asks at once; `None` when the answer is held back.
    fn asked(&self, request: Request<Body>) -> Option<Result<Response<Body>, BoxError>> {
        self.service().oneshot(request).now_or_never()
    }

    fn answer(&self) -> Result<Response<Body>, BoxError> {
        self.asked(request(Version::HTTP_11)).expect("nothing is held back")
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, target: Target { node: Some("api".to_owned()), ..Target::default() }, at_ms: 0, for_ms: 1 }
}

fn request(version: Version) -> Request<Body> {
    Request::builder().uri("/jobs?next=1").version(version).body(Body::empty()).unwrap()
}

/// What of a body comes at once, and whether it ended well, broke off, or is silent.
fn read(body: Body) -> (String, &'static str) {
    let (mut body, mut text) = (body, String::new());
    loop {
        match body.frame().now_or_never() {
            Some(Some(Ok(frame))) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
            Some(Some(Err(_))) => return (text, "broken"),
            Some(None) => return (text, "whole"),
            None => return (text, "silent"),
        }
    }
}

#[test]
fn without_rules_everything_passes() {
    let server = Server::new(StoppedClock::default());
    assert_eq!(read(server.answer().unwrap().into_body()), ("0123456789".to_owned(), "whole"));
    assert_eq!(server.served(), 1);
}

#[test]
fn a_rule_acts_until_it_is_lifted_and_tells_its_witness() {
    let retry_after = Some(RetryAfter::Date(5));
    let server = Server::with(FaultKind::Status { status: 429, when: When::BeforeCommit, retry_after, percent: 100 });
    let answer = server.answer().unwrap();
    assert_eq!((answer.status().as_u16(), server.served()), (429, 0));
    assert_eq!(answer.headers()["retry-after"], "Thu, 01 Jan 1970 00:00:05 GMT");
    server.rules.lift(0);
    assert_eq!((server.answer().unwrap().status().as_u16(), server.served()), (200, 1));
    let told = (0, "status".to_owned(), "429 in place of the server to /jobs?next=1".to_owned());
    assert_eq!((&server.notes.0.lock().unwrap()[..], server.effects.of(0)), (&[told][..], 1));
}

#[test]
fn only_kinds_of_the_gateway_are_taken() {
    let rules = Rules::new(Streams::new(1), Effects::default());
    assert!(!rules.impose(0, &fault(FaultKind::Crash)));
    assert!(rules.impose(0, &fault(FaultKind::LoginPage { percent: 1 })));
}

#[test]
fn what_ends_a_stream_is_an_error_with_the_code_among_its_causes() {
    let reset = Server::with(FaultKind::StreamReset { code: 0xb, when: When::BeforeCommit, percent: 100 });
    let error = reset.answer().unwrap_err();
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()).unwrap();
    assert_eq!(cause.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    let dropped = Server::with(FaultKind::DropReply { percent: 100 });
    assert_eq!(dropped.answer().unwrap_err().to_string(), "the gateway dropped the reply");
    assert_eq!((reset.served(), dropped.served()), (0, 1));
}

#[test]
fn bodies_break_off_or_fall_silent_after_so_many_bytes() {
    for (kind, end) in [
        (FaultKind::Truncate { bytes: 4, percent: 100 }, "broken"),
        (FaultKind::Stall { bytes: 4, percent: 100 }, "silent"),
    ] {
        let server = Server::with(kind);
        let answer = server.answer().unwrap();
        assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(10), "the head is that of the whole");
        assert_eq!(server.effects.of(0), 0, "nothing is cut yet");
        assert_eq!(read(answer.into_body()), ("0123".to_owned(), end));
        assert_eq!(server.effects.of(0), 1);
    }
}

#[test]
fn a_body_under_way_is_whole_when_its_fault_ends_first() {
    let server = Server::with(FaultKind::Truncate { bytes: 4, percent: 100 });
    let answer = server.answer().unwrap();
    server.rules.lift(0);
    assert_eq!(read(answer.into_body()), ("0123456789".to_owned(), "whole"));
}

#[test]
fn answers_are_held_back_by_the_clock_until_all_is_healed() {
    let server = Server::with(FaultKind::Delay { by_ms: 1_500, percent: 100 });
    assert_eq!(server.answer().unwrap().status(), 200);
    assert_eq!(*server.clock.slept.lock().unwrap(), [Duration::from_millis(1_500)]);

    let held = Server::new(StoppedClock { sleeps_for_ever: true.into(), ..StoppedClock::default() });
    held.rules.impose(0, &fault(FaultKind::Delay { by_ms: 1_500, percent: 100 }));
    held.rules.impose(1, &fault(FaultKind::DropReply { percent: 100 }));
    let mut answer = Box::pin(held.service().oneshot(request(Version::HTTP_11)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut cx).is_pending());
    held.rules.lift(0);
    assert!(answer.as_mut().poll(&mut cx).is_pending(), "held back for its time");
    held.clock.sleeps_for_ever.store(false, Ordering::Relaxed);
    held.rules.heal();
    let Poll::Ready(Ok(answer)) = answer.as_mut().poll(&mut cx) else { panic!("still held back, or dropped") };
    assert_eq!(held.clock.slept.lock().unwrap().last(), Some(&Duration::from_millis(375)), "a quarter of what is left");
    assert_eq!((answer.status().as_u16(), held.effects.of(0), held.effects.of(1)), (200, 1, 0));
}

const LATE: FaultKind = FaultKind::Late { by_ms: 1_500, percent: 100 };

#[test]
fn a_late_request_waits_before_the_server_and_its_answer_is_like_any_other() {
    let server = Server::with(LATE);
    server.rules.impose(1, &fault(FaultKind::Truncate { bytes: 4, percent: 100 }));
    server.rules.impose(2, &fault(LATE));
    let answer = server.answer().unwrap();
    let by = Duration::from_millis(1_500);
    assert_eq!((server.served(), &server.clock.slept.lock().unwrap()[..]), (1, &[by, by][..]));
    assert_eq!(read(answer.into_body()), ("0123".to_owned(), "broken"));
    let told = (0, "late".to_owned(), "request to /jobs?next=1 held back for 1500 ms".to_owned());
    assert_eq!(
        (server.notes.0.lock().unwrap().first(), server.effects.of(0), server.effects.of(2)),
        (Some(&told), 1, 1)
    );
}

#[test]
fn what_the_gateway_answers_itself_is_not_held_back() {
    let server = Server::with(LATE);
    let busy = FaultKind::Status { status: 503, when: When::BeforeCommit, retry_after: None, percent: 100 };
    server.rules.impose(1, &fault(busy));
    assert_eq!(server.answer().unwrap().status(), 503);
    assert_eq!((server.served(), server.effects.of(0), server.effects.of(1)), (0, 0, 1));
}

#[test]
fn a_late_request_is_carried_on_without_its_caller_where_somebody_carries_it() {
    let held = Server::new(StoppedClock { sleeps_for_ever: true.into(), ..StoppedClock::default() });
    held.rules.impose(0, &fault(LATE));
    let carried = Arc::new(Mutex::new(Vec::<BoxFuture<'static, ()>>::new()));
    let carrier = carried.clone();
    let carrying = held.gateway().carried_by(move |request| carrier.lock().unwrap().push(request));
    let mut cx = Context::from_waker(Waker::noop());
    for service in [held.service(), held.behind(carrying)] {
        let mut asked = Box::pin(service.oneshot(request(Version::HTTP_11)));
        assert!(asked.as_mut().poll(&mut cx).is_pending());
    }
    let mut carried = std::mem::take(&mut *carried.lock().unwrap());
    assert_eq!(carried.len(), 1, "the other went with its caller");
    assert!(carried[0].as_mut().poll(&mut cx).is_pending());
    held.clock.sleeps_for_ever.store(false, Ordering::Relaxed);
    held.rules.heal();
    assert!(carried[0].as_mut().poll(&mut cx).is_ready());
    assert_eq!(held.served(), 1);
    let last = held.notes.0.lock().unwrap().last().unwrap().2.clone();
    assert_eq!(last, "request to /jobs?next=1 goes on without its caller");
    assert_eq!(held.effects.of(0), 2, "what it says of one exchange twice it counts once");
}

#[test]
fn a_request_whose_carrier_drops_it_is_lost() {
    let server = Server::with(LATE);
    let dropping = server.gateway().carried_by(drop);
    let answer = server.behind(dropping).oneshot(request(Version::HTTP_11)).now_or_never().unwrap();
    assert_eq!((answer.unwrap_err().to_string(), server.served()), ("the gateway lost the request".to_owned(), 0));
}

#[test]
fn a_connection_is_wound_down_through_its_handle() {
    let server = Server::with(FaultKind::GoAway { percent: 100 });
    assert_eq!(server.answer().unwrap().headers()["connection"], "close");
    let control = ConnectionControl::new("agent");
    let mut asked = request(Version::HTTP_2);
    asked.extensions_mut().insert(control.clone());
    assert!(!control.poll_winding_down(&mut Context::from_waker(Waker::noop())));
    server.asked(asked).unwrap().unwrap();
    assert!(control.poll_winding_down(&mut Context::from_waker(Waker::noop())));
    assert_eq!(server.effects.of(0), 2);
    server.asked(request(Version::HTTP_2)).unwrap().unwrap();
    assert_eq!(server.effects.of(0), 2, "without a handle nothing can be done, and nothing is claimed");
}

#[test]
fn faults_act_on_one_answer_in_the_order_of_the_plan() {
    let server = Server::new(StoppedClock::default());
    server.rules.impose(1, &fault(FaultKind::Truncate { bytes: 7, percent: 100 }));
    let replaced = FaultKind::Status { status: 502, when: When::AfterCommit, retry_after: None, percent: 100 };
    server.rules.impose(0, &fault(replaced));
    let answer = server.answer().unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(read(answer.into_body()), ("<html>\n".to_owned(), "broken"));
}
