//! The router driven in-process by raw requests, on a clock that the test moves.

mod discovery;
mod garbage;
mod leases;
mod plans;
mod sessions;
mod standing;
mod tokens;
mod v1;
mod v2;
mod walk;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use event_listener::Event;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use super::*;
use crate::clock::Mono;
use crate::distributed_task::wire::{ASSERTION_TYPE, GRANT_TYPE, TokenRequest};
use crate::facts::Fact;
use crate::http::Receipt;
use crate::jwt::{Algorithm, PrivateKey, Signer};

/// A clock that stands still until it is advanced.
#[derive(Default)]
struct Hands {
    passed: Mutex<Duration>,
    moved: Event,
}

#[derive(Clone, Default)]
struct TestClock(Arc<Hands>);

const START: i64 = 1_700_000_000;

impl TestClock {
    fn passed(&self) -> Duration {
        *self.0.passed.lock().unwrap()
    }

    fn advance(&self, seconds: u64) {
        *self.0.passed.lock().unwrap() += Duration::from_secs(seconds);
        self.0.moved.notify(usize::MAX);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_second(START).unwrap() + self.passed()
    }

    fn mono(&self) -> Mono {
        Mono::from_start(self.passed())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (clock, until) = (self.clone(), self.passed() + duration);
        Box::pin(async move {
            loop {
                let moved = clock.0.moved.listen();
                if clock.passed() >= until {
                    return;
                }
                moved.await;
            }
        })
    }
}

#[derive(Clone, Default)]
struct Facts(Arc<Mutex<Vec<Fact>>>);

impl Ledger for Facts {
    fn record(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }
}

fn random(seed: u64) -> Random {
    Box::new(ChaCha8Rng::seed_from_u64(seed))
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// What is true once it has arrived.
    arrived: Vec<Fact>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body, after the status has been checked.
    #[track_caller]
    fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// An error of V1 with this status and type key.
    #[track_caller]
    fn expect_error(&self, status: u16, key: &str) {
        let body = self.expect(status);
        assert_eq!((&body["typeKey"], &body["$id"]), (&json!(key), &json!("1")), "{body}");
        assert!(body["typeName"].as_str().unwrap().contains(key));
    }

    /// An error of the broker with this status and kind.
    #[track_caller]
    fn expect_broker_error(&self, status: u16, kind: &str) {
        let body = self.expect(status);
        assert_eq!(body["source"], "actions-broker-listener");
        assert_eq!((&body["errorKind"], &body["statusCode"]), (&json!(kind), &json!(status)));
    }

    /// An error of the run service with this status.
    #[track_caller]
    fn expect_run_error(&self, status: u16) {
        let body = self.expect(status);
        assert_eq!((&body["source"], &body["statusCode"]), (&json!("actions-run-service"), &json!(status)));
    }
}

/// A server with its surroundings.
struct Bench {
    server: Server,
    router: Router,
    clock: TestClock,
    facts: Facts,
}

/// An agent with a token.
struct Member {
    is: Registered,
    signer: Signer,
    token: String,
}

impl Bench {
    fn new(policy: Policy, change: impl FnOnce(&mut Parameters)) -> Self {
        let mut parameters = Parameters::new(Addresses::on("http://server"));
        parameters.admin_token = Some("admin".into());
        change(&mut parameters);
        let (clock, facts) = (TestClock::default(), Facts::default());
        let server = Server::new(parameters, policy, Arc::new(clock.clone()), Arc::new(facts.clone()), random(1));
        Self { router: server.router(), server, clock, facts }
    }

    fn upstream() -> Self {
        Self::new(Policy::upstream(), |_| ())
    }

