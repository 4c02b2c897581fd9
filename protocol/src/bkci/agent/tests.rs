//! The agent and its worker against a scripted server, on virtual time.

use std::collections::BTreeMap;
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
use crate::fakes::{Files, garbage};
use crate::http::{self as seam, Body, TransportError};
use crate::supervise::Exit;
use crate::virtual_clock::{VirtualClock, secs};
use crate::workers::{Work, Worker, WorkerError};

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
        self.clock.run(self.worker_process(choices))
    }

    async fn worker_process(&self, choices: Choices) -> i32 {
        let build =
            BuildInfo { build_id: "b".into(), vm_seq_id: "1".into(), execute_count: Some(1), ..Default::default() };
        let work = Arc::new(HalfMinute(self.clock.clone()));
        worker(self.machine(), choices, &configuration(), build, work).await
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

/// Bytes, and JSON of shapes that nobody asked for: statuses, texts and numbers of wrong types, or too large.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        16 => garbage::bodies(&[
            "[]",
            "{}",
            r#"{"status":"0"}"#,
            r#"{"status":99999999999999999999}"#,
            r#"{"status":-9223372036854775808,"message":7}"#,
            r#"{"status":0,"data":7}"#,
            r#"{"status":0,"data":[]}"#,
            r#"{"status":0,"data":{}}"#,
            r#"{"status":0,"message":[],"data":null}"#,
            r#"{"status":0,"data":null}"#,
            r#"{"status":0,"agentStatus":"SOMETHING","data":null}"#,
            r#"{"status":0,"agentStatus":7,"data":{"build":null}}"#,
            r#"{"status":0,"agentStatus":"IMPORT_OK","data":{"build":{"buildId":7}}}"#,
            r#"{"status":0,"agentStatus":"IMPORT_OK","data":{"build":{"projectId":"p","buildId":"b","vmSeqId":"1","executeCount":4294967296}}}"#,
            r#"{"status":0,"agentStatus":"IMPORT_OK","data":{"build":{"projectId":"p","buildId":"b","vmSeqId":"1","executeCount":-1}}}"#,
            r#"{"status":0,"data":{"buildId":"b","vmSeqId":"1","status":"DONE"}}"#,
            r#"{"status":0,"data":{"buildId":"b","vmSeqId":"1","status":7}}"#,
            r#"{"status":0,"data":{"buildId":"b","vmSeqId":"1","vmName":7,"projectId":"p","pipelineId":""}}"#,
            r#"{"status":0,"data":{"projectId":"p","buildId":"b","vmSeqId":"1","cancelTaskIds":{}}}"#,
            r#"{"status":2101182}"#,
            r#"{"status":2101255,"message":"no"}"#,
            r#"{"status":500,"message":"no"}"#,
        ]),
        2 => "[\\[\\]{}:\",a-z0-9]{0,40}".prop_map(String::into_bytes),
        1 => Just(vec![b' '; gateway::ANSWER_LIMIT + 1]),
    ]
}

/// A status and a body; or the answer that the server would give.
fn garbage() -> impl Strategy<Value = Vec<Option<(u16, Vec<u8>)>>> {
    let status = prop_oneof![2 => Just(200_u16), 1 => prop::sample::select(vec![401, 404, 413, 500, 502, 503, 504]), 1 => 200..600_u16];
    proptest::collection::vec(proptest::option::weighted(0.8, (status, bodies())), 1..6)
}

fn designs() -> impl Strategy<Value = Choices> {
    prop_oneof![Just(Choices::upstream()), Just(Choices::hardened())]
}

impl Bench {
    /// One that answers calls of this name with garbage.
    fn spoiled(
        what: &'static str,
        answers: Vec<Option<(u16, Vec<u8>)>>,
        well: impl Fn(&str, usize) -> Result<(u16, Vec<u8>), TransportError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |asked, before| match &answers[before % answers.len()] {
            Some(wrong) if asked == what => Ok(wrong.clone()),
            _ => well(asked, before),
        })
    }

    /// The most calls within a minute.
    fn most_in_a_minute(&self) -> usize {
        let mut by_minute: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, ..) in &*self.seen.lock().unwrap() {
            *by_minute.entry(at.as_secs() / 60).or_default() += 1;
        }
        by_minute.values().max().copied().unwrap_or_default()
    }
}

