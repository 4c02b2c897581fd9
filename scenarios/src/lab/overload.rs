//! Metastability: whether an overloaded service returns to normal once what triggered the overload is gone.
//!
//! An open system: calls come at a rate of their own, whatever became of earlier ones. A request whose caller has stopped
//! waiting is carried out all the same. That is a model without a network, so that a whole region of triggers and loads
//! takes a second; the policies in it are the same code as everywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use squall_protocol::Random;
use squall_protocol::clock::Mono;
use squall_protocol::retry::budget::Budget;
use squall_protocol::retry::conditions::RetryOn;
use squall_protocol::retry::wait::Wait;
use squall_protocol::retry::{Admission, Attempt, Decision, Outcome, Policy, RetryPolicy, Span};

/// How the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// One request after another, so many a second.
    Queue {
        /// Requests a second.
        per_s: u32,
    },
    /// All at once, the slower the more there are.
    Concurrent {
        /// What a request takes alone.
        alone: Duration,
        /// What each other request under way adds.
        each: Duration,
    },
}

/// An open system and what befalls it.
#[derive(Clone, Debug, PartialEq)]
pub struct Overload {
    /// How the service answers.
    pub service: Service,
    /// Calls a second, in thousandths.
    pub calls_milli_per_s: u64,
    /// How long a caller waits for an attempt.
    pub timeout: Duration,
    /// Clients, each with a budget of its own; a client has any number of calls under way.
    pub clients: usize,
    /// When the service stops.
    pub trigger_at: Duration,
    /// How long it stands still.
    pub trigger: Duration,
    /// How long it is watched after that.
    pub watched: Duration,
}

impl Overload {
    /// The smallest published case: 7 calls a second for a service of 10 a second, given up after 500 ms.
    pub fn minimal() -> Self {
        Self {
            service: Service::Queue { per_s: 10 },
            calls_milli_per_s: 7_000,
            timeout: Duration::from_millis(500),
            clients: 10,
            trigger_at: Duration::from_secs(20),
            trigger: Duration::from_secs(1),
            watched: Duration::from_secs(180),
        }
    }

    /// Marc Brooker's collapse: 1 s and 10 ms for each request under way, given up after 3 s.
    pub fn concurrent() -> Self {
        let service = Service::Concurrent { alone: Duration::from_secs(1), each: Duration::from_millis(10) };
        Self { service, calls_milli_per_s: 60_000, timeout: Duration::from_secs(3), ..Self::minimal() }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aftermath {
    /// Calls that succeeded in each second, by the second of their end.
    pub good: Vec<u32>,
    /// Requests in each second.
    pub sent: Vec<u32>,
    /// Seconds after the trigger until calls succeed as before, for good; `None` when they never do.
    pub normal_after_s: Option<usize>,
}

/// Of the calls that come, so many in a hundred have to succeed in every ten seconds for things to be normal.
const NORMAL_PERCENT: u64 = 90;
/// Seconds over which that is taken.
const NORMAL_OVER: usize = 10;

/// More retries than any call makes.
const RETRIES_MAX: u32 = u32::MAX - 1;

/// Runs a policy through it.
pub fn run(overload: &Overload, policy: &Policy, seed: u64) -> Aftermath {
    let mut world = Open::new(overload, policy, seed);
    world.run();
    world.aftermath()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Call,
    Send { call: u64 },
    Done { call: u64, attempt: u32 },
    TimedOut { call: u64, attempt: u32 },
}

struct Call {
    client: usize,
    began: Duration,
    attempt: u32,
    /// Waits belong to a call.
    waits: Box<dyn RetryPolicy>,
}

struct Open<'a> {
    overload: &'a Overload,
    /// What each call starts with.
    waits: Policy,
    now: Duration,
    order: u64,
    due: BinaryHeap<Reverse<(Duration, u64, What)>>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    clients: Vec<Client>,
    random: ChaCha8Rng,
    free_at: Duration,
    under_way: usize,
    good: Vec<u32>,
    sent: Vec<u32>,
}

/// A client: budgets, breakers and throttles are those of all its calls.
struct Client {
    gate: Box<dyn RetryPolicy>,
    random: Random,
}

impl<'a> Open<'a> {
    fn new(overload: &'a Overload, policy: &Policy, seed: u64) -> Self {
        let (budget, breaker, throttle) = (policy.budget, policy.breaker, policy.throttle);
        let retries = Some(RETRIES_MAX);
        let gate = Policy { retry_on: RetryOn::Anything, retries, budget, breaker, throttle, ..Policy::of(Wait::None) };
        let client = |n: usize| Client {
            gate: gate.start(),
            random: Box::new(ChaCha8Rng::seed_from_u64(seed ^ (n as u64 + 1) << 32)),
        };
        let seconds = (overload.trigger_at + overload.trigger + overload.watched).as_secs() as usize + 1;
        Self {
            overload,
            waits: Policy { budget: None, breaker: None, throttle: None, ..policy.clone() },
            now: Duration::ZERO,
            order: 0,
            due: BinaryHeap::from([Reverse((Duration::ZERO, 0, What::Call))]),
            calls: BTreeMap::new(),
            next_call: 0,
            clients: (0..overload.clients).map(client).collect(),
            random: ChaCha8Rng::seed_from_u64(seed),
            free_at: Duration::ZERO,
            under_way: 0,
            good: vec![0; seconds],
            sent: vec![0; seconds],
        }
    }

