//! Tests of somebody's own agents: a property, checked over many seeds, inside `cargo test`.
//!
//! A test furnishes a world with servers and agents, and goes on as the one who drives it: it queues work, waits, and
//! asserts. Faults are drawn from each seed for what the test has furnished before its first `await`. What servers,
//! workers and the test write into the journal is judged by invariants.
//!
//! ```
//! use axum::{Router, routing::post};
//! use http::Request;
//! use squall_protocol::{clock, http as wire};
//! use std::time::Duration;
//! use tower::ServiceExt;
//!
//! /// How long the agent waits for an answer: well within the time that it has once it is asked to stop.
//! const PATIENCE: Duration = Duration::from_secs(10);
//!
//! squall_sim::check::check("an agent gets through", |world| async move {
//!     world.server("front", |_| Router::new().route("/hello", post(async || "welcome")));
//!     world.agent("agent-1", |process| async move {
//!         while !process.shutdown().is_requested() {
//!             let hello = Request::post("http://front/hello").body(wire::empty()).expect("a valid request");
//!             let _ = clock::timeout(&*process.clock(), PATIENCE, process.http().oneshot(hello)).await;
//!             process.clock().sleep(Duration::from_secs(5)).await;
//!         }
//!         0
//!     });
//!     world.sleep(Duration::from_secs(60)).await;
//! });
//! ```

mod failure;
mod settings;
mod tested;

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::settings::Settings;
use self::tested::{Draw, Test, Tested, VARIANT};
use crate::coverage::Gap;
use crate::explore::{Campaign, Run, Shard, Summary, explore};
use crate::fault::SystemFamily;
use crate::fault::families::families;
use crate::invariant::endings::AgentOutlivesTrouble;
use crate::invariant::patience::{RetryAfterBounded, RetryAfterMinded, SilenceBounded, WaitsDiffer};
use crate::invariant::{Invariant, Kind, Rule, every_invariant};
use crate::regressions::{self, Past};
use crate::shrink::Budget;
use crate::world::World;

/// Seeds of a check that says nothing else.
const SEEDS: NonZeroU64 = NonZeroU64::new(100).expect("not zero");
/// Every so many seeds one is run twice and compared.
const CHECK_EVERY: Option<NonZeroU64> = NonZeroU64::new(25);

/// Checks a property with everything as it is by default; [`Check`] has the knobs.
///
/// # Panics
/// With the seed, what failed and how to see it again, when a run breaks an invariant, when the test panics or does not
/// end, and when the campaign proved nothing.
#[track_caller]
pub fn check<F>(name: &'static str, test: impl Fn(World) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    Check::new(name).run(test);
}

/// How a property is checked.
///
/// The environment has the last word: `SQUALL_SEED` runs one seed and tells its story, `SQUALL_SEEDS`, `SQUALL_TIME` and
/// `SQUALL_JOBS` replace what the code says.
#[must_use = "nothing is checked before `run`"]
pub struct Check<W = ()> {
    name: &'static str,
    seeds: NonZeroU64,
    time: Option<Duration>,
    jobs: Option<NonZeroUsize>,
    shrinking: Budget,
    bounds: Bounds,
    invariants: Invariants,
    draw: Draw<W>,
}

/// What faults may be drawn, and when.
#[derive(Clone, Debug)]
struct Bounds {
    lasts: Duration,
    begin: Duration,
    heal_at: Duration,
    faults_max: usize,
    /// The families, and whether somebody named them.
    families: Families,
    system: Vec<SystemFamily>,
    /// The machines to act on, if they were named.
    nodes: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Families {
    /// All but `suspend`: no client alone keeps a lease safely with a clock that stood still.
    Usual,
    /// These.
    Named(Vec<String>),
}

impl Bounds {
    fn families(&self) -> Vec<String> {
        match &self.families {
            Families::Usual => families().filter(|family| *family != "suspend").map(str::to_owned).collect(),
            Families::Named(named) => named.clone(),
        }
    }

    /// Did somebody ask for this family?
    fn names(&self, family: &str) -> bool {
        let named = matches!(&self.families, Families::Named(named) if named.iter().any(|name| name == family));
        named || self.system.iter().any(|system| system.name == family)
    }

    fn acts_on(&self, node: &str) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.iter().any(|named| named == node))
    }
}

/// What runs are judged by.
enum Invariants {
    /// All that are ready, each as far as the journal has something for it.
    Ready,
    /// Those that were named, each of which must have something to judge.
    Named(Vec<Arc<dyn Invariant>>),
}

