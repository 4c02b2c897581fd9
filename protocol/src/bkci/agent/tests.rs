//! The agent and its worker against a scripted server, on virtual time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use http::{Request, Response};
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::util::BoxCloneSyncService;

use super::*;
use crate::bkci::wire::code;
use crate::facts::{Job, Outcome};
use crate::http::{self as seam, Body, TransportError};
use crate::supervise::Exit;
use crate::virtual_clock::{VirtualClock, secs};
use crate::workers::{Work, Worker, WorkerError};

#[derive(Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Disk for Files {
    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.0.lock().unwrap().get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().insert(path.to_owned(), content.to_vec().into());
        Ok(())
    }
    fn append(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let before = self.read(path).unwrap_or_default();
        self.write(path, &[&before[..], content].concat())
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
        self.0.lock().unwrap().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// Workers that run until they are told to end.
#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Vec<Bytes>>>);

struct Endless(Hands);

impl Workers for Hands {
    fn start(&self) -> BoxFuture<'static, Result<Box<dyn Worker>, WorkerError>> {
        let worker: Box<dyn Worker> = Box::new(Endless(self.clone()));
        Box::pin(future::ready(Ok(worker)))
    }
}

impl Worker for Endless {
    fn send(&mut self, message: Bytes) -> BoxFuture<'_, Result<(), WorkerError>> {
        self.0.0.lock().unwrap().push(message);
        Box::pin(future::ready(Ok(())))
    }
    fn ended(&mut self) -> BoxFuture<'_, Exit> {
        Box::pin(future::pending())
    }
    fn kill(&mut self) {}
}

/// Requests that the server saw: when, the end of the path, the body.
type Seen = Arc<Mutex<Vec<(Duration, String, Value)>>>;

type Script = Arc<dyn Fn(&str, usize) -> Result<(u16, Vec<u8>), TransportError> + Send + Sync>;

struct Bench {
    clock: VirtualClock,
    seen: Seen,
    workers: Hands,
    disk: Files,
    script: Script,
}

impl Bench {
    fn new(script: impl Fn(&str, usize) -> Result<(u16, Vec<u8>), TransportError> + Send + Sync + 'static) -> Self {
        let (clock, seen, workers) = (VirtualClock::default(), Seen::default(), Hands::default());
        Self { clock, seen, workers, disk: Files::default(), script: Arc::new(script) }
    }

    fn machine(&self) -> Machine {
        let (clock, seen, script) = (self.clock.clone(), self.seen.clone(), self.script.clone());
        let serve = move |request: Request<Body>| {
            let (clock, seen, script) = (clock.clone(), seen.clone(), script.clone());
            async move {
                let what = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                let body = request.into_body().collect().await?.to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let before = seen.lock().unwrap().iter().filter(|(_, other, _)| *other == what).count();
                seen.lock().unwrap().push((clock.now(), what.clone(), body));
                let (status, body) = script(&what, before)?;
                Ok(Response::builder().status(status).body(seam::full(body)).unwrap())
            }
        };
        Machine {
            clock: Arc::new(self.clock.clone()),
            http: BoxCloneSyncService::new(tower::service_fn(serve)),
            random: Box::new(ChaCha8Rng::seed_from_u64(1)),
            workers: Arc::new(self.workers.clone()),
            disk: Arc::new(self.disk.clone()),
        }
    }

    /// Runs an agent for a while.
    fn agent(&self, choices: Choices, lasting: Duration) {
        let asked = self.clock.sleep(lasting);
        let code = self.clock.run(run(self.machine(), choices, configuration(), Shutdown::when(asked)));
        assert_eq!(code, 0);
    }

    /// When calls of this name were made.
    fn times(&self, what: &str) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(_, other, _)| other == what).map(|(at, ..)| at.as_secs()).collect()
    }
}

fn configuration() -> Configuration {
    Configuration {
        gateway: "http://bkci".to_owned(),
        project_id: "p".to_owned(),
        agent_id: "a".to_owned(),
        secret_key: "s".to_owned(),
        parallel_task_count: 2,
        preparation: Preparation { usual: secs(6)..secs(7), slow: secs(6)..secs(7), slow_percent: 0 },
    }
}

fn ok(data: Value) -> Result<(u16, Vec<u8>), TransportError> {
    Ok((200, json!({"status": 0, "agentStatus": "IMPORT_OK", "data": data}).to_string().into_bytes()))
}

fn build(seq: &str) -> Value {
    json!({"build": {"projectId": "p", "buildId": "b", "vmSeqId": seq, "executeCount": 1}})
}

#[test]
fn it_starts_every_five_seconds_until_it_is_heard_and_asks_every_five_then() {
    let bench = Bench::new(|what, before| match (what, before) {
        ("startup", 0..2) => Err(TransportError::Refused),
        _ => ok(Value::Null),
    });
    bench.agent(Choices::upstream(), secs(22));
    assert_eq!((bench.times("startup"), bench.times("ask")), (vec![0, 5, 10], vec![10, 15, 20]));
}

#[test]
fn a_build_is_thrown_away_with_an_unknown_status() {
    for (choices, started) in [(Choices::upstream(), 0), (Choices::hardened(), 1)] {
        let bench = Bench::new(|what, before| match (what, before) {
            ("ask", 0) => Ok((200, json!({"status": 0, "data": build("1")}).to_string().into_bytes())),
            _ => ok(Value::Null),
        });
        bench.agent(choices, secs(20));
        assert_eq!(bench.workers.0.lock().unwrap().len(), started);
    }
}

