//! A virtual clock, a scripted server, fake workers and a disk: enough of a machine for one runner.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, Either};
use futures_util::{FutureExt, StreamExt, select_biased, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::service_fn;
use tower::util::BoxCloneSyncService;
use uuid::Uuid;

use crate::actions::agent::{self, Configuration, CredentialData, Credentials, Machine, Settings};
use crate::actions::choices::Choices;
use crate::clock::{Clock, Mono};
use crate::disk::Disk;
use crate::facts::{Job, Outcome};
use crate::http::{self as net, Body, Http, TransportError};
use crate::jwt::PrivateKey;
use crate::random::Random;
use crate::signal::Watch;
use crate::supervise::{Exit, Shutdown};
use crate::workers::{Parent, Work, Worker, WorkerError, Workers};

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

// ---- time

/// A clock that jumps to the next timer whenever nothing else is left to do.
#[derive(Clone, Default)]
pub struct VirtualClock(Arc<Mutex<Time>>, Beside);

/// Processes that go on beside whatever is run, until they end.
type Beside = Arc<Mutex<Vec<BoxFuture<'static, ()>>>>;

#[derive(Default)]
struct Time {
    now: Duration,
    last: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
}

impl VirtualClock {
    pub fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    /// Starts a process. It goes on whenever something is run.
    pub fn start(&self, process: impl Future<Output = ()> + Send + 'static) {
        self.1.lock().unwrap().push(process.boxed());
    }

    fn poll_processes(&self, context: &mut Context<'_>) {
        let mut waiting = Vec::new();
        loop {
            let started = std::mem::take(&mut *self.1.lock().unwrap());
            if started.is_empty() {
                break;
            }
            waiting.extend(
                started
                    .into_iter()
                    .filter_map(|mut process| process.as_mut().poll(context).is_pending().then_some(process)),
            );
        }
        *self.1.lock().unwrap() = waiting;
    }

    /// Runs a future to its end.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let (waker, mut main) = (Waker::from(woken.clone()), pin!(main));
        loop {
            while woken.0.swap(false, Ordering::SeqCst) {
                let mut context = Context::from_waker(&waker);
                if let Poll::Ready(done) = main.as_mut().poll(&mut context) {
                    return done;
                }
                self.poll_processes(&mut context);
            }
            let mut time = self.0.lock().unwrap();
            let ((at, _), due) = time.timers.pop_first().expect("nothing left that could happen");
            time.now = time.now.max(at);
            drop(time);
            due.wake();
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Sleep {
    clock: VirtualClock,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.0.lock().unwrap();
        if time.now >= self.key.0 {
            time.timers.remove(&self.key);
            return Poll::Ready(());
        }
        time.timers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.0.lock().unwrap().timers.remove(&self.key);
    }
}

impl Clock for VirtualClock {
    fn wall(&self) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + self.now()
    }
    fn mono(&self) -> Mono {
        Mono::from_start(self.now())
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut time = self.0.lock().unwrap();
        time.last += 1;
        let key = (time.now + duration, time.last);
        Sleep { clock: self.clone(), key }.boxed()
    }
}

// ---- the server

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Duration,
    /// Method and last part of the path, as in "POST session".
    pub what: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: http::HeaderMap,
    pub body: Value,
    /// How many requests of this kind there were before.
    pub before: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What the server does about a request.
pub enum Answer {
    Json(u16, Value),
    /// A status without a body.
    Status(u16),
    With(u16, &'static str, &'static str),
    /// A login page.
    Page,
    /// Headers, and then nothing.
    Stall,
    Fails(TransportError),
    /// No answer at all.
    Silence,
    After(Duration, Box<Answer>),
}

pub fn after(wait: Duration, answer: Answer) -> Answer {
    Answer::After(wait, Box::new(answer))
}

type Script = Arc<Mutex<dyn FnMut(&Asked) -> Option<Answer> + Send>>;

/// The server's own answers, where the script has none.
fn usual(asked: &Asked, clock: &VirtualClock) -> Answer {
    let until = crate::distributed_task::wire::time::format_instant(clock.wall() + LEASE);
    match asked.what.as_str() {
        "POST token" => {
            Answer::Json(200, json!({"access_token": "runner-token", "expires_in": 3000, "token_type": "bearer"}))
        }
        "GET ConnectionData" => Answer::Json(200, json!({})),
        "POST session" | "POST sessions" => {
            let mut session = asked.body.clone();
            session["sessionId"] = json!(Uuid::from_u128(77).to_string());
            Answer::Json(200, session)
        }
        "GET message" | "GET messages" => after(HOLD, Answer::Status(202)),
        "POST renewjob" => Answer::Json(200, json!({"lockedUntil": until})),
        "PATCH jobrequests" => Answer::Json(200, json!({"requestId": asked.body["requestId"], "lockedUntil": until})),
        "POST acquirejob" => Answer::Json(200, job_body(1)),
        _ => Answer::Status(200),
    }
}

/// How long the usual server holds a poll, and how long its leases are.
pub const HOLD: Duration = Duration::from_secs(50);
pub const LEASE: Duration = Duration::from_secs(600);

pub const BASE: &str = "http://server";

pub fn job_id(number: u128) -> Uuid {
    Uuid::from_u128(1000 + number)
}

/// A job as its worker gets it, of a plan that takes its end as an event.
pub fn job_body(number: u128) -> Value {
    json!({
        "messageType": "PipelineAgentJobRequest",
        "plan": {"scopeIdentifier": Uuid::nil(), "planId": Uuid::from_u128(500 + number), "planType": "actions", "version": 12},
        "timeline": {"id": Uuid::from_u128(600 + number)},
        "jobId": job_id(number), "jobName": format!("job-{number}"), "requestId": number as i64,
        "lockToken": Uuid::from_u128(9),
        "resources": {"endpoints": [{"name": "SystemVssConnection", "url": BASE,
            "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": "job-token"}}}]},
    })
}

