//! Policies that somebody has for `tower::retry`, put in unchanged.

use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant};
use tower::retry::Policy;

use super::{Admission, Attempt, Decision, Outcome, RetryPolicy};
use crate::clock::Mono;
use crate::http::TransportError;
use crate::random::Random;

/// A wait of this length, a year, has no end: no run lasts as long.
pub const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A `tower::retry::Policy`, with tower's back-off and budget or with others.
///
/// It is treated as `tower::retry::Retry` treats it. What `make` returns lives as long as its client; each call is
/// decided by a clone of it, and what calls have in common is behind an `Arc`. A request that `clone_request` does not
/// clone is not retried. Successes are shown to it as well, so that budgets earn.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use http::{Request, Response};
/// # use squall_protocol::retry::{Caller, Tower, tower_retry::{self, Seeded}};
/// # use tower::BoxError;
/// # use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
/// # use tower::retry::budget::{Budget, TpsBudget};
/// # use tower::util::rng::HasherRng;
/// # #[derive(Clone)]
/// # struct YourPolicy { backoff: ExponentialBackoff<HasherRng<Seeded>>, budget: Arc<TpsBudget> }
/// # impl tower::retry::Policy<Request<()>, Response<()>, BoxError> for YourPolicy {
/// #     type Future = tokio::time::Sleep;
/// #     fn retry(&mut self, _: &mut Request<()>, result: &mut Result<Response<()>, BoxError>) -> Option<Self::Future> {
/// #         if result.is_ok() { self.budget.deposit(); return None; }
/// #         self.budget.withdraw().then(|| self.backoff.next_backoff())
/// #     }
/// #     fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> { Some(request.clone()) }
/// # }
/// let policy = Tower::new(Request::new(()), tower_retry::http::<(), BoxError>, |seed| {
///     let draws = HasherRng::with_hasher(Seeded(seed));
///     let maker = ExponentialBackoffMaker::new(Duration::from_millis(50), Duration::from_secs(60), 0.5, draws);
///     let backoff = maker.expect("the cap is above the base").make_backoff();
///     YourPolicy { backoff, budget: Arc::new(TpsBudget::default()) }
/// });
/// let caller = Caller::with(Box::new(policy));
/// ```
///
/// # Time
/// A tower policy does not say how long it waits: it returns a future, as a rule a sleep of tokio. Each client therefore
/// has a tokio of its own in which time stands still. It is set to the client's monotonic clock whenever the policy is
/// asked, and then runs ahead until the future is done: so long the client waits. `tokio::time::Instant` is the client's
/// time as well, so a `TpsBudget` sees its windows pass. Waits are whole milliseconds, rounded up, as tokio's timers are.
///
/// # What is and what is not supported
/// * `make` is run in that tokio, when the first call begins, and is handed a drawn seed. What is made outside of it, such
///   as one `TpsBudget` for many clients, would have the time of the machine that runs the simulation. tower's default
///   generator is seeded by the process: take [`Seeded`].
/// * A future that waits for anything but time, such as a permit, has no end: it waits for [`WAIT_MAX`].
/// * The policy sees the outcome of an attempt and not its body: `answer` makes of it the result that the policy is
///   written for, and `request` stands for every request. An answer that the agent is content with is a 200. What a
///   policy changes of the request it finds again in the next attempt, as with tower, but it is not sent; what it changes
///   of a result has no effect, and neither has a retry of what succeeded.
/// * [`RetryPolicy::refused`] stays 0: why it gives up, a tower policy keeps to itself.
///
/// # Panics
/// When it is asked within a runtime of tokio. Agents that run there have tower's own `Retry`.
pub struct Tower<P, Q, A, M> {
    request: Q,
    answer: A,
    make: M,
    client: Option<Client<P>>,
    call: Option<Call<P, Q>>,
    now: Mono,
}

/// What lives as long as its client.
struct Client<P> {
    policy: P,
    time: OwnTime,
}