/// What a call's answer is read as.
async fn understood(gateway: &Gateway, path: &str) -> Result<(), CallFailure> {
    let answer = gateway.call(Method::POST, path, &[], None::<&()>, AGENT_TIMEOUT).await?;
    match path {
        path::ASK => answer.parse::<AgentAnswer<AskResponse>>().map(drop),
        path::STARTED => answer.parse::<Answer<crate::bkci::wire::BuildVariables>>()?.into_result().map(drop),
        path::CLAIM => answer.parse::<Answer<crate::bkci::wire::BuildTask>>()?.into_result().map(drop),
        path::HEARTBEAT => answer.parse::<Answer<crate::bkci::wire::HeartBeatInfo>>()?.into_result().map(drop),
        _ => answer.parse::<Answer<Value>>()?.into_result().map(drop),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn garbage_is_a_typed_error(
        path in prop::sample::select(vec![
            path::STARTUP, path::ASK, path::FINISH, path::STARTED, path::CLAIM, path::COMPLETE, path::END, path::HEARTBEAT,
        ]),
        status in 200_u16..600,
        body in bodies(),
    ) {
        let sent = body.clone();
        let bench = Bench::new(move |_, _| Ok((status, sent.clone())));
        let Machine { clock, http, random, .. } = bench.machine();
        let gateway = Gateway::new(Line { clock, http, random: SharedRandom::new(random) }, &configuration());
        let done = bench.clock.run(understood(&gateway, path));
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let number = json.as_ref().and_then(|json| json["status"].as_i64());
        let case = format!("{path}: {done:?}");
        match done {
            Err(CallFailure::Transport(TransportError::TooLarge { .. })) => {
                prop_assert!(body.len() > gateway::ANSWER_LIMIT, "{case}");
            }
            Err(CallFailure::NoAnswer { status: told, .. }) => prop_assert_eq!(told, status, "{}", case),
            Err(CallFailure::Refused { status: told, .. }) => prop_assert_eq!(Some(told), number, "{}", case),
            Ok(()) => prop_assert!(number.is_some() && (path == path::ASK || number == Some(0)), "{case}"),
            Err(_) => prop_assert!(false, "{case}"),
        }
    }

    /// It asks every five seconds, whatever it is told.
    #[test]
    fn garbage_from_the_server_ends_no_agent(
        choices in designs(), what in prop::sample::select(vec!["startup", "ask", "workerBuildFinish"]), answers in garbage(),
    ) {
        let bench = Bench::spoiled(what, answers.clone(), |what, before| match (what, before) {
            ("ask", 0) => ok(build("1")),
            _ => ok(Value::Null),
        });
        bench.agent(choices, secs(600));
        let calls = bench.times("startup").len() + bench.times("ask").len();
        prop_assert!((120..=121).contains(&calls), "{calls}");
        prop_assert!(bench.most_in_a_minute() <= 15);
        let understood = what != "ask" || answers[0].is_none();
        prop_assert!(bench.workers.0.lock().unwrap().len() <= usize::from(understood));
    }

    /// It ends, or goes on at its own pace.
    #[test]
    fn garbage_stops_or_delays_a_worker(
        choices in designs(),
        what in prop::sample::select(vec!["started", "claim", "complete", "end", "v1"]),
        answers in garbage(),
    ) {
        let bench = Bench::spoiled(what, answers.clone(), |what, before| match what {
            "v1" => ok(json!({"projectId": "p", "buildId": "b", "vmSeqId": "1"})),
            _ => one_task(what, before),
        });
        let (end, work) = (bench.clock.sleep(secs(6 * 3_600)), bench.worker_process(choices));
        let code = bench.clock.run(async {
            match future::select(std::pin::pin!(work), end).await {
                future::Either::Left((code, _)) => Some(code),
                future::Either::Right(_) => None,
            }
        });
        if let Some(code) = code {
            prop_assert!([0, 1, CODE_FENCED].contains(&code), "{code}");
        }
        prop_assert!(bench.most_in_a_minute() <= 200, "{}", bench.most_in_a_minute());
        // Every answer that is no word of the server is asked for again, and a server that goes on so is given up.
        let is_told = |answer: &Option<(u16, Vec<u8>)>| {
            let Some((_, body)) = answer else { return true };
            serde_json::from_slice::<Value>(body).is_ok_and(|body| body["status"].is_i64())
        };
        if !answers.iter().any(is_told) && what != "v1" {
            prop_assert!(matches!(code, Some(1 | CODE_FENCED)), "{code:?}");
            prop_assert!(bench.times(what).len() >= 5);
        }
    }
}