impl Check {
    /// A property by its name. The name is also that of its files.
    ///
    /// By default 100 seeds are run on all cores; a world lasts an hour of simulated time; up to eight faults of all
    /// families but `suspend` act on the machines that serve nothing, and on their ways to those that serve, from the
    /// tenth second to the twentieth minute; and every ready invariant judges.
    pub fn new(name: &'static str) -> Self {
        let bounds = Bounds {
            lasts: Duration::from_secs(3_600),
            begin: Duration::from_secs(10),
            heal_at: Duration::from_secs(1_200),
            faults_max: 8,
            families: Families::Usual,
            system: Vec::new(),
            nodes: None,
        };
        let draw: Draw<()> = Arc::new(|_| ());
        let shrinking = Budget::default();
        Self { name, seeds: SEEDS, time: None, jobs: None, shrinking, bounds, invariants: Invariants::Ready, draw }
    }

    /// Checks it. `test` furnishes a world before its first `await` and drives it from there on. It must end before the
    /// world does; what goes on for ever belongs into [`World::spawn`] or an agent.
    ///
    /// # Panics
    /// See [`check`].
    #[track_caller]
    pub fn run<F>(self, test: impl Fn(World) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_with(move |world, ()| test(world));
    }
}

impl<W: Serialize + DeserializeOwned + 'static> Check<W> {
    /// How many seeds, from 0 on. `SQUALL_SEEDS` replaces it.
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = NonZeroU64::new(seeds).unwrap_or(NonZeroU64::MIN);
        self
    }

    /// How long to go on in real time, whatever the number of seeds. `SQUALL_TIME` replaces it.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// On how many threads; without, on all cores. `SQUALL_JOBS` replaces it.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// How long to make a failure smaller at most, in real time; 25 seconds without. What is the smallest by then is told.
    pub fn shrinking(mut self, time: Duration) -> Self {
        self.shrinking.time = time;
        self
    }

    /// How long a world lasts, in simulated time.
    pub fn lasts(mut self, lasts: Duration) -> Self {
        self.bounds.lasts = lasts;
        self
    }

    /// From when on no fault acts, in simulated time. What must come true does so within its bound from here.
    pub fn heal_at(mut self, heal_at: Duration) -> Self {
        self.bounds.heal_at = heal_at;
        self
    }

    /// The families of faults to draw from, by the names of [`crate::fault::catalogue`].
    ///
    /// # Panics
    /// When there is no such family.
    pub fn faults<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = families().collect();
        let named = names.into_iter().inspect(|name| {
            assert!(known.contains(name), "no family of faults is called {name:?}; there are {}", known.join(", "));
        });
        self.bounds.families = Families::Named(named.map(str::to_owned).collect());
        self
    }

    /// The most faults of a run.
    pub fn faults_max(mut self, faults_max: usize) -> Self {
        self.bounds.faults_max = faults_max;
        self
    }

    /// The machines whose power, clock, disk, services and links faults act on; without, those that serve nothing.
    pub fn faults_on<'a>(mut self, nodes: impl IntoIterator<Item = &'a str>) -> Self {
        self.bounds.nodes = Some(nodes.into_iter().map(str::to_owned).collect());
        self
    }

    /// A fault of one's own, carried out by [`World::on_system_fault`].
    pub fn system_fault(mut self, family: SystemFamily) -> Self {
        self.bounds.system.push(family);
        self
    }

    /// Judges by this invariant. The first one that is named takes the place of all the ready ones.
    pub fn invariant(mut self, invariant: impl Invariant + 'static) -> Self {
        let mut named = match self.invariants {
            Invariants::Ready => Vec::new(),
            Invariants::Named(named) => named,
        };
        named.push(Arc::new(invariant));
        self.invariants = Invariants::Named(named);
        self
    }

    /// Draws a workload for each seed. As a part of the case it is written into case files, and it shrinks with the
    /// faults: lists lose elements and numbers get rounder, as far as the failure stays the same.
    pub fn workload<X>(self, draw: impl Fn(&mut ChaCha8Rng) -> X + Send + Sync + 'static) -> Check<X> {
        let Check { name, seeds, time, jobs, shrinking, bounds, invariants, draw: _ } = self;
        Check { name, seeds, time, jobs, shrinking, bounds, invariants, draw: Arc::new(draw) }
    }

    /// As [`Check::run`], with the workload of [`Check::workload`].
    ///
    /// # Panics
    /// See [`check`].
    #[track_caller]
    pub fn run_with<F>(self, test: impl Fn(World, W) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let settings = Settings::read(|name| std::env::var(name).ok()).unwrap_or_else(|error| panic!("{error}"));
        assert!(
            self.bounds.begin < self.bounds.heal_at && self.bounds.heal_at < self.bounds.lasts,
            "the faults of {:?} heal at {:?}: that has to be after {:?}, when they begin, and before {:?}, when worlds end",
            self.name,
            self.bounds.heal_at,
            self.bounds.begin,
            self.bounds.lasts,
        );
        let test: Test<W> = Arc::new(move |world, workload| test(world, workload).boxed());
        let tested = Tested {
            name: self.name,
            bounds: self.bounds,
            invariants: match &self.invariants {
                Invariants::Ready => ready(),
                Invariants::Named(named) => named.clone(),
            },
            draw: self.draw,
            test,
            ended: Arc::new(AtomicBool::new(false)),
        };
        match settings.seed {
            Some(seed) => failure::tell_seed(&tested, seed, self.shrinking),
            None => {
                let campaign = Campaign {
                    variant: VARIANT.to_owned(),
                    start: 0,
                    seeds: seeds(&settings, self.seeds, self.time),
                    time: settings.time.or(self.time),
                    jobs: settings.jobs.or(self.jobs).unwrap_or_else(cores),
                    shard: Shard::default(),
                    check_every: CHECK_EVERY,
                    past: past(tested.name),
                };
                let summary = run(&tested, &campaign, self.shrinking);
                prove_something(&tested, &self.invariants, &summary);
            }
        }
    }
}

