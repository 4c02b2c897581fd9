//! A toy to test campaigns with: workers take jobs from a queue. In variant `upstream` the queue forgets a job as soon
//! as it is taken, so a worker that crashes loses it; in `hardened` it gives a job out again when its lease is over.
//! Bug `toy.forget` is the first of these; `toy.colour` changes nothing that anybody could notice. Further variants break
//! in other ways.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use http::{Request, StatusCode};
use rand_chacha::rand_core::RngCore;
use serde_json::{Value, json};
use squall_protocol::facts::Outcome;
use squall_protocol::{Clock, Fact, Ledger, TransportError, http as wire, supervise};
use squall_sim::case::{CASE_VERSION, Case};
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Target};
use squall_sim::http::serve;
use squall_sim::invariant::{History, Invariant, Judgement, Kind};
use squall_sim::random::Streams;
use squall_sim::scenario::{Bug, CaseError, Scenario};
use squall_sim::verdict::{Finding, Severity};
use squall_sim::{Process, SimTime, World};
use tower::ServiceExt;

/// Long enough for a job, and for a worker to come back.
const LEASE: Duration = Duration::from_secs(60);
const JOB_LASTS: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(5);
const JOBS: u64 = 10;
const WORKERS: u64 = 2;

/// The scenario.
pub struct Toy;

impl Scenario for Toy {
    fn name(&self) -> &'static str {
        "toy-queue"
    }

    fn summary(&self) -> &'static str {
        "Workers take jobs from a queue and crash."
    }

    fn bugs(&self) -> Vec<Bug> {
        let bug = |name: &str, summary: &str| Bug {
            name: name.to_owned(),
            summary: summary.to_owned(),
            upstream: "toy#1".to_owned(),
            shows_when: None,
        };
        vec![bug("toy.forget", "a crash loses jobs"), bug("toy.colour", "the queue is red")]
    }

    fn generate(&self, seed: u64, variant: &str) -> Case {
        assert_ne!(variant, "ungenerable", "no such case");
        let mut draws = Streams::new(seed).stream("faults");
        let fault = |n: u64, at: u64| Fault {
            kind: FaultKind::Crash,
            target: Target { node: Some(format!("worker-{}", n % WORKERS)), ..Target::default() },
            at_ms: at % 150_000,
            for_ms: 5_000,
        };
        let crashes = if variant == "desert" { 0 } else { draws.next_u64() % 4 };
        let faults = (0..crashes).map(|n| fault(n, draws.next_u64())).collect();
        Case {
            version: CASE_VERSION,
            scenario: self.name().to_owned(),
            variant: variant.to_owned(),
            seed,
            end_ms: 900_000,
            choices: match variant {
                "hardened" => json!({"forget": "when_done", "colour": "blue"}),
                "toy.colour" => json!({"forget": "when_done", "colour": "red"}),
                _ => json!({"forget": "when_taken", "colour": "blue"}),
            },
            parameters: json!({"workers": WORKERS, "lease_ms": LEASE.as_millis() as u64}),
            workload: json!({"jobs": JOBS}),
            plan: FaultPlan { faults, heal_at_ms: 200_000 },
        }
    }

    fn furnish(&self, case: &Case, world: &World) -> Result<(), CaseError> {
        let Some(jobs) = case.workload.get("jobs").and_then(Value::as_u64) else {
            let why = "jobs is no number".to_owned();
            return Err(CaseError::Misfit { part: "workload", scenario: case.scenario.clone(), why });
        };
        assert_ne!(case.variant, "unbuildable", "the house has no floor");
        let server = world.node("queue");
        let queue = Queue {
            clock: server.clock(),
            ledger: server.ledger(),
            leases: case.choices["forget"] == "when_done",
            state: Arc::default(),
        };
        (0..jobs).for_each(|n| queue.put(format!("job-{n}")));
        if case.variant == "desert" {
            return Ok(());
        }
        let always = || supervise::Always { delay: PAUSE };
        server.service("queue", "queue", always, move |process| {
            let router = queue.router();
            async move {
                serve(process, 80, router).await.expect("the port is free");
                0
            }
        });
        for n in 0..case.parameters["workers"].as_u64().unwrap_or(WORKERS) {
            let name = format!("worker-{n}");
            let variant = case.variant.clone();
            world.node(&name).service("agent", &name, always, move |process| work(process, variant.clone()));
        }
        Ok(())
    }

    fn invariants(&self, case: &Case) -> Vec<Box<dyn Invariant>> {
        if case.variant == "unjudgeable" {
            return vec![Box::new(Unjudgeable)];
        }
        vec![Box::new(EveryJobEnds { within: Duration::from_secs(600) })]
    }
}