#[test]
fn two_jobs_of_a_build_are_told_apart_while_they_are_prepared() {
    for (choices, told) in [(Choices::upstream(), 1), (Choices::hardened(), 2)] {
        let bench = Bench::new(|what, before| match (what, before) {
            ("ask", 0) => ok(build("1")),
            ("ask", 1) => ok(build("2")),
            _ => ok(Value::Null),
        });
        let long = Preparation { usual: secs(60)..secs(61), slow: secs(60)..secs(61), slow_percent: 0 };
        let configuration = Configuration { preparation: long, ..configuration() };
        let asked = bench.clock.sleep(secs(12));
        bench.clock.run(run(bench.machine(), choices, configuration, Shutdown::when(asked)));
        let seen = bench.seen.lock().unwrap();
        let (_, _, last) = seen.iter().rev().find(|(_, what, _)| what == "ask").unwrap();
        assert_eq!(last["heartbeat"]["taskList"].as_array().unwrap().len(), told, "{last}");
    }
}

#[test]
fn an_agent_that_is_deleted_ends() {
    let bench = Bench::new(|what, _| match what {
        "ask" => Ok((200, json!({"status": 0, "agentStatus": "DELETE"}).to_string().into_bytes())),
        _ => ok(Value::Null),
    });
    bench.agent(Choices::upstream(), secs(60));
    assert_eq!(bench.times("ask"), [0]);
}

/// A job that takes half a minute.
struct HalfMinute(VirtualClock);

impl Work for HalfMinute {
    fn execute(&self, _: Job, _: u32, _: Shutdown) -> BoxFuture<'static, Outcome> {
        let asleep = self.0.sleep(secs(30));
        Box::pin(async move {
            asleep.await;
            Outcome::Succeeded
        })
    }
}

impl Bench {
    fn worker(&self, choices: Choices) -> i32 {
        let build =
            BuildInfo { build_id: "b".into(), vm_seq_id: "1".into(), execute_count: Some(1), ..Default::default() };
        let work = Arc::new(HalfMinute(self.clock.clone()));
        let configuration = configuration();
        self.clock.run(worker(self.machine(), choices, &configuration, build, work))
    }
}

/// A server that gives a worker one task.
fn one_task(what: &str, before: usize) -> Result<(u16, Vec<u8>), TransportError> {
    match (what, before) {
        ("started", _) => {
            ok(json!({"buildId": "b", "vmSeqId": "1", "vmName": "b/1", "projectId": "p", "pipelineId": ""}))
        }
        ("claim", 0) => ok(json!({"buildId": "b", "vmSeqId": "1", "status": "DO", "taskId": "e-1"})),
        ("claim", _) => ok(json!({"buildId": "b", "vmSeqId": "1", "status": "END"})),
        _ => ok(Value::Bool(true)),
    }
}

#[test]
fn a_worker_does_its_task_and_beats_every_two_seconds() {
    let bench = Bench::new(|what, before| match what {
        "v1" => ok(json!({"projectId": "p", "buildId": "b", "vmSeqId": "1"})),
        _ => one_task(what, before),
    });
    assert_eq!(bench.worker(Choices::hardened()), 0);
    assert_eq!(bench.times("complete"), [30]);
    assert_eq!(bench.times("v1")[..10], (10..30).step_by(2).collect::<Vec<u64>>());
}

#[test]
fn calls_are_repeated_after_growing_waits() {
    let bench = Bench::new(|what, before| match (what, before) {
        ("started", 0..4) => Err(TransportError::Reset),
        ("v1", _) => ok(json!({"projectId": "p", "buildId": "b", "vmSeqId": "1"})),
        _ => one_task(what, before),
    });
    assert_eq!(bench.worker(Choices::upstream()), 0);
    // 0.5 s, 1.5 s, 2.5 s, 3.5 s.
    assert_eq!(bench.times("started"), [0, 0, 2, 4, 8]);
}

#[test]
fn a_worker_that_is_refused_ends_at_once() {
    for (status, code) in [(code::BUILD_ENDED, 0), (code::STARTED_ALREADY, 1)] {
        let refusal = json!({"status": status, "message": "no", "data": null}).to_string();
        let bench = Bench::new(move |_, _| Ok((500, refusal.clone().into_bytes())));
        assert_eq!(bench.worker(Choices::upstream()), code);
        assert_eq!(bench.times("started"), [0]);
    }
}

#[test]
fn a_worker_that_is_not_heard_stops_before_its_lease_ends() {
    let script = |what: &str, before: usize| match (what, before) {
        ("v1" | "complete", _) => Err(TransportError::Refused),
        _ => one_task(what, before),
    };
    let bench = Bench::new(script);
    assert_eq!(bench.worker(Choices::hardened()), CODE_FENCED);
    assert_eq!(bench.clock.now(), FENCE_AFTER);
    let bench = Bench::new(script);
    // It gives up reporting after nine minutes and more; its heartbeats would have gone on for hours.
    assert_eq!(bench.worker(Choices::upstream()), 1);
    assert!(bench.clock.now() > secs(9 * 60));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn garbage_from_the_server_ends_nothing(status in 200u16..600, body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bench = Bench::new(move |_, before| match before {
            0 => ok(Value::Null),
            _ => Ok((status, body.clone())),
        });
        bench.agent(Choices::upstream(), secs(60));
        prop_assert_eq!(bench.times("ask").len(), 12);
        prop_assert_eq!(bench.workers.0.lock().unwrap().len(), 0);
    }

    #[test]
    fn garbage_ends_a_worker_in_time(status in 200u16..600, body in "[\\[\\]{}:\",a-z0-9]{0,40}") {
        let bench = Bench::new(move |what, before| match what {
            "v1" => Ok((status, body.clone().into_bytes())),
            _ => one_task(what, before),
        });
        prop_assert_eq!(bench.worker(Choices::hardened()), 0);
    }
}
