//! A property of one's own inside `proptest!`: fault plans, clocks and retry policies are drawn and shrink like any other
//! value, and each case runs a world.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use squall::prelude::*;
use squall::protocol::retry::conditions::RetryOn;
use squall::protocol::retry::wait::Wait;
use squall::protocol::retry::{Attempt, Decision, Outcome as Tried, Policy, Span};
use squall::sim::SimTime;
use squall::sim::trace::Keep;

/// When the faults of these worlds are over, and when the worlds are.
const HEAL: Duration = Duration::from_secs(600);
const END: Duration = Duration::from_secs(7_200);
/// So many go on their way while there are faults.
const PARCELS: u32 = 40;

/// Calls until it is answered, or until the policy gives up.
async fn deliver(process: &Process, parcel: u32, policy: &Policy) -> bool {
    let (clock, mut random, mut policy) = (process.clock(), process.random(), policy.start());
    let began = clock.mono();
    for number in 1.. {
        let call =
            Request::post(format!("http://server/parcel/{parcel}")).body(http::empty()).expect("a valid request");
        let answer = clock::timeout(&*clock, Duration::from_secs(10), process.http().oneshot(call)).await;
        let outcome = match &answer {
            Ok(Ok(answer)) if answer.status().is_success() => return true,
            Ok(Ok(answer)) => Tried::Status { status: answer.status(), retry_after: None },
            Ok(Err(error)) => Tried::Transport(error),
            Err(_) => Tried::TimedOut,
        };
        policy.passes(clock.mono());
        match policy.decide(&Attempt { number, outcome, elapsed: clock.mono().since(began) }, &mut random) {
            Decision::Retry(wait) => clock.sleep(wait).await,
            Decision::GiveUp => return false,
        }
    }
    unreachable!("a policy without an end goes on until the world ends")
}

/// What came of the parcels, by their numbers.
#[derive(Clone, Debug, Default)]
struct Parcels {
    /// How often each was received.
    received: BTreeMap<u32, u32>,
    /// Whether the agent believes that it was delivered. It survives a crash.
    believed: BTreeMap<u32, bool>,
}

/// The agent: a parcel every ten seconds.
async fn agent(process: Process, policy: Policy, parcels: Arc<Mutex<Parcels>>) -> i32 {
    for number in 1..=PARCELS {
        if parcels.lock().expect("whole").believed.contains_key(&number) {
            continue;
        }
        let delivered = deliver(&process, number, &policy).await;
        parcels.lock().expect("whole").believed.insert(number, delivered);
        process.clock().sleep(Duration::from_secs(10)).await;
    }
    std::future::pending().await
}

/// The server: counts what it receives.
fn server(parcels: Arc<Mutex<Parcels>>) -> Router {
    let receive = move |Path(number): Path<u32>| async move {
        *parcels.lock().expect("whole").received.entry(number).or_default() += 1;
    };
    Router::new().route("/parcel/{number}", post(receive))
}

/// What comes of the parcels in such a world.
fn run(plan: &FaultPlan, wrong: &WrongClock, policy: &Policy) -> Parcels {
    let parcels = Arc::<Mutex<Parcels>>::default();
    squall::sim::run(1, Keep::Digest, SimTime::from_millis(END.as_millis() as u64), |world| {
        let received = parcels.clone();
        world.server("server", move |_| server(received.clone()));
        let (policy, believed) = (policy.clone(), parcels.clone());
        let service = world.agent("agent", move |process| agent(process, policy.clone(), believed.clone()));
        wrong.set(service.node());
        world.inject(plan).expect("the plan is for this world");
    });
    parcels.lock().expect("whole").clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever goes wrong, who believes that he delivered did.
    #[test]
    fn what_is_believed_is_true(
        plan in faults(["agent"], ["server"], HEAL),
        wrong in clocks(HEAL),
        policy in policies(),
    ) {
        let parcels = run(&plan, &wrong, &policy);
        let is_true = |number| parcels.received.contains_key(number) || plan.faults.iter().any(is_login_page);
        prop_assert!(parcels.believed.iter().all(|(number, believed)| !believed || is_true(number)));
    }

    /// Who never gives up is through soon after the last fault.
    #[test]
    fn who_does_not_give_up_gets_through(
        plan in faults(["agent"], ["server"], HEAL),
        policy in policies().prop_map(|policy| Policy { retries: None, budget: None, retry_on: RetryOn::Anything, ..policy }),
    ) {
        let parcels = run(&plan, &WrongClock::default(), &policy);
        prop_assert_eq!(parcels.believed.values().filter(|believed| **believed).count(), PARCELS as usize);
    }
}

/// A portal answers 200 in the server's place.
fn is_login_page(fault: &squall::sim::fault::Fault) -> bool {
    fault.kind.family() == "login-page"
}

#[test]
fn what_fails_shrinks_to_the_fault_that_matters() {
    let policy = Policy::of(Wait::Fixed { wait: Span::secs(5) });
    let at_most_once = |plan: FaultPlan| {
        let received = run(&plan, &WrongClock::default(), &policy).received;
        prop_assert!(received.values().all(|times| *times == 1), "{received:?}");
        Ok(())
    };
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let failed = runner.run(&faults(["agent"], ["server"], HEAL), at_most_once);
    let Err(TestError::Fail(_, smallest)) = failed else { panic!("an answer that is lost makes a parcel come twice") };
    assert_eq!(smallest.faults.len(), 1, "{smallest:?}");
}
