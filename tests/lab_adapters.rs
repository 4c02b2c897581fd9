//! Policies that somebody already has in `backon` or `tower` are put in unchanged.

use std::future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use squall::lab::run::StartCaller;
use squall::lab::{Fleet, Transport, Trial, observe, observe_with};
use squall_protocol::retry::conditions::RetryOn;
use squall_protocol::retry::tower_retry::{self, Seeded};
use squall_protocol::retry::{Attempt, Caller, Decision, Iterated, Outcome, Reset, RetryPolicy, Tower, Tried, named};
use squall_protocol::{Clock, Mono, Random, TransportError};
use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, Retry};
use tower::util::rng::HasherRng;
use tower::{BoxError, Service, service_fn};

/// The waits of one call that always fails, in milliseconds.
fn waits(policy: &mut dyn RetryPolicy, seed: u64) -> Vec<u64> {
    let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(seed));
    let outcome = Outcome::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };
    let wait = |number| match policy
        .decide(&Attempt { number, outcome: outcome.clone(), elapsed: Duration::ZERO }, &mut random)
    {
        Decision::Retry(wait) => Some(wait.as_millis() as u64),
        Decision::GiveUp => None,
    };
    (1..20).map_while(wait).collect()
}

#[test]
fn backon_waits_as_its_preset_does() {
    let builder = ExponentialBuilder::default();
    let mut policy = Iterated::new(RetryOn::Anything, move |_| builder.build());
    assert_eq!(waits(&mut policy, 1), [1_000, 2_000, 4_000]);
    assert_eq!(waits(&mut *named("backon").expect("a preset").start(), 1), [1_000, 2_000, 4_000]);
}

#[test]
fn backon_with_jitter_draws_from_the_seed_that_it_is_handed() {
    let builder = ExponentialBuilder::default().with_jitter();
    let policy = || Iterated::new(RetryOn::Anything, move |seed| builder.with_jitter_seed(seed).build());
    assert_eq!(waits(&mut policy(), 1), waits(&mut policy(), 1));
    assert_ne!(waits(&mut policy(), 1), waits(&mut policy(), 2));
    for (wait, low) in waits(&mut policy(), 3).into_iter().zip([1_000, 2_000, 4_000]) {
        assert!((low..=2 * low).contains(&wait), "{wait}");
    }
}

#[test]
fn a_fleet_goes_through_a_trial_with_a_policy_that_is_code() {
    let fleet = Fleet { transport: Transport::Exchange, ..Fleet::of(20, named("backon").expect("a preset")) };
    let start: StartCaller = Arc::new(|_| {
        let builder = ExponentialBuilder::default();
        Caller::with(Box::new(Iterated::new(RetryOn::Anything, move |_| builder.build())))
    });
    for trial in [Trial::Rolling, Trial::Brownout] {
        let (code, preset) = (observe_with(&fleet, trial, 1, &start), observe(&fleet, trial, 1));
        assert_eq!(code.record, preset.record, "{trial}");
    }
}

/// A policy as somebody wrote it for tower: tower's back-off, some retries for each call, and tower's budget for all.
#[derive(Clone)]
struct TheirPolicy {
    left: u32,
    backoff: ExponentialBackoff<HasherRng<Seeded>>,
    budget: Arc<TpsBudget>,
}

impl<B, E> Policy<Request<B>, Response<B>, E> for TheirPolicy
where
    B: Clone,
{
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut Request<B>, result: &mut Result<Response<B>, E>) -> Option<Self::Future> {
        match result {
            Ok(response) if !response.status().is_server_error() => {
                self.budget.deposit();
                None
            }
            _ if self.left == 0 || !self.budget.withdraw() => None,
            _ => {
                self.left -= 1;
                Some(self.backoff.next_backoff())
            }
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

/// 50 ms doubling to 2 s, five retries, and a budget that pays for fewer.
fn theirs(jitter: f64, seed: u64) -> TheirPolicy {
    let draws = HasherRng::with_hasher(Seeded(seed));
    let backoff = ExponentialBackoffMaker::new(Duration::from_millis(50), Duration::from_secs(2), jitter, draws);
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.5));
    TheirPolicy { left: 5, backoff: backoff.expect("it makes sense").make_backoff(), budget }
}

/// Calls that begin twice a second if they can: each fails as often as this says, and each attempt takes 30 ms.
const CALLS: [u32; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 0, 0, 9, 9, 0, 0, 0, 0, 9];
const TAKES: Duration = Duration::from_millis(30);
const CALLS_EVERY: Duration = Duration::from_millis(500);

/// When each attempt began, and the status of the call's end.
type Told = (Vec<Duration>, Vec<u16>);

