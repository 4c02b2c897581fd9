//! The router driven in-process by raw requests, beside the server's process, on virtual time.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::bkci::choices::{
    CancelDelivery, Claim, CompleteKey, EnvQueueLock, EventAttempt, LockLife, SectionLock, StartCheck,
};
use crate::bkci::wire::{StartInfo, code, header, path};
use crate::facts::{Fact, Outcome};
use crate::fakes::garbage;
use crate::virtual_clock::{VirtualClock, secs};

#[derive(Clone, Default)]
struct Facts(Arc<Mutex<Vec<Fact>>>);

impl Ledger for Facts {
    fn record(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }
}

struct Bench {
    clock: VirtualClock,
    facts: Facts,
    server: Server,
    router: Router,
}

const AGENT: &str = "agent-1";

impl Bench {
    fn new(choices: Choices) -> Self {
        let (clock, facts) = (VirtualClock::default(), Facts::default());
        let random = |seed| -> Random { Box::new(ChaCha8Rng::seed_from_u64(seed)) };
        let server = Server::new(Parts {
            choices,
            clock: Arc::new(clock.clone()),
            ledger: Arc::new(facts.clone()),
            random: random(1),
            mischance: random(2),
            redis_clock: Arc::new(clock.clone()),
            redis_ledger: Arc::new(facts.clone()),
            admin_token: Some("token".to_owned()),
        });
        server.import(Import {
            project_id: "p".to_owned(),
            agent_id: AGENT.to_owned(),
            secret_key: "s".to_owned(),
            parallel_task_count: 1,
        });
        let engine = server.clone();
        clock.start(async move { match engine.run().await {} });
        // Until the process is there.
        clock.run(clock.sleep(secs(1)));
        let router = server.router();
        Self { clock, facts, server, router }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// A call with the agent's key, for a job if one is named.
    async fn call(&self, method: Method, path: &str, job: Option<(&str, &str)>, body: Value) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::PROJECT_ID, "p")
            .header(header::AGENT_ID, AGENT)
            .header(header::SECRET_KEY, "s");
        if let Some((build, seq)) = job {
            request = request.header(header::BUILD_ID, build).header(header::VM_SEQ_ID, seq);
        }
        let (status, body) = self.send(request.body(Body::from(body.to_string())).unwrap()).await;
        (status.as_u16(), body)
    }

    async fn ask(&self, tasks: Value) -> Value {
        let body = json!({
            "askEnable": {"build": "BINARY", "upgrade": false, "dockerDebug": false, "pipeline": false},
            "heartbeat": {"masterVersion": "", "slaveVersion": "", "hostName": "", "agentIp": "",
                "parallelTaskCount": 1, "taskList": tasks},
        });
        let (status, answer) = self.call(Method::POST, path::ASK, None, body).await;
        assert_eq!((status, &answer["status"], &answer["agentStatus"]), (200, &json!(0), &json!("IMPORT_OK")));
        answer["data"]["build"].clone()
    }

    /// Asks until it is given a build.
    async fn next_build(&self) -> Value {
        for _ in 0..100 {
            let build = self.ask(json!([])).await;
            if !build.is_null() {
                return build;
            }
            self.clock.sleep(secs(5)).await;
        }
        panic!("no build: {:?}", self.facts.0.lock().unwrap());
    }

    async fn worker(&self, method: Method, path: &str, job: (&str, &str), body: Value) -> Value {
        let (status, answer) = self.call(method, path, Some(job), body).await;
        assert_eq!((status, &answer["status"]), (200, &json!(0)), "{answer}");
        answer["data"].clone()
    }

    /// Does a job that was given to the agent, from its worker's start to its end.
    async fn do_job(&self, job: (&str, &str), success: bool) {
        self.worker(Method::PUT, &format!("{}?retryCount=0", path::STARTED), job, Value::Null).await;
        self.worker(Method::POST, path::HEARTBEAT, job, Value::Null).await;
        let task = self.worker(Method::GET, path::CLAIM, job, Value::Null).await;
        assert_eq!(task["status"], "DO");
        let result =
            json!({"taskId": task["taskId"], "elementId": task["elementId"], "success": success, "buildResult": {}});
        self.worker(Method::POST, path::COMPLETE, job, result).await;
        assert_eq!(self.worker(Method::GET, path::CLAIM, job, Value::Null).await["status"], "END");
        self.worker(Method::POST, path::END, job, Value::Null).await;
        let end = json!({"projectId": "p", "buildId": job.0, "vmSeqId": job.1, "success": true});
        self.call(Method::POST, path::FINISH, None, end).await;
    }

    fn start(&self, name: &str) {
        let job = |stage, place| JobSpec { stage, place };
        let jobs = vec![job(0, Place::Agent(AGENT.to_owned())), job(1, Place::SameAs(1))];
        self.server.start_build(BuildSpec { name: name.to_owned(), jobs }).unwrap();
    }

    fn locks(&self) -> Vec<&'static str> {
        let reuse = |lock: &crate::facts::Lock| lock.0.starts_with("agent:reuse");
        let facts = self.facts.0.lock().unwrap();
        let tell = |fact: &Fact| match fact {
            Fact::LockTaken { lock, .. } if reuse(lock) => Some("taken"),
            Fact::LockReleased { lock, .. } if reuse(lock) => Some("released"),
            Fact::LockExpired { lock, .. } if reuse(lock) => Some("expired"),
            _ => None,
        };
        facts.iter().filter_map(tell).collect()
    }

    /// How many locks of the environment's queue are held.
    fn env_queue_locks(&self) -> usize {
        let facts = self.facts.0.lock().unwrap();
        let of_queue = |lock: &crate::facts::Lock| lock.0.starts_with("DISPATCH_REDIS_QUEUE_LOCK_ENV");
        let taken = facts.iter().filter(|fact| matches!(fact, Fact::LockTaken { lock, .. } if of_queue(lock)));
        let over = |fact: &&Fact| match fact {
            Fact::LockReleased { lock, .. } | Fact::LockExpired { lock, .. } => of_queue(lock),
            _ => false,
        };
        taken.count() - facts.iter().filter(over).count()
    }

    /// How many are in the critical section of the build at most.
    fn most_inside(&self) -> usize {
        let of_build = |lock: &crate::facts::Lock| lock.0.starts_with("BuildIdLock");
        let (mut inside, mut most) = (0, 0);
        for fact in &*self.facts.0.lock().unwrap() {
            match fact {
                Fact::LockTaken { lock, .. } if of_build(lock) => inside += 1,
                Fact::LockReleased { lock, .. } if of_build(lock) => inside -= 1,
                _ => {}
            }
            most = most.max(inside);
        }
        most
    }

    fn ended(&self) -> Option<Outcome> {
        self.server.snapshot()[0].outcome
    }
}