    fn hardened() -> Self {
        Self::new(Policy::hardened(), |_| ())
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let arrived = parts.extensions.get().map(|Receipt(facts)| facts.clone()).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, body, arrived }
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, "").await
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::POST, path, token, body.to_string()).await
    }

    async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call(Method::DELETE, path, token, "").await
    }

    /// Registers an agent and gets it a token.
    async fn member(&self, name: &str, flow: Flow, encryption: Encryption) -> Member {
        self.member_for(name, flow, encryption, Lifetime::Persistent).await
    }

    async fn member_for(&self, name: &str, flow: Flow, encryption: Encryption, lifetime: Lifetime) -> Member {
        let key = PrivateKey::generate(576, &mut random(name.len() as u64)).unwrap();
        let (name, public_key) = (name.to_owned(), key.public());
        let is = self.server.register(Registration { name, pool: 1, flow, encryption, lifetime, public_key });
        let mut member = Member { is, signer: Signer::new(key, Algorithm::Ps256), token: String::new() };
        let granted = self.ask_for_token(&member, self.clock.wall()).await.expect(200);
        member.token = granted["access_token"].as_str().unwrap().into();
        member
    }

    /// Asks for a token with an assertion that begins at `from`.
    async fn ask_for_token(&self, member: &Member, from: Timestamp) -> Answer {
        let (audience, life) = (&member.is.authorization_url, Duration::from_secs(300));
        let assertion = member.signer.assertion(member.is.client_id, audience, from, life, &mut random(7));
        self.form(&assertion).await
    }

    async fn form(&self, assertion: &str) -> Answer {
        let form = TokenRequest {
            grant_type: GRANT_TYPE.into(),
            client_assertion_type: ASSERTION_TYPE.into(),
            client_assertion: assertion.into(),
        };
        let body = Body::from(serde_urlencoded::to_string(form).unwrap());
        self.send(Request::post("/_apis/oauth2/token").body(body).unwrap()).await
    }

    /// A V1 agent with a session.
    async fn v1(&self, name: &str) -> (Member, Uuid) {
        let member = self.member(name, Flow::V1, Encryption::Plain).await;
        let opened = self.post(SESSIONS, &member.token, session_of(&member, "host (PID: 1)")).await.expect(200);
        let session = opened["sessionId"].as_str().unwrap().parse().unwrap();
        (member, session)
    }

    /// A V2 agent with a session.
    async fn v2(&self, name: &str) -> (Member, Uuid) {
        self.v2_for(name, Lifetime::Persistent).await
    }

    async fn v2_for(&self, name: &str, lifetime: Lifetime) -> (Member, Uuid) {
        let member = self.member_for(name, Flow::V2, Encryption::Plain, lifetime).await;
        let opened = self.open_v2(&member).await.expect(200);
        let session = opened["sessionId"].as_str().unwrap().parse().unwrap();
        (member, session)
    }

    async fn open_v2(&self, member: &Member) -> Answer {
        self.post("/broker/session", &member.token, session_of(member, "host (PID: 1)")).await
    }

    /// What a V2 agent gets from its next poll.
    async fn reference(&self, member: &Member, session: Uuid) -> Value {
        let message = self.get(&format!("/broker/message?sessionId={session}&status=Online"), &member.token).await;
        serde_json::from_str(message.expect(200)["body"].as_str().unwrap()).unwrap()
    }

    /// The job that a V2 agent gets for a reference.
    async fn acquire(&self, member: &Member, reference: &Value) -> Answer {
        let asked = json!({"jobMessageId": reference["runner_request_id"]});
        self.post("/run/acquirejob", &member.token, asked).await
    }

    fn queue(&self, name: &str) -> Uuid {
        self.server.queue_job(JobSpec::named(name))
    }

    fn phase(&self, job: usize) -> &'static str {
        self.server.snapshot().jobs[job].phase
    }

    /// The facts that `which` picks, so far.
    fn facts<R>(&self, which: impl Fn(&Fact) -> Option<R>) -> Vec<R> {
        self.facts.0.lock().unwrap().iter().filter_map(which).collect()
    }

    fn count(&self, which: impl Fn(&Fact) -> bool) -> usize {
        self.facts(|fact| which(fact).then_some(())).len()
    }
}

const SESSIONS: &str = "/tenant/_apis/distributedtask/pools/1/sessions";
const MESSAGES: &str = "/tenant/_apis/distributedtask/pools/1/messages";
const AGENTS: &str = "/tenant/_apis/distributedtask/pools/1/agents";
const REQUESTS: &str = "/tenant/_apis/distributedtask/pools/1/jobrequests";

fn session_of(member: &Member, owner: &str) -> Value {
    json!({"ownerName": owner, "agent": {"id": member.is.agent_id, "name": "a", "version": "2.336.0"}})
}