/// One call: tower's "request session".
struct Call<P, Q> {
    policy: P,
    /// What is sent again; `None` when the policy did not clone it.
    request: Option<Q>,
}

impl<P, Q, A, M> Tower<P, Q, A, M> {
    /// The policies that `make` returns, each for one client, which are shown `request` and what `answer` makes of an
    /// attempt's outcome.
    pub fn new<R, E>(request: Q, answer: A, make: M) -> Self
    where
        P: Policy<Q, R, E> + Clone + Send + Sync,
        A: Fn(&Outcome<'_>) -> Result<R, E> + Send + Sync,
        M: FnMut(u64) -> P + Send + Sync,
    {
        Self { request, answer, make, client: None, call: None, now: Mono::default() }
    }

    fn call_begins<R, E>(&mut self, random: &mut Random)
    where
        P: Policy<Q, R, E> + Clone,
        M: FnMut(u64) -> P,
    {
        let Self { request, make, client, call, now, .. } = self;
        let Client { policy, time } = client.get_or_insert_with(|| {
            let time = OwnTime::start(*now);
            Client { policy: time.at(*now, || make(random.next_u64())), time }
        });
        *call = Some(time.at(*now, || {
            let request = policy.clone_request(request);
            Call { policy: policy.clone(), request }
        }));
    }

    /// How long it waits after what an attempt came to, if it wants another one.
    fn asked<R, E>(&mut self, outcome: &Outcome<'_>) -> Option<Duration>
    where
        P: Policy<Q, R, E>,
        A: Fn(&Outcome<'_>) -> Result<R, E>,
    {
        let (Some(Client { time, .. }), Some(Call { policy, request })) = (&self.client, &mut self.call) else {
            return None;
        };
        let sent = request.as_mut()?;
        let mut result = (self.answer)(outcome);
        let wait = time.wait(self.now, || policy.retry(sent, &mut result))?;
        *request = time.at(self.now, || policy.clone_request(sent));
        Some(wait)
    }
}

impl<P, Q, A, M, R, E> RetryPolicy for Tower<P, Q, A, M>
where
    P: Policy<Q, R, E> + Clone + Send + Sync,
    Q: Send + Sync,
    A: Fn(&Outcome<'_>) -> Result<R, E> + Send + Sync,
    M: FnMut(u64) -> P + Send + Sync,
{
    fn decide(&mut self, attempt: &Attempt<'_>, random: &mut Random) -> Decision {
        // Who does not ask before a call, begins it with its first failure.
        if attempt.number == 1 && self.call.is_none() {
            self.call_begins(random);
        }
        match self.asked(&attempt.outcome) {
            Some(wait) => Decision::Retry(wait),
            None => {
                self.call = None;
                Decision::GiveUp
            }
        }
    }

    fn succeeded(&mut self, _: u32) {
        self.asked(&Outcome::Status { status: StatusCode::OK, retry_after: None });
        self.call = None;
    }

    fn admit(&mut self, number: u32, random: &mut Random) -> Admission {
        if number == 1 {
            self.call_begins(random);
        }
        Admission::Send
    }

    fn passes(&mut self, now: Mono) {
        self.now = now;
    }
}

impl<P, Q: fmt::Debug, A, M> fmt::Debug for Tower<P, Q, A, M> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Tower").field("request", &self.request).field("now", &self.now).finish_non_exhaustive()
    }
}

/// An outcome as the result of an HTTP client: its status and Retry-After, with an empty body, or its error. What timed
/// out is [`TransportError::TimedOut`].
///
/// `E` may be `TransportError` itself, tower's `BoxError`, or an error of one's own that is made from it.
///
/// # Errors
/// What failed below HTTP.
pub fn http<B: Default, E: From<TransportError>>(outcome: &Outcome<'_>) -> Result<Response<B>, E> {
    match outcome {
        Outcome::Status { status, retry_after } => {
            let mut response = Response::new(B::default());
            *response.status_mut() = *status;
            if let Some(span) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, span.as_secs().into());
            }
            Ok(response)
        }
        Outcome::Transport(error) => Err(E::from((*error).clone())),
        Outcome::TimedOut => Err(E::from(TransportError::TimedOut)),
    }
}