fn with(change: impl FnOnce(&mut Choices)) -> Choices {
    let mut choices = Choices::hardened();
    change(&mut choices);
    choices
}

#[test]
fn a_build_goes_from_stage_to_stage_under_one_lock() {
    for choices in [Choices::upstream(), Choices::hardened()] {
        let bench = Bench::new(choices);
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            for seq in ["1", "2"] {
                let build = bench.next_build().await;
                assert_eq!((&build["buildId"], &build["vmSeqId"]), (&json!("b"), &json!(seq)));
                bench.do_job(("b", seq), true).await;
            }
            bench.clock.sleep(secs(10)).await;
        });
        assert_eq!(bench.ended(), Some(Outcome::Succeeded));
        assert_eq!(bench.locks(), ["taken", "released"]);
    }
}

#[test]
fn a_claim_whose_answer_was_lost_is_offered_again() {
    for (claim, again_after) in [(Claim::BeforeTheAnswer, 195..225), (Claim::WhenTheAgentHasIt, 0..20)] {
        let bench = Bench::new(with(|choices| choices.claim = claim));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            let lost_at = bench.clock.now();
            bench.clock.sleep(secs(5)).await;
            bench.next_build().await;
            let after = (bench.clock.now() - lost_at).as_secs();
            assert!(again_after.contains(&after), "{claim:?}: again after {after} s");
            // Once the agent says that it has it, it is not.
            let has = json!([{"projectId": "p", "buildId": "b", "vmSeqId": "1"}]);
            assert!(bench.ask(has).await.is_null());
        });
    }
}