    fn at(&mut self, at: Duration, what: What) {
        self.order += 1;
        self.due.push(Reverse((at, self.order, what)));
    }

    fn run(&mut self) {
        let end = self.overload.trigger_at + self.overload.trigger + self.overload.watched;
        while let Some(Reverse((at, _, what))) = self.due.pop() {
            if at >= end {
                return;
            }
            self.now = at;
            match what {
                What::Call => self.call(),
                What::Send { call } => self.send(call),
                What::Done { call, attempt } => self.done(call, attempt),
                What::TimedOut { call, attempt } => self.timed_out(call, attempt),
            }
        }
    }

    /// A call comes, and the next one will after a pause that is drawn around the mean.
    fn call(&mut self) {
        let mean_ns = 1_000_000_000_000 / self.overload.calls_milli_per_s.max(1);
        let pause = Duration::from_nanos(mean_ns / 2 + self.random.next_u64() % mean_ns.max(1));
        self.at(self.now + pause, What::Call);
        let (id, client) = (self.next_call, self.next_call as usize % self.clients.len());
        self.next_call += 1;
        self.calls.insert(id, Call { client, began: self.now, attempt: 0, waits: self.waits.start() });
        self.send(id);
    }

    fn send(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.attempt += 1;
        let attempt = call.attempt;
        let Client { gate, random } = &mut self.clients[call.client];
        gate.passes(Mono::from_start(self.now));
        match gate.admit(attempt, random) {
            Admission::Refuse => self.end(id),
            Admission::Send => self.request(id, attempt, self.now),
            Admission::After(wait) => self.request(id, attempt, self.now + wait),
        }
    }

    fn request(&mut self, id: u64, attempt: u32, at: Duration) {
        if let Some(sent) = self.sent.get_mut(at.as_secs() as usize) {
            *sent += 1;
        }
        self.under_way += 1;
        let done = self.done_at(at);
        self.at(done, What::Done { call: id, attempt });
        self.at(at + self.overload.timeout, What::TimedOut { call: id, attempt });
    }

    /// When a request that comes now is carried out. Nothing is while the service stands still.
    fn done_at(&mut self, at: Duration) -> Duration {
        let (stops, goes_on) = (self.overload.trigger_at, self.overload.trigger_at + self.overload.trigger);
        match self.overload.service {
            Service::Queue { per_s } => {
                let starts = self.free_at.max(at);
                let starts = if (stops..goes_on).contains(&starts) { goes_on } else { starts };
                self.free_at = starts + Duration::from_secs(1) / per_s.max(1);
                self.free_at
            }
            Service::Concurrent { alone, each } => {
                let starts = if (stops..goes_on).contains(&at) { goes_on } else { at };
                starts + alone + each * self.under_way as u32
            }
        }
    }

    fn done(&mut self, id: u64, attempt: u32) {
        self.under_way -= 1;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.attempt != attempt {
            return;
        }
        let gate = &mut self.clients[call.client].gate;
        gate.passes(Mono::from_start(self.now));
        gate.succeeded(attempt);
        self.good[self.now.as_secs() as usize] += 1;
        self.end(id);
    }

    fn timed_out(&mut self, id: u64, attempt: u32) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.attempt != attempt {
            return;
        }
        let failed = Attempt { number: attempt, outcome: Outcome::TimedOut, elapsed: self.now - call.began };
        let Client { gate, random } = &mut self.clients[call.client];
        gate.passes(Mono::from_start(self.now));
        // A budget learns of every failure, but pays only for retries that are made: what is not retried is shown to it
        // as an attempt that is beyond every limit.
        let Decision::Retry(wait) = call.waits.decide(&failed, random) else {
            gate.decide(&Attempt { number: u32::MAX, ..failed }, random);
            return self.end(id);
        };
        match gate.decide(&failed, random) {
            Decision::Retry(paced) => self.at(self.now + wait.max(paced), What::Send { call: id }),
            Decision::GiveUp => self.end(id),
        }
    }

