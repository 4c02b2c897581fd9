//! Checks of one's own agents: each way to fail is told, and a check that proves nothing fails, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use http::Request;
use squall_protocol::{Fact, http as wire};
use squall_sim::check::Check;
use squall_sim::fault::SystemFamily;
use squall_sim::invariant::Property;
use squall_sim::invariant::jobs::NoJobRunsTwice;
use squall_sim::{Process, World};
use tower::ServiceExt;

/// What a check says when it fails.
fn refused(checked: impl FnOnce()) -> String {
    let thrown = catch_unwind(AssertUnwindSafe(checked)).expect_err("the check fails");
    thrown.downcast_ref::<String>().cloned().unwrap_or_default()
}

fn few(name: &'static str) -> Check {
    Check::new(name).seeds(5).lasts(Duration::from_secs(600)).heal_at(Duration::from_secs(300))
}

/// A server that greets, and an agent that asks for it every ten seconds.
fn greeting(world: &World) {
    world.server("front", |_| Router::new().route("/hello", post(async || "welcome")));
    world.agent("agent", |process| async move {
        loop {
            let _ = hello(&process).await;
            process.clock().sleep(Duration::from_secs(10)).await;
        }
    });
}

async fn hello(process: &Process) -> bool {
    let request = Request::post("http://front/hello").body(wire::empty()).expect("a valid request");
    process.http().oneshot(request).await.is_ok_and(|answer| answer.status().is_success())
}

#[test]
fn a_test_that_holds_passes() {
    few("greeted").run(|world| async move {
        greeting(&world);
        world.sleep(Duration::from_secs(60)).await;
    });
}

#[test]
fn a_failed_assertion_is_told_with_its_seed_and_command() {
    let told = refused(|| {
        few("asserted").run(|world| async move {
            greeting(&world);
            world.sleep(Duration::from_secs(60)).await;
            assert_eq!(1 + 1, 3, "sums are right");
        });
    });
    assert!(told.contains("\"asserted\" fails with seed 0"), "{told}");
    assert!(told.contains("sums are right"), "{told}");
    assert!(
        told.contains("SQUALL_SEED=0 cargo test -- a_failed_assertion_is_told_with_its_seed_and_command"),
        "{told}"
    );
    let story = told.lines().find_map(|line| line.trim().strip_prefix("story:")).expect("a story was written");
    let story = std::fs::read_to_string(story.trim()).expect("it is there");
    assert!(story.contains("agent") && story.contains("POST front/hello"), "{story}");
}

#[test]
fn a_failure_is_made_small_for_as_long_as_the_check_says() {
    let left = |check: Check<Vec<u32>>| {
        let told = refused(|| {
            check.run_with(|world, _| async move {
                greeting(&world);
                world.sleep(Duration::from_secs(60)).await;
                panic!("with work or without");
            });
        });
        let case = told.lines().find_map(|line| line.trim().strip_prefix("case:")).expect("a case was written");
        let case: serde_json::Value = serde_json::from_reader(std::fs::File::open(case.trim()).unwrap()).unwrap();
        case["workload"].as_array().expect("a list").len()
    };
    let drawn = |name| few(name).workload(|_| vec![7_u32; 5]);
    assert_eq!(left(drawn("small")), 0);
    assert_eq!(left(drawn("large").shrinking(Duration::ZERO)), 5);
}

#[test]
fn a_test_that_waits_for_ever_is_stuck() {
    let told = refused(|| {
        few("endless").run(|world| async move {
            greeting(&world);
            std::future::pending::<()>().await;
        });
    });
    assert!(told.contains("stuck: test-ends"), "{told}");
}

#[test]
fn facts_of_one_s_own_are_judged_by_a_property_of_one_s_own() {
    let polite = || {
        Property::always("nobody-shouts", "Nobody shouts.", "voice", |history, found| {
            for entry in history.journal {
                let Fact::Custom { kind, subject, detail } = &entry.fact else { continue };
                found.subject();
                if kind == "voice" && detail == "loud" {
                    found.breach(subject, entry.at, "somebody shouted");
                }
            }
        })
    };
    let speak = |detail: &'static str| {
        move |world: World| async move {
            greeting(&world);
            let (kind, subject) = ("voice".to_owned(), "somebody".to_owned());
            world.record(Fact::Custom { kind, subject, detail: detail.to_owned() });
        }
    };
    few("quiet").invariant(polite()).run(speak("low"));
    let told = refused(|| few("loud").invariant(polite()).run(speak("loud")));
    assert!(told.contains("violation: nobody-shouts") && told.contains("somebody shouted"), "{told}");
}

#[test]
fn a_check_that_proves_nothing_fails() {
    let told = refused(|| few("void").run(|_| async {}));
    assert!(told.contains("proves nothing") && told.contains("no request was ever answered"), "{told}");
    let told = refused(|| {
        few("jobless").invariant(NoJobRunsTwice::default()).run(|world| async move { greeting(&world) });
    });
    assert!(told.contains("no-job-runs-twice never had anything to judge"), "{told}");
    let told = refused(|| {
        let idle = SystemFamily { name: "moon-rises".to_owned(), nodes: Vec::new(), amounts: 0..=0 };
        few("moonless").seeds(20).faults([]).system_fault(idle).run(|world| async move {
            greeting(&world);
            world.on_system_fault("moon-rises", |_| {});
        });
    });
    assert!(told.contains("moon-rises") && told.contains("never changed anything"), "{told}");
}

#[test]
fn a_workload_is_drawn_from_the_seed() {
    let drawn = few("drawn").workload(|random| rand::RngCore::next_u32(random) % 5 + 1);
    let told = refused(|| {
        drawn.run_with(|world, greetings| async move {
            greeting(&world);
            assert!(greetings < 5, "greeted {greetings} times");
        });
    });
    assert!(told.contains("greeted 5 times"), "{told}");
}

#[test]
fn a_family_that_does_not_exist_is_refused() {
    let told = refused(|| drop(few("odd").faults(["earthquake"])));
    assert!(told.contains("no family of faults is called \"earthquake\"; there are latency,"), "{told}");
}

#[test]
fn bounds_that_do_not_fit_are_refused() {
    let told = refused(|| few("upside down").heal_at(Duration::from_secs(900)).run(|_| async {}));
    assert!(told.contains("has to be after 10s, when they begin, and before 600s"), "{told}");
}
