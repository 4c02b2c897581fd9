//! A queue that gives out jobs on a lease, and an agent that works them off and renews its lease meanwhile. The agent has
//! a bug: when it cannot renew it works on, while the lease runs out and somebody else is given the job. The repaired one
//! stops in time.
//!
//! Both talk to the real axum router over real HTTP, in a world in which connections break and processes are killed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use futures_util::future::{Either, select};
use squall::prelude::*;

const LEASE: Duration = Duration::from_secs(30);

/// The server: jobs that wait, and those that somebody holds until an instant of its own clock.
#[derive(Clone)]
struct Queue {
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    jobs: Arc<Mutex<Jobs>>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<String>,
    held: BTreeMap<String, (u32, Mono)>,
    attempts: BTreeMap<String, u32>,
}

impl Queue {
    fn router(&self) -> Router {
        Router::new()
            .route(
                "/take",
                post(async |State(queue): State<Queue>| queue.take().map(Json).ok_or(StatusCode::NOT_FOUND)),
            )
            .route("/renew/{job}/{attempt}", post(async |State(queue): State<Queue>, Path(of)| queue.renew(of)))
            .route("/done/{job}/{attempt}", post(async |State(queue): State<Queue>, Path(of)| queue.done(of)))
            .with_state(self.clone())
    }

    fn put(&self, job: String) {
        self.ledger.record(Fact::JobQueued { job: (&job).into() });
        self.lock().waiting.push_back(job);
    }

    fn take(&self) -> Option<(String, u32)> {
        let mut jobs = self.lock();
        let now = self.clock.mono();
        let lost: Vec<String> =
            jobs.held.iter().filter(|(_, (_, until))| *until < now).map(|(job, _)| job.clone()).collect();
        for job in lost {
            jobs.held.remove(&job);
            jobs.waiting.push_back(job);
        }
        let job = jobs.waiting.pop_front()?;
        let attempt = jobs.attempts.entry(job.clone()).or_default();
        *attempt += 1;
        let attempt = *attempt;
        jobs.held.insert(job.clone(), (attempt, now + LEASE));
        Some((job, attempt))
    }

    fn renew(&self, (job, attempt): (String, u32)) -> StatusCode {
        let now = self.clock.mono();
        match self.lock().held.get_mut(&job) {
            Some((held, until)) if *held == attempt && *until >= now => {
                *until = now + LEASE;
                StatusCode::OK
            }
            _ => StatusCode::CONFLICT,
        }
    }

    fn done(&self, (job, attempt): (String, u32)) -> StatusCode {
        let mut jobs = self.lock();
        let accepted = jobs.held.get(&job).is_some_and(|(held, _)| *held == attempt);
        if accepted {
            jobs.held.remove(&job);
            let outcome = Outcome::Succeeded;
            self.ledger.record(Fact::JobReported { job: (&job).into(), attempt, outcome, accepted });
        }
        if accepted { StatusCode::OK } else { StatusCode::CONFLICT }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's way to the server: a status, and what came with it.
async fn call(process: &Process, path: String) -> Result<(StatusCode, Bytes), TransportError> {
    let request = Request::post(format!("http://queue/{path}")).body(http::empty()).expect("a valid request");
    let answered = async {
        let answer = process.http().oneshot(request).await?;
        let status = answer.status();
        Ok((status, http::read(answer.into_body(), 1_000).await?))
    };
    clock::timeout(&*process.clock(), Duration::from_secs(5), answered).await.unwrap_or(Err(TransportError::TimedOut))
}

/// What the agent does when its lease may be lost.
#[derive(Clone, Copy, PartialEq)]
enum LeaseLost {
    /// The bug: it never looks.
    WorksOn,
    /// It stops before anybody else can be given the job.
    Stops,
}

/// The agent: one job at a time, renewed while it runs, reported at its end.
async fn agent(process: Process, lost: LeaseLost) -> i32 {
    let clock = process.clock();
    loop {
        let asked = clock.mono();
        if let Ok((StatusCode::OK, taken)) = call(&process, "take".to_owned()).await {
            let (job, attempt): (String, u32) = serde_json::from_slice(&taken).unwrap_or_default();
            let working = Box::pin(work(&process, &job, attempt));
            let leased = Box::pin(keep_lease(&process, &job, attempt, asked, lost));
            if let Either::Left(_) = select(working, leased).await {
                for _ in 0..10 {
                    if call(&process, format!("done/{job}/{attempt}")).await.is_ok() {
                        break;
                    }
                    clock.sleep(Duration::from_secs(2)).await;
                }
            }
        }
        clock.sleep(Duration::from_secs(10)).await;
    }
}

/// What the agent does for a living. It is the world that tells the journal when a job runs.
async fn work(process: &Process, job: &str, attempt: u32) {
    let running = Execution::start(process, job, attempt);
    process.clock().sleep(Duration::from_secs(90)).await;
    running.end(Outcome::Succeeded);
}

/// Renews the lease, and ends when it may be lost: a margin before the end of what was surely granted, counted from the
/// question and not from the answer.
async fn keep_lease(process: &Process, job: &str, attempt: u32, mut granted: Mono, lost: LeaseLost) {
    let clock = process.clock();
    loop {
        clock.sleep(Duration::from_secs(5)).await;
        let asked = clock.mono();
        match call(process, format!("renew/{job}/{attempt}")).await {
            Ok((StatusCode::OK, _)) => granted = asked,
            Ok((StatusCode::CONFLICT, _)) if lost == LeaseLost::Stops => return,
            _ => {}
        }
        // The next round takes up to ten seconds.
        if lost == LeaseLost::Stops && clock.mono().since(granted) + Duration::from_secs(11) > LEASE {
            return;
        }
    }
}

/// What must hold, and what may go wrong.
fn checked() -> Check {
    Check::new("no job runs twice")
        .lasts(Duration::from_secs(2_400))
        .faults(["partition", "drop-reply", "latency", "reset", "kill", "refuse"])
        .invariant(NoJobRunsTwice::default())
        .invariant(QueuedJobEnds { bound: Duration::from_secs(900), ..QueuedJobEnds::default() })
}

/// Furnishes the world, and queues a job a minute.
async fn drive(world: World, lost: LeaseLost) {
    let jobs = Arc::<Mutex<Jobs>>::default();
    let queue = move |clock, ledger| Queue { clock, ledger, jobs: jobs.clone() };
    let host = world.server("queue", {
        let queue = queue.clone();
        move |process| queue(process.clock(), process.ledger()).router()
    });
    for n in 1..=3 {
        world.agent(&format!("agent-{n}"), move |process| agent(process, lost));
    }
    let queue = queue(host.clock(), host.ledger());
    for n in 1..=10 {
        world.sleep(Duration::from_secs(60)).await;
        queue.put(format!("job-{n}"));
    }
}

#[test]
#[should_panic(expected = "no-job-runs-twice")]
fn careless_agents_are_caught() {
    checked().run(|world| drive(world, LeaseLost::WorksOn));
}

#[test]
fn careful_agents_are_clean() {
    checked().run(|world| drive(world, LeaseLost::Stops));
}
