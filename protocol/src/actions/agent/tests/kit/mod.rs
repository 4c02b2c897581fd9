//! A virtual clock, a scripted server, fake workers and a disk: enough of a machine for one runner.

mod machine;
mod script;

use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, Either};
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use uuid::Uuid;

pub use machine::*;
pub use script::*;

use crate::actions::agent::{self, Configuration, CredentialData, Credentials, Machine, SETTINGS_FILE, Settings};
use crate::actions::choices::Choices;
use crate::choices::Design;
use crate::clock::Clock;
pub use crate::fakes::Files;
use crate::http::{self as net, Body, Http, TransportError};
use crate::jwt::PrivateKey;
use crate::random::Random;
use crate::supervise::Shutdown;
pub use crate::virtual_clock::{VirtualClock, secs};
use crate::workers::Work;

type Script = Arc<Mutex<dyn FnMut(&Asked) -> Option<Answer> + Send>>;

/// The repaired runner with one bug.
pub fn put_back(field: &str) -> Choices {
    Choices::named(&format!("actions.{field}")).expect("a bug of the bank")
}

/// A machine with one runner, and its server.
#[derive(Clone)]
pub struct Bench {
    pub clock: VirtualClock,
    pub disk: Files,
    pub seed: u64,
    pub choices: Choices,
    pub jobs: Jobs,
    script: Script,
    server: Option<Http>,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub ran: Arc<Mutex<Vec<Ran>>>,
}

impl Bench {
    pub fn new(choices: Choices, script: impl FnMut(&Asked) -> Option<Answer> + Send + 'static) -> Self {
        Self {
            clock: VirtualClock::default(),
            disk: Files::default(),
            seed: 1,
            choices,
            jobs: Jobs::lasting(secs(20)),
            script: Arc::new(Mutex::new(script)),
            server: None,
            asked: Arc::default(),
            ran: Arc::default(),
        }
    }

    pub fn v1(self) -> Self {
        configure(&self.disk, |settings| (settings.use_v2_flow, settings.server_url_v2) = (false, None));
        self
    }

    pub fn v2(self) -> Self {
        configure(&self.disk, |_| {});
        self
    }

    pub fn ephemeral(self) -> Self {
        configure(&self.disk, |settings| settings.ephemeral = true);
        self
    }

    /// Speaks to another server than the scripted one.
    pub fn with_server(mut self, http: Http, configuration: &Configuration) -> Self {
        configuration.store(&self.disk, SETTINGS_FILE).unwrap();
        self.server = Some(http);
        self
    }

    /// With something between the machine and its server.
    pub fn over(mut self, between: impl FnOnce(Http, VirtualClock) -> Http) -> Self {
        self.server = self.server.map(|http| between(http, self.clock.clone()));
        self
    }

    pub fn jobs(mut self, jobs: Jobs) -> Self {
        self.jobs = jobs;
        self
    }

    /// The listener's exit code, or nothing when it still runs after `time`.
    pub fn run(&self, time: Duration) -> Option<i32> {
        self.run_until(time, Shutdown::never())
    }

    pub fn run_until(&self, time: Duration, shutdown: Shutdown) -> Option<i32> {
        let end = self.clock.sleep(time);
        let main = agent::run(self.machine(0), self.choices.clone(), shutdown);
        self.clock.run(async {
            match future::select(pin!(main), end).await {
                Either::Left((code, _)) => Some(code),
                Either::Right(_) => None,
            }
        })
    }

    /// Lets whatever the listener left behind go on.
    pub fn go_on(&self, time: Duration) {
        self.clock.run(self.clock.sleep(time));
    }

    pub fn shutdown_at(&self, at: Duration) -> Shutdown {
        Shutdown::when(self.clock.sleep(at))
    }