/// In tower's own service, over a tokio whose time moves by its timers alone.
#[expect(clippy::disallowed_methods, reason = "this is the real tokio, and its time moves by its timers alone")]
async fn in_tower(jitter: f64, seed: u64) -> Told {
    let started = tokio::time::Instant::now();
    let (began, failures) = (Mutex::new(Vec::new()), Mutex::new(0));
    let service = service_fn(|_: Request<()>| {
        began.lock().unwrap().push(started.elapsed());
        let mut left = failures.lock().unwrap();
        let status = if *left > 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        *left = u32::saturating_sub(*left, 1);
        async move {
            tokio::time::sleep(TAKES).await;
            Ok::<_, BoxError>(Response::builder().status(status).body(()).expect("a response"))
        }
    });
    let (mut retry, mut ends) = (Retry::new(theirs(jitter, seed), service), Vec::new());
    for (call, fails) in (0..).zip(CALLS) {
        tokio::time::sleep_until(started + CALLS_EVERY * call).await;
        *failures.lock().unwrap() = fails;
        ends.push(retry.call(Request::new(())).await.expect("an answer").status().as_u16());
    }
    drop(retry);
    (began.into_inner().unwrap(), ends)
}

/// A clock on which every sleep is over at once, and it is later.
#[derive(Default)]
struct AtOnce(Mutex<Duration>);

impl Clock for AtOnce {
    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn mono(&self) -> Mono {
        Mono::from_start(*self.0.lock().unwrap())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        *self.0.lock().unwrap() += duration;
        future::ready(()).boxed()
    }
}

/// In the laboratory's caller.
fn in_the_laboratory(jitter: f64, seed: u64) -> Told {
    let clock = AtOnce::default();
    let http = tower_retry::http::<(), BoxError>;
    let mut caller = Caller::with(Box::new(Tower::new(Request::new(()), http, move |_| theirs(jitter, seed))));
    let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(1));
    let (mut began, mut ends) = (Vec::new(), Vec::new());
    for (call, fails) in (0..).zip(CALLS) {
        let early = (CALLS_EVERY * call).saturating_sub(clock.mono().since_start());
        clock.sleep(early).now_or_never();
        let attempt = |number: u32| {
            began.push(clock.mono().since_start());
            clock.sleep(TAKES).now_or_never();
            let busy = Tried::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };
            future::ready(if number > fails { Ok(()) } else { Err(busy) })
        };
        let ended = caller.call(&clock, &mut random, attempt).now_or_never().expect("sleeps are over at once");
        ends.push(if ended.is_ok() { 200 } else { 503 });
    }
    (began, ends)
}

#[test]
fn tower_waits_and_gives_up_as_in_its_own_service() {
    for (jitter, seed) in [(0.0, 0), (0.5, 1), (0.5, 2), (100.0, 3)] {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let tower = tokio.expect("a runtime").block_on(in_tower(jitter, seed));
        assert_eq!(in_the_laboratory(jitter, seed), tower, "jitter {jitter}, seed {seed}");
        let (began, ends) = tower;
        let gave_up = ends.iter().filter(|end| **end == 503).count();
        assert!(began.len() > CALLS.len() + 8 && gave_up < 5, "{} attempts, {ends:?}", began.len());
    }
}

#[test]
fn a_fleet_goes_through_a_trial_with_a_policy_of_tower() {
    let data = named("exp(base=50ms,cap=2s)+limit(retries=5)").expect("a policy");
    let data = squall_protocol::retry::Policy { reset: Reset::EachCall, ..data };
    let fleet = Fleet { transport: Transport::Exchange, ..Fleet::of(20, data) };
    let start = |jitter: f64, min_per_s: u32| -> StartCaller {
        Arc::new(move |_| {
            let budget = move || Arc::new(TpsBudget::new(Duration::from_secs(10), min_per_s, 0.2));
            let make = move |seed| TheirPolicy { budget: budget(), ..theirs(jitter, seed) };
            let http = tower_retry::http::<(), TransportError>;
            Caller::with(Box::new(Tower::new(Request::new(()), http, make)))
        })
    };
    for trial in [Trial::Rolling, Trial::Brownout] {
        let ample = observe_with(&fleet, trial, 1, &start(0.0, 1_000));
        assert_eq!(ample.record, observe(&fleet, trial, 1).record, "{trial}: as the same policy that is data");
        let [once, again] = [(); 2].map(|()| observe_with(&fleet, trial, 1, &start(0.9, 0)));
        assert_eq!(once.digest, again.digest, "{trial}: nothing but the seed decides");
        assert!(once.record.attempts < ample.record.attempts, "{trial}: a budget has to be earned");
    }
}