/// The cases of the past that are of this test.
fn past(name: &str) -> Vec<Past> {
    let all = regressions::load(Path::new(regressions::FOLDER)).unwrap_or_else(|error| panic!("{error}"));
    all.into_iter().filter(|past| past.case.scenario == name).collect()
}

/// A time without a number of seeds means as many as there are.
fn seeds(settings: &Settings, of_code: NonZeroU64, time_of_code: Option<Duration>) -> Option<NonZeroU64> {
    let timed = settings.time.or(time_of_code).is_some();
    settings.seeds.or((!timed).then_some(of_code))
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// What is ready to judge any journal. What only a campaign shows is for those who ask for it.
fn ready() -> Vec<Arc<dyn Invariant>> {
    // Whether an agent may leave it to its supervisor to start it again, and how patient it is, is for its author to say.
    let of_design = [
        AgentOutlivesTrouble::NAME,
        SilenceBounded::NAME,
        RetryAfterMinded::NAME,
        RetryAfterBounded::NAME,
        WaitsDiffer::NAME,
    ];
    let usual = |it: &dyn Invariant| it.kind() != Kind::Sometimes && !of_design.contains(&it.name());
    let judging = every_invariant().into_iter().filter(|invariant| usual(&**invariant));
    judging.map(Arc::from).collect()
}

#[track_caller]
fn run<W: Serialize + DeserializeOwned + 'static>(
    tested: &Tested<W>,
    campaign: &Campaign,
    shrinking: Budget,
) -> Summary {
    let mut failed = None;
    let summary = explore(tested, campaign, &AtomicBool::new(false), &mut |run| {
        if run.outcome.verdict.worst().is_none() {
            return ControlFlow::Continue(());
        }
        failed = Some(run.clone());
        ControlFlow::Break(())
    });
    match failed {
        Some(Run { file: Some(file), outcome, .. }) => failure::tell_past(tested, &file, &outcome),
        Some(run) => failure::tell(tested, run.outcome.seed, shrinking),
        None => summary,
    }
}

/// A family of which this many faults were drawn has had its chance.
const CHANCES: u64 = 10;

/// A campaign that tried nothing must not look like one that found nothing. What was asked for by name has to have been
/// tried; what is there by default, such as faults of HTTP/2 for an agent that does not speak it, is only mentioned.
#[track_caller]
fn prove_something<W>(tested: &Tested<W>, invariants: &Invariants, summary: &Summary) {
    let (mut gaps, mut mentioned) = (Vec::new(), Vec::new());
    for gap in summary.coverage.gaps() {
        let asked_for = match &gap {
            Gap::NoSubject { .. } => matches!(invariants, Invariants::Named(_)),
            Gap::NoEffect { drawn, .. } if *drawn < CHANCES => continue,
            Gap::NoEffect { family, .. } => tested.bounds.names(family),
            _ => true,
        };
        if asked_for { gaps.push(gap.to_string()) } else { mentioned.push(gap.to_string()) }
    }
    if !tested.ended.load(Ordering::Relaxed) {
        gaps.push("no run came to the end of the test".to_owned());
    }
    if !gaps.is_empty() {
        panic!("{:?} held over {} seeds, but that proves nothing: {}", tested.name, summary.seeds, gaps.join("; "));
    }
    println!("{:?} holds over {} seeds, {:.0} a second", tested.name, summary.seeds, summary.seeds_per_s());
    mentioned.iter().for_each(|gap| println!("  not tried: {gap}"));
}