    fn end(&mut self, id: u64) {
        self.calls.remove(&id);
    }

    fn aftermath(self) -> Aftermath {
        let over = (self.overload.trigger_at + self.overload.trigger).as_secs() as usize;
        let last = self.good.len() - 1;
        let wanted = self.overload.calls_milli_per_s * NORMAL_OVER as u64 * NORMAL_PERCENT / 100 / 1_000;
        let is_normal = |from: usize| {
            let good: u32 = self.good[from..from + NORMAL_OVER].iter().sum();
            u64::from(good) >= wanted
        };
        let windows = over..last.saturating_sub(NORMAL_OVER);
        let normal_after_s = match windows.clone().rev().find(|from| !is_normal(*from)) {
            None => Some(0),
            Some(bad) if bad + 1 < windows.end => Some(bad + 1 - over),
            Some(_) => None,
        };
        Aftermath { good: self.good, sent: self.sent, normal_after_s }
    }
}

/// A region: for each load and each length of the trigger, how long it takes until things are normal again.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Loads, in percent of what the service can do.
    pub loads: Vec<u32>,
    /// Lengths of the trigger, in milliseconds.
    pub triggers_ms: Vec<u64>,
    /// For each load, for each trigger: seconds until things are normal, `None` for never.
    pub normal_after_s: Vec<Vec<Option<usize>>>,
    /// When some never are: the largest budget with which all are, if one was found.
    pub closed_by: Option<Budget>,
}

/// Loads of a region, in percent of what the service can do.
const LOADS: [u32; 7] = [30, 40, 50, 60, 70, 80, 90];
/// Triggers of a region, in milliseconds.
const TRIGGERS_MS: [u64; 8] = [100, 250, 500, 1_000, 2_000, 5_000, 15_000, 60_000];
/// Tokens that a client may save, of the buckets that are tried to close a region: what is saved is what makes a
/// difference, as no call succeeds in an overload that retries sustain, and so none earns anything.
const SAVED: [u32; 9] = [500, 200, 100, 50, 20, 10, 5, 2, 1];
/// What a success gives to those buckets: as much as to the published one.
const RATIO: f64 = 0.1;

/// The smallest published case with another load and another trigger.
///
/// What comes while the service stands still waits in its queue, and no policy can work that off faster than by adding
/// nothing. So it is watched for twice as long as the queue takes then, and three minutes more: who is not back by then is
/// kept from it by retries.
fn cell(load: u32, trigger_ms: u64) -> Overload {
    let trigger = Duration::from_millis(trigger_ms);
    let worked_off = trigger * load / (100 - load);
    Overload {
        calls_milli_per_s: u64::from(load) * 100,
        trigger,
        watched: worked_off * 2 + Overload::minimal().watched,
        ..Overload::minimal()
    }
}

/// Does a service return to normal from every overload of a region?
fn is_closed(policy: &Policy, seed: u64) -> bool {
    // The heaviest first: most that fail do so there.
    let mut cells = LOADS.iter().rev().flat_map(|load| TRIGGERS_MS.iter().rev().map(|ms| cell(*load, *ms)));
    cells.all(|overload| run(&overload, policy, seed).normal_after_s.is_some())
}

/// The largest token bucket, of some, with which a service returns from every overload of a region.
pub fn closing_budget(policy: &Policy, seed: u64) -> Option<Budget> {
    let mut buckets = SAVED.into_iter().map(|tokens| Budget::TokenBucket { tokens, ratio: RATIO });
    buckets.find(|bucket| is_closed(&Policy { budget: Some(*bucket), ..policy.clone() }, seed))
}

impl Region {
    /// Of a policy in the smallest published case, with other loads and triggers.
    pub fn of(policy: &Policy, seed: u64) -> Self {
        let after = |load: u32, ms: u64| run(&cell(load, ms), policy, seed).normal_after_s;
        let normal_after_s: Vec<Vec<Option<usize>>> =
            LOADS.iter().map(|load| TRIGGERS_MS.iter().map(|ms| after(*load, *ms)).collect()).collect();
        let is_open = normal_after_s.iter().flatten().any(Option::is_none);
        Self {
            loads: LOADS.to_vec(),
            triggers_ms: TRIGGERS_MS.to_vec(),
            normal_after_s,
            closed_by: is_open.then(|| closing_budget(policy, seed)).flatten(),
        }
    }

