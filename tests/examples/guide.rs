//! The example of `docs/guide.md`: an agent that takes jobs from a queue, and whose requests may hang.

#[path = "../documents/shown.rs"]
mod shown;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use squall::prelude::*;

/// The agent: takes a job, works on it for half a minute, says that it is done, and asks for the next one.
async fn agent(process: Process, patience: Duration) -> i32 {
    let (me, clock) = (process.node().name().to_owned(), process.clock());
    while !process.shutdown().is_requested() {
        let taken = call(&process, format!("take/{me}"), patience).await;
        if let Ok((StatusCode::OK, body)) = taken
            && let Ok(Some((job, attempt))) = serde_json::from_slice::<Option<(String, u32)>>(&body)
        {
            let running = Execution::start(&process, &job, attempt);
            clock.sleep(Duration::from_secs(30)).await;
            running.end(Outcome::Succeeded);
            let _ = call(&process, format!("done/{me}/{job}"), patience).await;
        }
        clock.sleep(Duration::from_secs(10)).await;
    }
    0
}

/// One request, and an answer that is read whole.
async fn call(process: &Process, path: String, patience: Duration) -> Result<(StatusCode, Bytes), TransportError> {
    let request = Request::post(format!("http://queue/{path}")).body(http::empty()).expect("a valid request");
    let answered = async {
        let answer = process.http().oneshot(request).await?;
        let status = answer.status();
        Ok((status, http::read(answer.into_body(), 10_000).await?))
    };
    clock::timeout(&*process.clock(), patience, answered).await.unwrap_or(Err(TransportError::TimedOut))
}

/// The server: jobs that wait, and the one that each agent has.
#[derive(Clone)]
struct Queue {
    ledger: Arc<dyn Ledger>,
    jobs: Arc<Mutex<Jobs>>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<String>,
    held: BTreeMap<String, (String, u32)>,
}

impl Queue {
    fn router(self) -> Router {
        Router::new()
            .route("/take/{agent}", post(async |State(queue): State<Queue>, Path(agent)| Json(queue.take(agent))))
            .route(
                "/done/{agent}/{job}",
                post(async |State(queue): State<Queue>, Path((agent, job))| queue.done(agent, job)),
            )
            .with_state(self)
    }

    fn put(&self, job: String) {
        self.ledger.record(Fact::JobQueued { job: (&job).into() });
        self.jobs.lock().expect("whole").waiting.push_back(job);
    }

    /// The job that this agent has already, or the next one.
    fn take(&self, agent: String) -> Option<(String, u32)> {
        let mut jobs = self.jobs.lock().expect("whole");
        let (job, attempt) = match jobs.held.get(&agent) {
            Some((job, attempt)) => (job.clone(), attempt + 1),
            None => (jobs.waiting.pop_front()?, 1),
        };
        jobs.held.insert(agent, (job.clone(), attempt));
        Some((job, attempt))
    }

    fn done(&self, agent: String, job: String) {
        let mut jobs = self.jobs.lock().expect("whole");
        if let Some((_, attempt)) = jobs.held.get(&agent).filter(|(held, _)| *held == job).cloned() {
            jobs.held.remove(&agent);
            let outcome = Outcome::Succeeded;
            self.ledger.record(Fact::JobReported { job: job.into(), attempt, outcome, accepted: true });
        }
    }
}

/// How much there is to do in a world.
type Work = (u32, u32);

/// Furnishes a world with a queue, one agent or two, and queues a job every half minute.
async fn drive(world: World, (more_agents, jobs): Work, patience: Duration) {
    let kept = Arc::<Mutex<Jobs>>::default();
    let at_hand = kept.clone();
    let host = world.server("queue", move |process| Queue { ledger: process.ledger(), jobs: kept.clone() }.router());
    for n in 1..=1 + more_agents {
        world.agent(&format!("agent-{n}"), move |process| agent(process, patience));
    }
    let queue = Queue { ledger: host.ledger(), jobs: at_hand };
    for n in 1..=jobs {
        world.sleep(Duration::from_secs(30)).await;
        queue.put(format!("job-{n}"));
    }
}

/// An invariant of one's own: nobody works on what somebody has done.
fn nothing_is_done_again_by_another() -> Property {
    let summary = "A job that one agent was given is never started by another.";
    Property::always("no-job-changes-hands", summary, "job", |history, found| {
        let mut first = BTreeMap::new();
        for entry in history.journal {
            let Fact::JobStarted { job, agent, .. } = &entry.fact else { continue };
            found.subject();
            if *first.entry(job).or_insert(agent) != agent {
                found.breach(job, entry.at, format_args!("{agent} started {job}, which was {}'s", first[job]));
            }
        }
    })
}

/// What must hold, for how long to try, and how much work is drawn.
fn property() -> Check<Work> {
    Check::new("every job gets done")
        .faults(["partition", "reset", "status", "drop-reply", "stall", "kill"])
        .heal_at(Duration::from_secs(10 * 60))
        .lasts(Duration::from_secs(30 * 60))
        .invariant(NoJobRunsTwice::default())
        .invariant(QueuedJobEnds { bound: Duration::from_secs(15 * 60), ..QueuedJobEnds::default() })
        .invariant(nothing_is_done_again_by_another())
        .workload(|random| (random.random_range(0..=1), random.random_range(1..=20)))
}

/// As long as it takes: what most HTTP clients do unless they are told otherwise.
const ENDLESS: Duration = Duration::from_secs(86_400);

#[test]
fn every_job_gets_done() {
    property().run_with(|world, work| drive(world, work, Duration::from_secs(10)));
}

#[test]
fn it_is_as_the_guide_shows() {
    // The command that runs a seed again has the name of the test's thread.
    let test = std::thread::Builder::new().name("every_job_gets_done".to_owned());
    // So long that the number of attempts alone decides how small the case gets, on a slow machine, too.
    let property = property().shrinking(Duration::from_secs(600));
    let failing = test.spawn(|| property.run_with(|world, work| drive(world, work, ENDLESS))).expect("a thread");
    let told = failing.join().expect_err("an agent that waits for ever is caught");
    let told = told.downcast::<String>().expect("a message");
    let (mut shown, mut files) = (String::new(), BTreeMap::new());
    for line in told.lines() {
        match line.split_once('/').filter(|(_, path)| path.contains("squall-reports/")) {
            Some((what, path)) => {
                let (_, name) = path.rsplit_once('/').expect("a path");
                shown += &format!("{what}target/debug/squall-reports/{name}\n");
                let text = std::fs::read_to_string(format!("/{path}")).expect("it was written");
                files.insert(what.trim().trim_end_matches(':').to_owned(), text);
            }
            None => shown += &format!("{line}\n"),
        }
    }
    shown::is_as_made("docs/guide.md", "failure", &format!("```text\n{shown}```\n"));
    shown::is_as_made("docs/guide.md", "story", &format!("```text\n{}```\n", files["story"]));
    shown::is_as_made("README.md", "failure", &format!("```text\n{shown}```\n"));
    shown::is_as_made("README.md", "picture", &format!("```mermaid\n{}```\n", files["diagram"]));
}