#[derive(Clone)]
struct Queue {
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    leases: bool,
    state: Arc<Mutex<Jobs>>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<String>,
    taken: BTreeMap<String, Duration>,
}

impl Queue {
    fn put(&self, job: String) {
        self.ledger.record(Fact::JobQueued { job: (&job).into() });
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.push_back(job);
    }

    fn take(&self) -> Option<String> {
        let now = self.clock.mono().since_start();
        let mut jobs = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Jobs { waiting, taken } = &mut *jobs;
        taken.retain(|job, since| {
            let lost = now > *since + LEASE;
            if lost {
                waiting.push_back(job.clone());
            }
            !lost
        });
        let job = waiting.pop_front()?;
        if self.leases {
            taken.insert(job.clone(), now);
        }
        Some(job)
    }

    fn done(&self, job: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(job);
        let (job, outcome) = (job.into(), Outcome::Succeeded);
        self.ledger.record(Fact::JobReported { job, attempt: 1, outcome, accepted: true });
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/take", post(async |State(queue): State<Queue>| queue.take().ok_or(StatusCode::NO_CONTENT)))
            .route("/done/{job}", post(async |State(queue): State<Queue>, Path(job): Path<String>| queue.done(&job)))
            .with_state(self.clone())
    }
}

async fn work(process: Process, variant: String) -> i32 {
    let (clock, ledger) = (process.clock(), process.ledger());
    let (agent, worker) = (process.node().name().to_owned(), format!("{}#{}", process.name(), process.incarnation()));
    tracing::info!(pause = ?PAUSE, "looking for work");
    loop {
        if let Ok(job) = call(&process, "/take", &variant).await
            && !job.is_empty()
        {
            ledger.record(Fact::JobStarted {
                job: (&job).into(),
                attempt: 1,
                agent: (&agent).into(),
                worker: (&worker).into(),
            });
            match variant.as_str() {
                "panicking" if job == "job-3" => panic!("{job} is too hard"),
                "spinning" if job == "job-3" => loop {
                    clock.mono();
                },
                _ => clock.sleep(JOB_LASTS).await,
            }
            while call(&process, &format!("/done/{job}"), &variant).await.is_err() {
                tracing::warn!("the queue does not hear");
                clock.sleep(PAUSE).await;
            }
        }
        clock.sleep(PAUSE).await;
    }
}

/// Outlives every world, which nothing may.
static CALLS: AtomicU64 = AtomicU64::new(0);

async fn call(process: &Process, path: &str, variant: &str) -> Result<String, TransportError> {
    let mut request = Request::post(format!("http://queue{path}"));
    if variant == "leaking" {
        request = request.header("call", CALLS.fetch_add(1, Ordering::Relaxed));
    }
    let request = request.body(wire::empty()).expect("a valid request");
    let answer = process.http().oneshot(request).await?;
    let body = wire::read(answer.into_body(), 1_000).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

struct EveryJobEnds {
    within: Duration,
}

impl Invariant for EveryJobEnds {
    fn name(&self) -> &'static str {
        "every-job-ends"
    }

    fn summary(&self) -> &'static str {
        "Every job that was queued is reported in the end."
    }

    fn kind(&self) -> Kind {
        Kind::EventuallyWithin(self.within)
    }

    fn judge(&self, history: &History<'_>) -> Judgement {
        let mut open = BTreeMap::new();
        let mut subjects = 0;
        for entry in history.journal {
            match &entry.fact {
                Fact::JobQueued { job } => {
                    subjects += 1;
                    open.insert(job, entry.at);
                }
                Fact::JobReported { job, .. } => {
                    open.remove(job);
                }
                _ => {}
            }
        }
        let due = history.heal_at + self.within;
        let finding = |job: &squall_protocol::facts::Job| Finding {
            severity: Severity::Stuck,
            invariant: self.name().to_owned(),
            subject_kind: "job".to_owned(),
            subject: job.to_string(),
            at: due,
            message: format!("{job} was queued and never reported"),
        };
        let findings = if history.end >= due { open.into_keys().map(finding).collect() } else { Vec::new() };
        Judgement { subjects, findings }
    }
}

struct Unjudgeable;

impl Invariant for Unjudgeable {
    fn name(&self) -> &'static str {
        "unjudgeable"
    }

    fn summary(&self) -> &'static str {
        "Nobody can judge this."
    }

    fn kind(&self) -> Kind {
        Kind::Always
    }

    fn judge(&self, _: &History<'_>) -> Judgement {
        panic!("no idea")
    }
}

/// The instant at which the toy's liveness is judged.
#[allow(dead_code, reason = "not every test that has the toy needs it")]
pub const JUDGED_AT: SimTime = SimTime::from_secs(800);
