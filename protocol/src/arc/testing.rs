//! The service and the listener in one room, without a network between them.

use std::sync::{Arc, Mutex};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use super::Choices;
use super::agent::{self, Configuration};
use super::cluster::Cluster;
use super::server::{Addresses, Parameters, Server};
use crate::clock::Clock;
use crate::facts::{Fact, Ledger};
use crate::http::{self as transport, Body, Http, TransportError};
use crate::line::{Line, SharedRandom};
use crate::random::Random;
use crate::supervise::Shutdown;
use crate::virtual_clock::VirtualClock;

pub(super) const SET: &str = "set";
pub(super) const CREDENTIAL: &str = "ghp_set";

#[derive(Clone, Default)]
pub(super) struct Facts(Arc<Mutex<Vec<Fact>>>);

impl Ledger for Facts {
    fn record(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }
}

/// What is wrong between the listener and the service; the answer of the service itself if nothing is.
pub(super) type Meddle = Arc<dyn Fn(&Request<()>, u64) -> Option<Wrong> + Send + Sync>;

/// What a listener gets in place of an answer.
pub(super) enum Wrong {
    /// The service acts, and its answer is lost.
    Lost,
    /// The service is not asked.
    Answer(u16, Bytes),
}

/// A service with one scale set, a cluster, and what lies between them and a listener.
pub(super) struct Room {
    pub(super) clock: VirtualClock,
    pub(super) server: Server,
    pub(super) cluster: Cluster,
    pub(super) set: i64,
    facts: Facts,
    asked: Arc<Mutex<Vec<(u64, String)>>>,
}

/// An answer, read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// The body, after the status has been checked.
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// An error of the service with this status and type.
    #[track_caller]
    pub(super) fn expect_error(self, status: u16, kind: &str) {
        let body = self.expect(status);
        assert!(body["typeName"].as_str().is_some_and(|name| name.contains(kind)), "{body}");
    }
}

pub(super) fn random(seed: u64) -> Random {
    Box::new(ChaCha8Rng::seed_from_u64(seed))
}

impl Room {
    pub(super) fn new(choices: &Choices, change: impl FnOnce(&mut Parameters)) -> Self {
        let (clock, facts) = (VirtualClock::default(), Facts::default());
        let mut parameters = Parameters::new(Addresses::on("http://service"));
        parameters.admin_token = Some("admin".into());
        change(&mut parameters);
        let at = Arc::new(clock.clone());
        let server = Server::new(parameters, choices.policy(), at, Arc::new(facts.clone()), random(1));
        server.allow(CREDENTIAL, SET);
        let set = server.register(SET);
        let cluster = Cluster::new(Arc::new(facts.clone()));
        cluster.add_set(SET);
        Self { clock, server, cluster, set, facts, asked: Arc::default() }
    }

    /// How many facts `which` picks.
    pub(super) fn count(&self, which: impl Fn(&Fact) -> bool) -> usize {
        self.facts.0.lock().unwrap().iter().filter(|fact| which(fact)).count()
    }

    /// When requests whose method and path contain `what` were made, in milliseconds.
    pub(super) fn asked(&self, what: &str) -> Vec<u64> {
        self.asked.lock().unwrap().iter().filter(|(_, asked)| asked.contains(what)).map(|(at, _)| *at).collect()
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.clock.run(work)
    }

    pub(super) async fn call(&self, method: Method, path: &str, token: &str, body: impl Into<AxumBody>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", token).body(body.into());
        let answer = self.server.router().oneshot(request.unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    /// What a listener has when it has introduced itself: the value of its authorization header.
    pub(super) async fn admin(&self) -> String {
        let api = "/api/v3";
        let path = format!("{api}/orgs/org/actions/runners/registration-token");
        let granted = self.call(Method::POST, &path, &format!("Bearer {CREDENTIAL}"), "").await.expect(201);
        let token = format!("RemoteAuth {}", granted["token"].as_str().unwrap());
        let body = r#"{"url":"http://service/org","runner_event":"register"}"#;
        let path = format!("{api}/actions/runner-registration");
        let connection = self.call(Method::POST, &path, &token, body).await.expect(200);
        assert_eq!(connection["url"], "http://service/tenant/");
        format!("Bearer {}", connection["token"].as_str().unwrap())
    }

    /// The network of a listener.
    fn http(&self, meddle: Meddle) -> Http {
        let routers = [self.server.router(), self.cluster.router()];
        let (asked, clock) = (self.asked.clone(), self.clock.clone());
        BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
            let (routers, asked, clock, meddle) = (routers.clone(), asked.clone(), clock.clone(), meddle.clone());
            async move {
                let (head, body) = request.into_parts();
                let head = Request::from_parts(head, ());
                let before = {
                    let mut asked = asked.lock().unwrap();
                    asked.push((clock.now().as_millis() as u64, format!("{} {}", head.method(), head.uri())));
                    asked.len() as u64
                };
                let wrong = meddle(&head, before);
                if let Some(Wrong::Answer(status, body)) = wrong {
                    return Ok(Response::builder().status(status).body(transport::full(body)).unwrap());
                }
                let body = transport::read(body, 1 << 20).await?;
                let of_cluster = head.uri().host() == Some("cluster");
                let request = Request::from_parts(head.into_parts().0, AxumBody::from(body));
                let answer = routers[usize::from(of_cluster)].clone().oneshot(request).await.unwrap();
                let (head, body) = answer.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                match wrong {
                    Some(Wrong::Lost) => Err(TransportError::Reset),
                    _ => Ok(Response::from_parts(head, transport::full(body))),
                }
            }
        }))
    }

    /// A listener process, until it ends by itself or is asked to after `lasting`; with its exit code.
    pub(super) async fn listener(&self, choices: Choices, lasting: std::time::Duration, meddle: Meddle) -> i32 {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let line = Line { clock, http: self.http(meddle), random: SharedRandom::new(random(7)) };
        let configuration = Configuration {
            config_url: "http://service/org".into(),
            credential: CREDENTIAL.into(),
            scale_set: SET.into(),
            scale_set_id: self.set,
            owner: "set-listener".into(),
            min_runners: 0,
            max_runners: 3,
            cluster_url: "http://cluster".into(),
        };
        let asked = self.clock.sleep(lasting);
        agent::run(line, choices, configuration, Shutdown::when(asked)).await
    }
}

/// Nothing is wrong.
pub(super) fn nothing() -> Meddle {
    Arc::new(|_, _| None)
}