pub fn v1_job(message: i64, number: u128) -> Answer {
    let body = job_body(number).to_string();
    Answer::Json(200, json!({"messageId": message, "messageType": "PipelineAgentJobRequest", "body": body}))
}

pub fn v2_job(message: i64) -> Answer {
    let body = json!({"id": "m", "runner_request_id": format!("r{message}"), "run_service_url": format!("{BASE}/run/"),
        "should_acknowledge": true});
    Answer::Json(200, json!({"messageId": message, "messageType": "RunnerJobRequest", "body": body.to_string()}))
}

pub fn cancellation(message: i64, number: u128, timeout: &str) -> Answer {
    let body = json!({"jobId": job_id(number), "timeout": timeout});
    Answer::Json(200, json!({"messageId": message, "messageType": "JobCancellation", "body": body.to_string()}))
}

pub fn exception(status: u16, key: &str) -> Answer {
    Answer::Json(status, json!({"$id": "1", "message": key, "typeKey": key, "errorCode": 0}))
}

pub fn broker_error(status: u16, kind: &str) -> Answer {
    Answer::Json(
        status,
        json!({"source": "actions-broker-listener", "errorKind": kind, "statusCode": status, "errorMessage": kind}),
    )
}

pub fn run_service_error(status: u16) -> Answer {
    Answer::Json(status, json!({"source": "actions-run-service", "statusCode": status, "errorMessage": "no"}))
}

// ---- the machine

/// A disk that loses nothing.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Files {
    pub fn has(&self, path: &str) -> bool {
        self.0.lock().unwrap().contains_key(path)
    }
}

impl Disk for Files {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.0.lock().unwrap().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().insert(path.into(), Bytes::copy_from_slice(content));
        Ok(())
    }
    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let whole = [&self.read(path).unwrap_or_default()[..], content].concat();
        self.write(path, &whole)
    }
    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let content = self.read(from)?;
        self.remove(from)?;
        self.write(to, &content)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// How jobs behave.
#[derive(Clone, Copy, Debug)]
pub struct Jobs {
    pub last: Duration,
    pub on_cancel: OnCancel,
    pub pipe: Pipe,
    /// The process dies so long after it began, if it still lives.
    pub dies: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    Stops,
    Ignores,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    Works,
    /// Nothing is ever taken.
    Stuck,
    Broken,
}