/// Seeds tower's own generator: `HasherRng::with_hasher(Seeded(seed))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded(pub u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// tokio's time for one client. It stands still but for when it is moved.
struct OwnTime {
    runtime: Runtime,
    /// What the client's clock showed when it began.
    began: Mono,
    began_here: Instant,
}

impl OwnTime {
    fn start(began: Mono) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without threads and files");
        let began_here = runtime.block_on(async { Instant::now() });
        Self { runtime, began, began_here }
    }

    /// Does something when the client's clock shows `now`.
    fn at<T>(&self, now: Mono, work: impl FnOnce() -> T) -> T {
        self.runtime.block_on(async {
            self.moves_to(now).await;
            work()
        })
    }

    /// Asks for a future when the client's clock shows `now`, and says how long after that it is done.
    fn wait<F: Future<Output = ()>>(&self, now: Mono, ask: impl FnOnce() -> Option<F>) -> Option<Duration> {
        self.runtime.block_on(async {
            self.moves_to(now).await;
            let asked = Instant::now();
            #[expect(clippy::disallowed_methods, reason = "this is the real tokio, and its time stands still")]
            let _ = time::timeout(WAIT_MAX, ask()?).await;
            Some(asked.elapsed())
        })
    }

    /// Time moves by whole milliseconds, the ticks of tokio's timers: between two of them it would wait one too long.
    async fn moves_to(&self, now: Mono) {
        let ahead = now.since(self.began).saturating_sub(self.began_here.elapsed());
        time::advance(Duration::from_millis(ahead.as_millis() as u64)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::sync::Arc;

    use http::Request;
    use tower::BoxError;
    use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
    use tower::retry::budget::{Budget, TpsBudget};
    use tower::util::rng::HasherRng;

    use super::super::testing::{at, failed, random, waits_of};
    use super::*;

    fn backoff(min_ms: u64, max_ms: u64, jitter: f64, seed: u64) -> ExponentialBackoff<HasherRng<Seeded>> {
        let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        let draws = HasherRng::with_hasher(Seeded(seed));
        ExponentialBackoffMaker::new(min, max, jitter, draws).expect("it makes sense").make_backoff()
    }

    /// Retries whatever failed.
    #[derive(Clone)]
    struct Always<B>(B);

    impl<R, E, B: Backoff> Policy<Request<()>, Response<R>, E> for Always<B> {
        type Future = B::Future;

        fn retry(&mut self, _: &mut Request<()>, result: &mut Result<Response<R>, E>) -> Option<B::Future> {
            let failed = !result.as_ref().is_ok_and(|response| response.status().is_success());
            failed.then(|| self.0.next_backoff())
        }

        fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
            Some(request.clone())
        }
    }

    fn with<P>(make: impl FnMut(u64) -> P + Send + Sync) -> impl RetryPolicy
    where
        P: Policy<Request<()>, Response<()>, BoxError> + Clone + Send + Sync,
    {
        Tower::new(Request::new(()), http::<(), BoxError>, make)
    }

    #[test]
    fn waits_are_those_of_towers_backoff() {
        let mut policy = with(|seed| Always(backoff(50, 1_000, 0.0, seed)));
        for _ in 0..2 {
            assert_eq!(waits_of(&mut policy, 0, 7), [50, 100, 200, 400, 800, 1_000, 1_000]);
            policy.succeeded(8);
        }
    }

    #[test]
    fn jitter_is_drawn_from_the_seed_and_alike_in_each_call() {
        let policy = || with(|seed| Always(backoff(50, 10_000, 0.99, seed)));
        let (mut one, mut other) = (policy(), policy());
        let first = waits_of(&mut one, 1, 5);
        one.succeeded(6);
        assert_eq!(waits_of(&mut one, 1, 5), first, "tower clones its generator for each call");
        assert_ne!(waits_of(&mut other, 2, 5), first);
        for (wait, low) in first.into_iter().zip([50, 100, 200, 400, 800]) {
            assert!((low..=2 * low).contains(&wait), "{wait}");
        }
    }

    /// Waits for nothing as long as its budget pays.
    #[derive(Clone)]
    struct Budgeted(Arc<TpsBudget>);

    impl<R, E> Policy<Request<()>, Response<R>, E> for Budgeted {
        type Future = future::Ready<()>;

        fn retry(&mut self, _: &mut Request<()>, result: &mut Result<Response<R>, E>) -> Option<future::Ready<()>> {
            if result.as_ref().is_ok_and(|response| response.status().is_success()) {
                self.0.deposit();
                return None;
            }
            self.0.withdraw().then(|| future::ready(()))
        }

        fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
            Some(request.clone())
        }
    }

    #[test]
    fn a_budget_earns_by_successes_and_sees_time_pass() {
        let mut policy = with(|_| Budgeted(Arc::new(TpsBudget::new(Duration::from_secs(10), 0, 0.5))));
        let mut random = random(0);
        let mut calls = |policy: &mut dyn RetryPolicy, from_s: u64| {
            for call in 0..4 {
                policy.passes(at(from_s + call));
                policy.admit(1, &mut random);
                policy.succeeded(1);
            }
        };
        calls(&mut policy, 100);
        assert_eq!(waits_of(&mut policy, 0, 10), [0, 0], "two retries for four successes");
        calls(&mut policy, 200);
        policy.passes(at(300));
        assert_eq!(waits_of(&mut policy, 0, 10), [0; 0], "successes count for ten seconds");
    }

    /// Waits for what never comes.
    #[derive(Clone)]
    struct Pending;

    impl Backoff for Pending {
        type Future = future::Pending<()>;

        fn next_backoff(&mut self) -> future::Pending<()> {
            future::pending()
        }
    }

    #[test]
    fn a_future_that_no_time_ends_waits_as_long_as_there_is() {
        let decision = with(|_| Always(Pending)).decide(&failed(1, 503), &mut random(0));
        let Decision::Retry(wait) = decision else { panic!("{decision:?}") };
        assert!(wait >= WAIT_MAX, "{wait:?}");
    }

    /// Counts what it is shown: it changes the request, and clones it twice only.
    #[derive(Clone)]
    struct Marks;

    impl<E> Policy<u32, Response<()>, E> for Marks {
        type Future = future::Ready<()>;

        fn retry(&mut self, request: &mut u32, _: &mut Result<Response<()>, E>) -> Option<future::Ready<()>> {
            *request += 1;
            Some(future::ready(()))
        }

        fn clone_request(&mut self, request: &u32) -> Option<u32> {
            (*request < 2).then_some(*request)
        }
    }

    #[test]
    fn a_request_that_is_not_cloned_is_not_retried() {
        let mut policy = Tower::new(0, http::<(), TransportError>, |_| Marks);
        assert_eq!(waits_of(&mut policy, 0, 10), [0, 0]);
        let mut policy = Tower::new(2, http::<(), TransportError>, |_| Marks);
        assert_eq!(waits_of(&mut policy, 0, 10), [0; 0]);
    }

    #[test]
    fn outcomes_are_results_of_an_http_client() {
        let span = Some(Duration::from_secs(30));
        let status = Outcome::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: span };
        let response = http::<(), TransportError>(&status).expect("an answer");
        assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (503, &"30".parse().unwrap()));
        let refused = http::<(), BoxError>(&Outcome::Transport(&TransportError::Refused)).expect_err("an error");
        assert_eq!(refused.downcast_ref(), Some(&TransportError::Refused));
        let late = http::<(), TransportError>(&Outcome::TimedOut).expect_err("an error");
        assert_eq!(late, TransportError::TimedOut);
    }
}