    /// The smallest trigger from which some load never returns to normal, and the smallest such load for it.
    pub fn smallest(&self) -> Option<(u64, u32)> {
        let cells = self.triggers_ms.iter().enumerate().flat_map(|(n, ms)| {
            let stuck = self.loads.iter().zip(&self.normal_after_s).filter(move |(_, row)| row[n].is_none());
            stuck.map(move |(load, _)| (*ms, *load))
        });
        cells.min()
    }

    /// What it comes to, in a sentence or two.
    pub fn verdict(&self) -> String {
        let Some((ms, load)) = self.smallest() else {
            return "It returns to normal from every one of these overloads.".to_owned();
        };
        let (stuck, all, pause) = (self.stuck(), self.loads.len() * self.triggers_ms.len(), Span::millis(ms));
        let closed = match self.closed_by {
            Some(Budget::TokenBucket { tokens, ratio }) => format!(
                "With a budget it returns from all of them: token-bucket(tokens={tokens},ratio={ratio}) is the largest of \
                 those that were tried."
            ),
            _ => "None of the token buckets that were tried changes that.".to_owned(),
        };
        format!(
            "From {stuck} of these {all} overloads it never returns; a pause of {pause} at {load} % load is enough. {closed}"
        )
    }

    /// As one JSON object.
    pub fn to_json(&self, policy: &str) -> Value {
        json!({
            "policy": policy,
            "loads_percent": self.loads,
            "triggers_ms": self.triggers_ms,
            "normal_after_s": self.normal_after_s,
            "stuck": self.stuck(),
            "closed_by": self.closed_by,
        })
    }

    /// How many of the cells never return to normal.
    pub fn stuck(&self) -> usize {
        self.normal_after_s.iter().flatten().filter(|after| after.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use squall_protocol::retry::named;

    use super::*;

    /// Three retries, 50 ms apart.
    fn three() -> Policy {
        Policy { retries: Some(3), ..Policy::of(Wait::Fixed { wait: Span::millis(50) }) }
    }

    fn budgeted() -> Policy {
        Policy { budget: Some(Budget::TokenBucket { tokens: 5, ratio: 0.1 }), ..three() }
    }

    #[test]
    fn the_smallest_published_case_never_recovers() {
        for seed in 0..5 {
            assert_eq!(run(&Overload::minimal(), &three(), seed).normal_after_s, None, "seed {seed}");
        }
    }

    #[test]
    fn without_its_trigger_it_is_normal_all_the_time() {
        let calm = Overload { trigger: Duration::ZERO, ..Overload::minimal() };
        assert_eq!(run(&calm, &three(), 0).normal_after_s, Some(0));
    }

    #[test]
    fn a_budget_ends_what_retries_sustain() {
        for seed in 0..5 {
            let after = run(&Overload::minimal(), &budgeted(), seed).normal_after_s;
            assert!(after.is_some_and(|after| after < 60), "seed {seed}: {after:?}");
        }
    }

    #[test]
    fn backoff_alone_does_not_end_it() {
        let slower = Policy { retries: Some(3), ..named("exp(base=1s,cap=20s,jitter=full)").expect("a policy") };
        let short = run(&Overload::concurrent(), &three(), 0).normal_after_s;
        let patient = Overload { trigger: Duration::from_secs(10), ..Overload::concurrent() };
        assert_eq!((short, run(&patient, &slower, 0).normal_after_s), (None, None));
    }

    #[test]
    fn a_budget_closes_the_region() {
        let (open, closed) = (Region::of(&three(), 0), Region::of(&budgeted(), 0));
        assert!(open.stuck() > 10 && closed.stuck() == 0, "{} and {}", open.stuck(), closed.stuck());
        let (trigger_ms, load) = open.smallest().expect("some never recover");
        println!("without a budget: from {trigger_ms} ms at {load} %; with one: nowhere");
    }

    #[test]
    fn the_budget_that_closes_it_is_named() {
        let open = Region::of(&three(), 0);
        let Some(Budget::TokenBucket { tokens, ratio }) = open.closed_by else { panic!("{:?}", open.closed_by) };
        println!("closed by {tokens} tokens for each client");
        assert!(tokens >= 5, "the published bucket of 5 closes it: {tokens}");
        assert!(open.verdict().contains(&format!("token-bucket(tokens={tokens},ratio={ratio})")), "{}", open.verdict());
        let larger = SAVED.into_iter().rev().find(|larger| *larger > tokens).expect("500 tokens close nothing");
        let larger = Policy { budget: Some(Budget::TokenBucket { tokens: larger, ratio: RATIO }), ..three() };
        assert!(!is_closed(&larger, 0));
    }

    #[test]
    fn without_retries_every_backlog_is_worked_off() {
        let none = Policy { retries: Some(0), ..named("none").expect("a policy") };
        assert!(is_closed(&none, 0));
    }
}