    /// Requests of one kind.
    pub fn asked(&self, what: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.what == what).cloned().collect()
    }

    pub fn times(&self, what: &str) -> Vec<Duration> {
        self.asked(what).into_iter().map(|asked| asked.at).collect()
    }

    pub fn ran(&self) -> Vec<Ran> {
        self.ran.lock().unwrap().clone()
    }

    pub fn machine(&self, process: u64) -> Machine {
        Machine {
            clock: Arc::new(self.clock.clone()),
            http: self.http(),
            random: Box::new(ChaCha8Rng::seed_from_u64(self.seed + 1000 * process)) as Random,
            workers: Arc::new(self.clone()),
            disk: Arc::new(self.disk.clone()),
        }
    }

    pub fn work(&self) -> Arc<dyn Work> {
        Arc::new((self.clock.clone(), self.jobs))
    }

    fn http(&self) -> Http {
        if let Some(http) = &self.server {
            return http.clone();
        }
        let bench = self.clone();
        BoxCloneSyncService::new(service_fn(move |request| {
            let bench = bench.clone();
            async move { bench.exchange(request).await }.boxed()
        }))
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let (head, body) = request.into_parts();
        let body = net::read(body, 1 << 20).await?;
        let answer = {
            let mut log = self.asked.lock().unwrap();
            let what = format!("{} {}", head.method, name(head.uri.path()));
            let asked = Asked {
                at: self.clock.now(),
                before: log.iter().filter(|asked| asked.what == what).count(),
                what,
                path: head.uri.path().to_owned(),
                query: serde_urlencoded::from_str(head.uri.query().unwrap_or_default()).unwrap(),
                headers: head.headers,
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            };
            log.push(asked.clone());
            let scripted = (self.script.lock().unwrap())(&asked);
            scripted.unwrap_or_else(|| usual(&asked, &self.clock))
        };
        self.answer(answer).await
    }

    fn answer(&self, answer: Answer) -> BoxFuture<'_, Result<Response<Body>, TransportError>> {
        async move {
            let respond = |status: u16| {
                let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&self.clock.wall());
                Response::builder().status(StatusCode::from_u16(status).unwrap()).header("date", date.unwrap())
            };
            let json = "application/json; charset=utf-8";
            Ok(match answer {
                Answer::Json(status, body) => {
                    respond(status).header("content-type", json).body(net::full(body.to_string())).unwrap()
                }
                Answer::Status(status) => respond(status).body(net::empty()).unwrap(),
                Answer::Raw(status, kind, body) => {
                    respond(status).header("content-type", kind).body(net::full(body)).unwrap()
                }
                Answer::Oversized(status) => {
                    let pieces = vec![Bytes::from_static(&[b' '; 1 << 20]); 17];
                    let body = StreamBody::new(stream::iter(pieces).map(|piece| Ok(Frame::data(piece))));
                    respond(status).header("content-type", json).body(body.boxed_unsync()).unwrap()
                }
                Answer::With(status, name, value) => respond(status).header(name, value).body(net::empty()).unwrap(),
                Answer::Page => respond(200).header("content-type", "text/html").body(net::full("<html>")).unwrap(),
                Answer::Stall => {
                    let body = StreamBody::new(stream::pending().boxed());
                    respond(200).header("content-type", json).body(body.boxed_unsync()).unwrap()
                }
                Answer::Fails(error) => return Err(error),
                Answer::Silence => future::pending().await,
                Answer::After(wait, answer) => {
                    self.clock.sleep(wait).await;
                    return self.answer(*answer).await;
                }
            })
        }
        .boxed()
    }
}

/// The last part of a path that is no number and no GUID.
fn name(path: &str) -> &str {
    let mut parts = path.rsplit('/');
    parts.find(|part| part.parse::<i64>().is_err() && part.parse::<Uuid>().is_err()).unwrap_or_default()
}

fn configure(disk: &Files, change: impl FnOnce(&mut Settings)) {
    let mut configuration = Configuration::load(disk, SETTINGS_FILE).unwrap_or_else(|_| Configuration {
        settings: Settings {
            agent_id: 7,
            agent_name: "runner-7".into(),
            pool_id: 1,
            pool_name: "Default".into(),
            ephemeral: false,
            disable_update: false,
            server_url: BASE.into(),
            git_hub_url: String::new(),
            work_folder: "_work".into(),
            use_v2_flow: true,
            server_url_v2: Some(BASE.into()),
            location_url: None,
            skip_session_recover: false,
        },
        credentials: Credentials {
            scheme: "OAuth".into(),
            data: CredentialData {
                client_id: Uuid::from_u128(5).to_string(),
                authorization_url: format!("{BASE}/token"),
                require_fips_cryptography: "False".into(),
            },
        },
        key: key(),
    });
    change(&mut configuration.settings);
    configuration.store(disk, SETTINGS_FILE).unwrap();
}

/// One key for all tests: finding primes takes its time.
pub fn key() -> PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut random = Box::new(ChaCha8Rng::seed_from_u64(3)) as Random;
        PrivateKey::generate(768, &mut random).unwrap()
    })
    .clone()
}