#[test]
fn an_agent_that_starts_anew_has_not_said_what_it_has() {
    let bench = Bench::new(Choices::hardened());
    bench.clock.run(async {
        bench.ask(json!([])).await;
        bench.start("b");
        bench.next_build().await;
        let has = json!([{"projectId": "p", "buildId": "b", "vmSeqId": "1", "executeCount": 1}]);
        assert!(bench.ask(has.clone()).await.is_null());
        // Its worker takes its time, and meanwhile the agent starts anew.
        bench.clock.sleep(secs(190)).await;
        let start = serde_json::to_value(StartInfo::default()).unwrap();
        assert_eq!(bench.call(Method::POST, path::STARTUP, None, start).await.0, 200);
        bench.clock.sleep(secs(45)).await;
        assert!(bench.ask(has).await.is_null(), "it still has what it had");
    });
}

#[test]
fn a_second_worker_is_refused_unless_it_says_that_it_repeats() {
    for (check, repeated) in [(StartCheck::RepeatedCallsPass, 200), (StartCheck::SameWorkerPasses, 500)] {
        let bench = Bench::new(with(|choices| choices.start_check = check));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            let start = async |tries: u32| {
                let path = format!("{}?retryCount={tries}", path::STARTED);
                bench.call(Method::PUT, &path, Some(("b", "1")), Value::Null).await
            };
            assert_eq!(start(0).await.0, 200);
            let (status, refused) = start(0).await;
            assert_eq!((status, &refused["status"]), (500, &json!(code::STARTED_ALREADY)));
            assert_eq!(start(1).await.0, repeated, "{check:?}");
        });
    }
}

#[test]
fn a_late_copy_of_an_end_ends_the_next_attempt_unless_it_says_which_it_is_about() {
    for (event_attempt, ended) in [(EventAttempt::SomeWithout, Some(Outcome::Failed)), (EventAttempt::All, None)] {
        let bench = Bench::new(with(|choices| choices.event_attempt = event_attempt));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            bench.do_job(("b", "1"), true).await;
            bench.next_build().await;
            bench.server.disturb(1, Nuisance::EventsDuplicated(secs(60)), OnEffect::untold());
            bench.do_job(("b", "2"), false).await;
            bench.clock.sleep(secs(10)).await;
            assert_eq!(bench.ended(), Some(Outcome::Failed));
            bench.server.retry_build("b").unwrap();
            bench.next_build().await;
            bench.worker(Method::PUT, path::STARTED, ("b", "2"), Value::Null).await;
            bench.clock.sleep(secs(70)).await;
        });
        assert_eq!(bench.ended(), ended, "{event_attempt:?}");
    }
}

#[test]
fn a_cancel_is_told_until_the_job_has_ended() {
    for (delivery, again) in [(CancelDelivery::PoppedBeforeDelivery, false), (CancelDelivery::KeptUntilTheEnd, true)] {
        let bench = Bench::new(with(|choices| choices.cancel_delivery = delivery));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            bench.worker(Method::PUT, path::STARTED, ("b", "1"), Value::Null).await;
            bench.server.cancel_build("b").unwrap();
            bench.clock.sleep(secs(5)).await;
            let beat = async || bench.worker(Method::POST, path::HEARTBEAT, ("b", "1"), Value::Null).await;
            assert_eq!(beat().await["cancelTaskIds"], json!(["e-1"]));
            assert_eq!(beat().await["cancelTaskIds"].is_array(), again, "{delivery:?}");
        });
    }
}

