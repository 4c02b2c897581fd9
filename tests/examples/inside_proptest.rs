//! A property of one's own inside `proptest!`: fault plans, clocks and retry policies are drawn and shrink like any other
//! value, and each case runs a world.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
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

/// Calls until it is answered, or until the policy gives up.
async fn deliver(process: &Process, policy: &Policy) -> bool {
    let (clock, mut random, mut policy) = (process.clock(), process.random(), policy.start());
    let began = clock.mono();
    for number in 1.. {
        let call = Request::post("http://server/parcel").body(http::empty()).expect("a valid request");
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

/// How often a parcel was received, and whether the agent believes that it was delivered.
fn run(plan: &FaultPlan, wrong: &WrongClock, policy: &Policy) -> (u32, Option<bool>) {
    let (received, believed) = (Arc::<AtomicU32>::default(), Arc::<Mutex<Option<bool>>>::default());
    squall::sim::run(1, Keep::Digest, SimTime::from_millis(END.as_millis() as u64), |world| {
        let counted = received.clone();
        world.server("server", move |_| {
            let counted = counted.clone();
            let count = move || async move {
                counted.fetch_add(1, Ordering::Relaxed);
            };
            Router::new().route("/parcel", post(count))
        });
        let (policy, believed) = (policy.clone(), believed.clone());
        let agent = world.agent("agent", move |process| {
            let (policy, believed) = (policy.clone(), believed.clone());
            async move {
                if believed.lock().expect("whole").is_none() {
                    let delivered = deliver(&process, &policy).await;
                    *believed.lock().expect("whole") = Some(delivered);
                }
                std::future::pending().await
            }
        });
        wrong.set(agent.node());
        world.inject(plan).expect("the plan is for this world");
    });
    let believed = *believed.lock().expect("whole");
    (received.load(Ordering::Relaxed), believed)
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
        let (received, believed) = run(&plan, &wrong, &policy);
        prop_assert!(believed != Some(true) || received > 0 || plan.faults.iter().any(is_login_page));
    }

    /// Who never gives up is through soon after the last fault.
    #[test]
    fn who_does_not_give_up_gets_through(
        plan in faults(["agent"], ["server"], HEAL),
        policy in policies().prop_map(|policy| Policy { retries: None, budget: None, retry_on: RetryOn::Anything, ..policy }),
    ) {
        let (_, believed) = run(&plan, &WrongClock::default(), &policy);
        prop_assert_eq!(believed, Some(true));
    }
}

/// A portal answers 200 in the server's place.
fn is_login_page(fault: &squall::sim::fault::Fault) -> bool {
    fault.kind.family() == "login-page"
}

#[test]
fn what_fails_shrinks_to_the_fault_that_matters() {
    let policy = Policy::of(Wait::Fixed { wait: Span::secs(5) });
    let at_most_once = |plan: FaultPlan| match run(&plan, &WrongClock::default(), &policy) {
        (0 | 1, _) => Ok(()),
        (received, _) => Err(TestCaseError::fail(format!("received {received} times"))),
    };
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let failed = runner.run(&faults(["agent"], ["server"], HEAL), at_most_once);
    let Err(TestError::Fail(_, smallest)) = failed else { panic!("an answer that is lost makes a parcel come twice") };
    assert_eq!(smallest.faults.len(), 1, "{smallest:?}");
}