impl Jobs {
    pub fn lasting(last: Duration) -> Self {
        Self { last, on_cancel: OnCancel::Stops, pipe: Pipe::Works, dies: None }
    }
}

impl Work for (VirtualClock, Jobs) {
    fn execute(&self, _: Job, _: u32, cancelled: Shutdown) -> BoxFuture<'static, Outcome> {
        let (clock, jobs) = self.clone();
        async move {
            let work = clock.sleep(jobs.last);
            if jobs.on_cancel == OnCancel::Ignores {
                work.await;
                return Outcome::Succeeded;
            }
            match future::select(work, pin!(cancelled.requested())).await {
                Either::Left(_) => Outcome::Succeeded,
                Either::Right(_) => Outcome::Cancelled,
            }
        }
        .boxed()
    }
}

/// What became of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub from: Duration,
    pub to: Option<Duration>,
    pub exit: Option<Exit>,
}

/// A machine with one runner, and its server.
#[derive(Clone)]
pub struct Bench {
    pub clock: VirtualClock,
    pub disk: Files,
    pub seed: u64,
    pub choices: Choices,
    jobs: Jobs,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
    ran: Arc<Mutex<Vec<Ran>>>,
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
    let mut configuration = Configuration::load(disk).unwrap_or_else(|_| Configuration {
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
    configuration.store(disk).unwrap();
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

// ---- workers

impl Workers for Bench {
    fn start(&self) -> BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>> {
        let bench = self.clone();
        async move {
            let number = {
                let mut ran = bench.ran.lock().unwrap();
                ran.push(Ran { from: bench.clock.now(), to: None, exit: None });
                ran.len() - 1
            };
            let pipe = End { queue: Watch::new((Vec::new(), PipeState::Open)), ended: Watch::new(None) };
            let parent = Box::new(Child(pipe.clone()));
            let (kill, ended) = (Watch::new(false), pipe.ended.clone());
            let process = agent::worker(bench.machine(1 + number as u64), bench.choices.clone(), parent, bench.work());
            let (killed, world) = (kill.clone(), bench.clone());
            bench.clock.start(async move {
                let dies = async {
                    match world.jobs.dies {
                        Some(after) => world.clock.sleep(after).await,
                        None => future::pending().await,
                    }
                };
                let exit = select_biased! {
                    code = process.fuse() => Exit::Code(code),
                    () = killed.is(|kill| *kill).fuse() => Exit::Killed,
                    () = dies.fuse() => Exit::Killed,
                };
                let mut ran = world.ran.lock().unwrap();
                (ran[number].to, ran[number].exit) = (Some(world.clock.now()), Some(exit));
                drop(ran);
                ended.set(Some(exit));
            });
            Ok(Box::new(Handle { pipe, kill, kind: bench.jobs.pipe }) as Box<dyn Worker>)
        }
        .boxed()
    }
}

#[derive(Clone)]
struct End {
    queue: Watch<(Vec<Bytes>, PipeState)>,
    ended: Watch<Option<Exit>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PipeState {
    Open,
    Closed,
}

struct Handle {
    pipe: End,
    kill: Watch<bool>,
    kind: Pipe,
}

impl Worker for Handle {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), WorkerError>> {
        async move {
            match self.kind {
                Pipe::Works if self.pipe.ended.get().is_none() => {
                    self.pipe.queue.change(|(queue, _)| queue.push(message));
                    Ok(())
                }
                Pipe::Stuck => future::pending().await,
                _ => Err(WorkerError::BrokenPipe),
            }
        }
        .boxed()
    }
    fn ended(&mut self) -> BoxFuture<'_, Exit> {
        self.pipe.ended.until(|ended| *ended).boxed()
    }
    fn kill(&mut self) {
        self.kill.set(true);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.pipe.queue.change(|(_, state)| *state = PipeState::Closed);
    }
}

struct Child(End);

impl Parent for Child {
    fn receive(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        async move {
            self.0.queue.is(|(queue, state)| !queue.is_empty() || *state == PipeState::Closed).await;
            self.0.queue.change(|(queue, _)| (!queue.is_empty()).then(|| queue.remove(0)))
        }
        .boxed()
    }
}