#[test]
fn a_completion_that_comes_twice_is_answered_by_what_became_of_it() {
    for (key, answer) in [(CompleteKey::RemovedInFinally, 200), (CompleteKey::NoKey, 500)] {
        let bench = Bench::new(with(|choices| choices.complete_key = key));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            let job = ("b", "1");
            bench.worker(Method::PUT, path::STARTED, job, Value::Null).await;
            let task = bench.worker(Method::GET, path::CLAIM, job, Value::Null).await;
            bench.server.disturb(1, Nuisance::CallsRepeated(100), OnEffect::untold());
            bench.server.disturb(2, Nuisance::DatabaseFails(100), OnEffect::untold());
            let result =
                json!({"taskId": task["taskId"], "elementId": task["elementId"], "success": true, "buildResult": {}});
            assert_eq!(bench.call(Method::POST, path::COMPLETE, Some(job), result).await.0, answer, "{key:?}");
            bench.server.calm(1);
            bench.server.calm(2);
            // It is not done, and whoever was told that it is does it again.
            assert_eq!(bench.worker(Method::GET, path::CLAIM, job, Value::Null).await["status"], "DO");
        });
    }
}

#[test]
fn a_start_that_comes_twice_is_refused_unless_it_says_whose_it_is() {
    for (check, answer) in [(StartCheck::RepeatedCallsPass, 500), (StartCheck::SameWorkerPasses, 200)] {
        let bench = Bench::new(with(|choices| choices.start_check = check));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            let effects = Arc::new(Mutex::new(0));
            let count = effects.clone();
            bench.server.disturb(1, Nuisance::CallsRepeated(100), OnEffect::new(move || *count.lock().unwrap() += 1));
            let request = Request::put(path::STARTED)
                .header(header::PROJECT_ID, "p")
                .header(header::AGENT_ID, AGENT)
                .header(header::SECRET_KEY, "s")
                .header(header::BUILD_ID, "b")
                .header(header::VM_SEQ_ID, "1")
                .header(header::WORKER_ID, "w");
            let (status, _) = bench.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!((status.as_u16(), *effects.lock().unwrap()), (answer, 1), "{check:?}");
        });
    }
}

#[test]
fn the_lock_of_the_environments_queue_is_left_for_a_week_or_for_a_minute() {
    for (lock, is_left) in [(EnvQueueLock::SevenDays, true), (EnvQueueLock::Minute, false)] {
        let bench = Bench::new(with(|choices| choices.env_queue_lock = lock));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            let jobs = vec![JobSpec { stage: 0, place: Place::Environment }];
            bench.server.start_build(BuildSpec { name: "b".to_owned(), jobs }).unwrap();
            bench.server.disturb(1, Nuisance::DatabaseSlow(secs(2)), OnEffect::untold());
            while bench.env_queue_locks() == 0 {
                bench.clock.sleep(secs(1)).await;
            }
            bench.server.redis_restarts(2, Keys::Kept);
            bench.clock.sleep(secs(20)).await;
            bench.server.redis_answers(2);
            bench.server.calm(1);
            bench.clock.sleep(secs(120)).await;
        });
        assert_eq!(bench.env_queue_locks() > 0, is_left, "{lock:?}");
    }
}

#[test]
fn the_lock_of_an_agent_lasts_for_a_long_build() {
    for (life, events) in [(LockLife::InSeconds, &["taken", "expired"][..]), (LockLife::Week, &["taken"])] {
        let bench = Bench::new(with(|choices| choices.lock_life = life));
        bench.clock.run(async {
            bench.ask(json!([])).await;
            bench.start("b");
            bench.next_build().await;
            bench.worker(Method::PUT, path::STARTED, ("b", "1"), Value::Null).await;
            for minutes in 1..=170 {
                bench.clock.sleep(secs(60)).await;
                bench.worker(Method::POST, path::HEARTBEAT, ("b", "1"), Value::Null).await;
                assert!(minutes > 167 || bench.locks() == ["taken"], "{life:?} after {minutes} min");
            }
        });
        assert_eq!(bench.locks(), events, "{life:?}");
    }
}

/// Two jobs of one stage go through the critical section of their build, while the database takes this long.
fn through_a_slow_section(choices: Choices, seconds: u64) -> Bench {
    let bench = Bench::new(choices);
    let jobs = vec![JobSpec { stage: 0, place: Place::Environment }; 2];
    bench.server.disturb(1, Nuisance::DatabaseSlow(secs(seconds)), OnEffect::untold());
    bench.server.start_build(BuildSpec { name: "b".to_owned(), jobs }).unwrap();
    bench
}

#[test]
fn a_section_that_outlasts_its_lock_keeps_others_out() {
    // The stage's step holds its lock for 30 s, the jobs' for 60 s.
    for (lock, most) in [(SectionLock::Unrenewed, 2), (SectionLock::Renewed, 1)] {
        for (seconds, most) in [(20, 1), (100, most)] {
            let bench = through_a_slow_section(with(|choices| choices.section_lock = lock), seconds);
            bench.clock.run(bench.clock.sleep(secs(400)));
            assert_eq!(bench.most_inside(), most, "{lock:?} when the database takes {seconds} s");
        }
    }
}

#[test]
fn who_cannot_renew_the_lock_of_its_section_leaves_before_it_ends() {
    let bench = through_a_slow_section(Choices::hardened(), 100);
    bench.clock.run(async {
        bench.clock.sleep(secs(10)).await;
        bench.server.redis_restarts(2, Keys::Kept);
        bench.clock.sleep(secs(19)).await;
        assert_eq!(bench.most_inside(), 1);
        let left = |fact: &Fact| matches!(fact, Fact::LockReleased { .. });
        assert_eq!(bench.facts.0.lock().unwrap().iter().filter(|fact| left(fact)).count(), 0);
        bench.clock.sleep(secs(2)).await;
        assert_eq!(bench.facts.0.lock().unwrap().iter().filter(|fact| left(fact)).count(), 1);
    });
}

#[test]
fn agents_that_are_silent_are_shown_as_offline() {
    let bench = Bench::new(Choices::hardened());
    bench.clock.run(async {
        bench.ask(json!([])).await;
        bench.clock.sleep(secs(70)).await;
    });
    let shown = |fact: &Fact| if let Fact::AgentShown { online, .. } = fact { Some(*online) } else { None };
    let shown: Vec<bool> = bench.facts.0.lock().unwrap().iter().filter_map(shown).collect();
    assert_eq!(shown, [true, false]);
}

#[test]
fn redis_that_is_away_stops_locks_and_loses_what_it_had_only_in_memory() {
    let bench = Bench::new(Choices::upstream());
    bench.clock.run(async {
        bench.ask(json!([])).await;
        bench.start("b");
        bench.next_build().await;
        bench.worker(Method::PUT, path::STARTED, ("b", "1"), Value::Null).await;
        bench.server.redis_restarts(1, Keys::Lost);
        let (status, refused) = bench.call(Method::POST, path::HEARTBEAT, Some(("b", "1")), Value::Null).await;
        assert_eq!((status, &refused["status"]), (500, &json!(500)));
        bench.server.redis_answers(1);
        bench.worker(Method::POST, path::HEARTBEAT, ("b", "1"), Value::Null).await;
    });
    let lost = |fact: &Fact| matches!(fact, Fact::LockExpired { lock, .. } if lock.0.starts_with("agent:reuse"));
    assert!(bench.facts.0.lock().unwrap().iter().any(lost));
}

#[test]
fn only_who_has_the_key_gets_in() {
    let bench = Bench::new(Choices::upstream());
    bench.clock.run(async {
        let ask = |agent: &str, secret: &str| {
            Request::post(path::ASK)
                .header(header::PROJECT_ID, "p")
                .header(header::AGENT_ID, agent)
                .header(header::SECRET_KEY, secret)
                .body(Body::empty())
                .unwrap()
        };
        let (status, refused) = bench.send(ask(AGENT, "guessed")).await;
        assert_eq!((status.as_u16(), &refused["status"]), (403, &json!(403)));
        let (status, deleted) = bench.send(ask("nobody", "s")).await;
        assert_eq!((status.as_u16(), &deleted["agentStatus"]), (200, &json!("DELETE")));
        let (status, refused) = bench.call(Method::POST, path::HEARTBEAT, Some(("b", "1")), Value::Null).await;
        assert_eq!((status, &refused["status"]), (403, &json!(403)));
        let (status, _) = bench.send(Request::get("/squall/admin/jobs").body(Body::empty()).unwrap()).await;
        assert_eq!(status.as_u16(), 400);
    });
}

const ROUTES: [(&str, &str); 9] = [
    ("POST", path::STARTUP),
    ("POST", path::ASK),
    ("POST", path::FINISH),
    ("PUT", path::STARTED),
    ("GET", path::CLAIM),
    ("POST", path::COMPLETE),
    ("POST", path::END),
    ("POST", path::HEARTBEAT),
    ("POST", "/squall/admin/jobs"),
];

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => garbage::bodies(&[
            "[]",
            "{}",
            r#"{"askEnable":{"build":7},"heartbeat":[]}"#,
            r#"{"projectId":1,"buildId":[],"vmSeqId":{},"success":"yes"}"#,
            r#"{"taskId":{},"elementId":1,"success":0,"buildResult":[]}"#,
            r#"{"hostname":[],"hostIp":1,"name":[]}"#,
        ]),
        1 => Just(vec![b' '; super::routes::BODY_LIMIT + 1]),
    ]
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("-1".into()), Just("99999999999999999999".into()), "[ -~]{1,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn garbage_is_refused_with_status_and_message(
        route in 0..ROUTES.len(), build in names(), seq in names(), body in bodies(), known: bool,
    ) {
        let (method, path) = ROUTES[route];
        let bench = Bench::new(Choices::upstream());
        bench.clock.run(async {
            let request = Request::builder().method(method).uri(path)
                .header(header::PROJECT_ID, "p")
                .header(header::AGENT_ID, if known { AGENT } else { "" })
                .header(header::SECRET_KEY, "s")
                .header(header::BUILD_ID, build)
                .header(header::VM_SEQ_ID, seq)
                .body(Body::from(body)).unwrap();
            let (status, answer) = bench.send(request).await;
            assert!(status.is_client_error(), "{status}: {answer}");
            assert_eq!(answer["status"], json!(status.as_u16()));
            assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
            assert!(answer["data"].is_null());
        });
        prop_assert!(bench.server.snapshot().is_empty());
    }
}

#[test]
fn a_call_that_is_lost_in_a_restart_is_answered() {
    let bench = Bench::new(Choices::hardened());
    bench.clock.run(async {
        bench.ask(json!([])).await;
        bench.start("b");
        bench.next_build().await;
        bench.server.disturb(1, Nuisance::DatabaseSlow(secs(30)), OnEffect::untold());
        let started = bench.call(Method::PUT, path::STARTED, Some(("b", "1")), Value::Null);
        let restarted = async {
            bench.clock.sleep(secs(1)).await;
            bench.clock.stop_all();
        };
        let ((status, answer), ()) = future::join(started, restarted).await;
        assert_eq!((status, &answer["status"]), (500, &json!(500)));
    });
}
