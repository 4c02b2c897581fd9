use std::time::Duration;

use super::kit::*;
use crate::actions::agent;
use crate::actions::choices::Choices;
use crate::actions::supervisor::exit;
use crate::clock::Clock;
use crate::supervise::Exit;
use serde_json::json;

fn jobs_in_v2(count: usize) -> impl FnMut(&Asked) -> Option<Answer> + Send + Clone + 'static {
    move |asked| match (asked.what.as_str(), asked.before) {
        ("GET message", number) if number < count => Some(after(secs(5), v2_job(number as i64 + 1))),
        ("POST acquirejob", number) => Some(Answer::Json(200, job_body(number as u128 + 1))),
        _ => None,
    }
}

#[test]
fn a_cancelled_worker_is_killed_fifteen_seconds_before_its_time_is_over() {
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(3_000)) };
    for (timeout, killed) in [("00:05:00", 10 + 285), ("00:00:10", 10 + 45)] {
        let bench = Bench::new(Choices::upstream(), move |asked| match (asked.what.as_str(), asked.before) {
            ("GET messages", 0) => Some(v1_job(1, 1)),
            ("GET messages", 1) => Some(after(secs(10), cancellation(2, 1, timeout))),
            _ => None,
        });
        let bench = bench.v1().jobs(jobs);
        bench.run(secs(3_600));
        assert_eq!((bench.ran()[0].to, bench.ran()[0].exit), (Some(secs(killed)), Some(Exit::Killed)));
    }
}

#[test]
fn a_cancellation_that_is_delivered_again_postpones_the_kill_in_the_real_runner() {
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(3_000)) };
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("GET message", _) => Some(after(HOLD, cancellation(2, 1, "00:05:00"))),
        _ => None,
    };
    for choices in [Choices::upstream(), put_back("repeated-cancel")] {
        let real = Bench::new(choices, script).v2().jobs(jobs);
        real.run(secs(3_600));
        assert_eq!(real.ran()[0].to, Some(secs(3_000)));
    }
    let repaired = Bench::new(Choices::hardened(), script).v2().jobs(jobs);
    repaired.run(secs(3_600));
    let ended = repaired.ran()[0].to.unwrap();
    assert!(ended >= secs(50 + 285) && ended < secs(50 + 290), "{ended:?}");
}

#[test]
fn a_cancellation_that_is_delivered_again_is_deleted_once() {
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(3_000)) };
    let bench = Bench::new(Choices::hardened(), |asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("GET messages", 1..=5) => Some(after(HOLD, cancellation(2, 1, "00:05:00"))),
        _ => None,
    });
    let bench = bench.v1().jobs(jobs);
    bench.run(secs(3_600));
    assert_eq!(bench.asked("DELETE messages").len(), 2, "one for the job, one for the cancellation");
}

#[test]
fn a_second_job_cancels_the_first_in_v2() {
    for choices in [Choices::upstream(), put_back("second-job")] {
        let real = Bench::new(choices, jobs_in_v2(2)).v2().jobs(Jobs::lasting(secs(200)));
        real.run(secs(600));
        assert_eq!(real.ran()[0].exit, Some(Exit::Code(103)));
        assert!(real.ran()[0].to.unwrap() < secs(12));
        assert_eq!(real.ran()[1].exit, Some(Exit::Code(100)));
    }
    let repaired = Bench::new(Choices::hardened(), jobs_in_v2(2)).v2().jobs(Jobs::lasting(secs(200)));
    repaired.run(secs(600));
    let ran = repaired.ran();
    assert_eq!((ran[0].exit, ran[1].exit), (Some(Exit::Code(100)), Some(Exit::Code(100))));
    assert!(ran[1].from >= ran[0].to.unwrap());
}

#[test]
fn a_second_job_is_dropped_in_v1_and_the_runner_says_it_is_online() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("GET messages", 1) => Some(after(secs(5), v1_job(2, 2))),
        ("GET jobrequests", _) => Some(Answer::Json(200, json!({"requestId": 1}))),
        _ => None,
    };
    let real = Bench::new(Choices::upstream(), script).v1().jobs(Jobs::lasting(secs(200)));
    real.run(secs(150));
    assert_eq!(real.ran().len(), 1);
    assert_eq!(real.asked("DELETE messages").len(), 2);
    assert_eq!(real.asked("GET messages").last().unwrap().query["status"], "Online");
    let flipped = Bench::new(put_back("second-job"), script).v1().jobs(Jobs::lasting(secs(200)));
    flipped.run(secs(150));
    assert_eq!((flipped.ran().len(), flipped.asked("DELETE messages").len()), (1, 2));
    let repaired = Bench::new(Choices::hardened(), script).v1().jobs(Jobs::lasting(secs(200)));
    repaired.run(secs(150));
    assert_eq!(repaired.asked("GET messages").last().unwrap().query["status"], "Busy");
    assert_eq!(repaired.asked("DELETE messages").len(), 1);
    let later = Bench::new(Choices::hardened(), script).v1().jobs(Jobs::lasting(secs(200)));
    later.run(secs(600));
    assert_eq!(later.ran().len(), 2);
    assert_eq!(later.ran()[1].from, secs(200));
}

#[test]
fn a_first_job_that_has_its_result_is_stopped_for_the_second() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("GET messages", 1) => Some(after(secs(5), v1_job(2, 2))),
        ("GET jobrequests", _) => Some(Answer::Json(200, json!({"requestId": 1, "result": "failed"}))),
        _ => None,
    };
    let bench = Bench::new(Choices::upstream(), script).v1().jobs(Jobs::lasting(secs(200)));
    bench.run(secs(300));
    assert_eq!((bench.ran()[0].to, bench.ran().len()), (Some(secs(5)), 2));
}

#[test]
fn acquiring_is_repeated_under_one_key_or_none() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("POST acquirejob", 0) => Some(Answer::Status(504)),
        ("POST acquirejob", _) if asked.header("idempotency-key").is_none() => Some(run_service_error(409)),
        _ => None,
    };
    for choices in [Choices::upstream(), put_back("acquire-replay")] {
        let real = Bench::new(choices, script).v2();
        real.run(secs(100));
        assert!(real.ran().is_empty());
        assert_eq!(real.asked("POST acquirejob").len(), 2);
    }
    let repaired = Bench::new(Choices::hardened(), script).v2();
    repaired.run(secs(100));
    assert_eq!(repaired.ran().len(), 1);
    let keys: Vec<_> = repaired
        .asked("POST acquirejob")
        .iter()
        .map(|asked| asked.header("idempotency-key").map(str::to_owned))
        .collect();
    assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].is_some());
}

#[test]
fn skipped_jobs_block_polling_for_longer_and_longer() {
    let gaps = |choices| {
        let bench = Bench::new(choices, |asked| match asked.what.as_str() {
            "GET message" => Some(v2_job(asked.before as i64)),
            "POST acquirejob" => Some(run_service_error(409)),
            _ => None,
        });
        let bench = bench.v2();
        bench.run(secs(400));
        let times = bench.times("GET message");
        times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f32()).collect::<Vec<_>>()
    };
    let real = gaps(Choices::upstream());
    assert_eq!(real[..2], [0.0, 1.0]);
    for (gap, about) in real[2..7].iter().zip([2.0, 4.0, 8.0, 16.0, 32.0]) {
        assert!((gap - about).abs() <= about * 0.2, "{real:?}");
    }
    assert_eq!(real[8], 60.0);
    assert_eq!(gaps(put_back("skipped-job")).last(), Some(&60.0));
    let repaired = gaps(Choices::hardened());
    assert!(repaired.iter().all(|gap| (1.0..2.0).contains(gap)), "{repaired:?}");
}

#[test]
fn a_success_without_a_job_ends_the_real_runner() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("POST acquirejob", 0) => Some(Answer::Page),
        _ => None,
    };
    assert_eq!(Bench::new(Choices::upstream(), script).v2().run(secs(60)), Some(exit::RETRYABLE_ERROR));
    let repaired = Bench::new(Choices::hardened(), script).v2();
    assert_eq!(repaired.run(secs(60)), None);
    assert_eq!(repaired.ran().len(), 1);
}

#[test]
fn an_ephemeral_runner_takes_one_job() {
    let bench = Bench::new(Choices::upstream(), jobs_in_v2(1)).v2().ephemeral();
    assert_eq!(bench.run(secs(600)), Some(exit::SUCCESS));
    assert_eq!(bench.ran().len(), 1);
}

#[test]
fn an_ephemeral_runner_that_lost_its_job_polls_on_or_ends() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("POST acquirejob", _) => Some(run_service_error(404)),
        _ => None,
    };
    for choices in [Choices::upstream(), put_back("ephemeral-skip")] {
        assert_eq!(Bench::new(choices, script).v2().ephemeral().run(secs(600)), None);
    }
    assert_eq!(Bench::new(Choices::hardened(), script).v2().ephemeral().run(secs(600)), Some(exit::SUCCESS));
}

#[test]
fn a_job_that_its_worker_does_not_take_is_reported_by_the_repaired_runner_only() {
    let jobs = Jobs { pipe: Pipe::Stuck, ..Jobs::lasting(secs(20)) };
    for choices in [Choices::upstream(), put_back("dispatch-failure")] {
        let real = Bench::new(choices, jobs_in_v2(1)).v2().jobs(jobs);
        real.run(secs(300));
        assert!(real.asked("POST completejob").is_empty());
    }
    let repaired = Bench::new(Choices::hardened(), jobs_in_v2(1)).v2().jobs(jobs);
    repaired.run(secs(300));
    assert_eq!(repaired.asked("POST completejob").len(), 1);
    assert!(repaired.ran()[0].to.unwrap() <= secs(5 + 31));
}

#[test]
fn a_v1_job_that_came_to_nothing_is_seen_again_by_the_repaired_runner() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "GET messages" if asked.query.get("lastMessageId").is_none_or(|last| last == "0") => Some(v1_job(1, 1)),
        "PATCH jobrequests" if asked.at < secs(130) => Some(Answer::Status(500)),
        _ => None,
    };
    let real = Bench::new(Choices::upstream(), script).v1();
    real.run(secs(300));
    assert_eq!(real.times("DELETE messages"), [secs(0)]);
    assert!(real.ran().is_empty());
    let flipped = Bench::new(put_back("cursor"), script).v1();
    flipped.run(secs(300));
    assert!(flipped.asked("DELETE messages").is_empty() && flipped.ran().is_empty());
    let repaired = Bench::new(Choices::hardened(), script).v1();
    repaired.run(secs(300));
    assert_eq!(repaired.ran().len(), 1);
    assert_eq!(repaired.asked("DELETE messages").len(), 1);
}

#[test]
fn a_message_is_deleted_before_or_after_the_first_renewal() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("PATCH jobrequests", 0) => Some(after(secs(3), Answer::Status(500))),
        _ => None,
    };
    let deleted = |choices| {
        let bench = Bench::new(choices, script).v1();
        bench.run(secs(100));
        (bench.times("DELETE messages")[0], bench.times("PATCH jobrequests")[1])
    };
    assert_eq!(deleted(Choices::upstream()).0, Duration::ZERO);
    assert_eq!(deleted(put_back("ack-order")).0, Duration::ZERO);
    let (deleted, renewed) = deleted(Choices::hardened());
    assert_eq!(deleted, renewed);
}

#[test]
fn a_v1_job_that_ends_after_a_v2_message_is_never_finished() {
    // A migrated runner: the second message comes from the broker.
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => {
            let mut body = job_body(1);
            body["plan"]["version"] = json!(7);
            let body = body.to_string();
            Some(Answer::Json(200, json!({"messageId": 1, "messageType": "PipelineAgentJobRequest", "body": body})))
        }
        ("GET messages", 1) => {
            let body = json!({"brokerBaseUrl": BASE}).to_string();
            Some(Answer::Json(200, json!({"messageId": 2, "messageType": "BrokerMigration", "body": body})))
        }
        ("GET message", 0) => Some(after(secs(5), v2_job(3))),
        ("POST acquirejob", _) => Some(run_service_error(409)),
        _ => None,
    };
    let finished = |choices| {
        let bench = Bench::new(choices, script).v1();
        bench.run(secs(60));
        bench.asked("PATCH jobrequests").iter().any(|asked| asked.body.get("result").is_some())
    };
    assert!(finished(Choices::hardened()));
    assert!(!finished(put_back("job-kind")));
    assert!(!finished(Choices::upstream()));
}

#[test]
fn a_restarted_runner_waits_for_its_orphan() {
    // The first process goes away in the middle of the job; the second is offered the same job again.
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("GET messages", _) if asked.at >= secs(30) && !asked.query.contains_key("lastMessageId") => Some(v1_job(1, 1)),
        _ => None,
    };
    let second_worker = |choices: Choices| {
        let bench = Bench::new(choices, script).v1().jobs(Jobs::lasting(secs(100)));
        assert_eq!(bench.run(secs(30)), None);
        assert_eq!(bench.run(secs(300)), None);
        let ran = bench.ran();
        (ran[0].to, ran[1].from)
    };
    assert_eq!(second_worker(Choices::upstream()), (Some(secs(100)), secs(30)));
    let flipped = second_worker(put_back("orphaned-worker"));
    assert_eq!(flipped, (Some(secs(100)), secs(30)));
    let (first_ended, second_began) = second_worker(Choices::hardened());
    assert!(second_began >= first_ended.unwrap() && second_began < secs(106), "{second_began:?}");
}

#[test]
fn an_orphan_makes_itself_known_when_the_disk_was_full() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("GET messages", _) if asked.at >= secs(40) && !asked.query.contains_key("lastMessageId") => {
            Some(after(secs(20), v1_job(2, 2)))
        }
        _ => None,
    };
    let second_worker = |room_at: u64| {
        let bench = Bench::new(Choices::hardened(), script).v1().jobs(Jobs::lasting(secs(100)));
        bench.disk.full(true);
        assert_eq!(bench.run(secs(30)), None);
        let (disk, room) = (bench.disk.clone(), bench.clock.sleep(secs(room_at - 30)));
        bench.clock.start(async move {
            room.await;
            disk.full(false);
        });
        bench.go_on(secs(10));
        assert_eq!(bench.run(secs(300)), None);
        bench.ran()[1].from
    };
    // There is room when the listener has just gone, before its next process comes, and after that.
    for room_at in [30, 34, 50] {
        let began = second_worker(room_at);
        assert!((secs(100)..secs(106)).contains(&began), "{began:?}");
    }
}

#[test]
fn nobody_waits_for_a_worker_that_had_ended_when_its_listener_did() {
    // The worker dies, and the first process goes away while it reports that.
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(v1_job(1, 1)),
        ("GET messages", _) if asked.at >= secs(30) && !asked.query.contains_key("lastMessageId") => Some(v1_job(2, 2)),
        ("POST events", 0) => Some(Answer::Silence),
        _ => None,
    };
    let bench = Bench::new(Choices::hardened(), script).v1();
    let bench = bench.jobs(Jobs { dies: Some(secs(10)), ..Jobs::lasting(secs(20)) });
    assert_eq!(bench.run(secs(30)), None);
    assert_eq!(bench.asked("POST events").len(), 1);
    assert_eq!(bench.run(secs(30)), None);
    assert_eq!(bench.ran()[1].from, secs(30));
}

#[test]
fn a_job_that_is_given_up_is_not_asked_for_before_that_is_reported() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "GET messages" if asked.query.get("lastMessageId").is_none_or(|last| last == "0") => {
            Some(after(Duration::from_millis(20), v1_job(1, 1)))
        }
        "PATCH jobrequests" | "POST events" => Some(after(Duration::from_millis(20), Answer::Status(503))),
        _ => None,
    };
    let bench = Bench::new(Choices::hardened(), script).v1();
    bench.run(secs(300));
    let given_up = agent::FIRST_RENEW_PATIENCE;
    let renewals = bench.times("PATCH jobrequests");
    assert!(renewals.iter().all(|at| *at < given_up + secs(1)), "{renewals:?}");
    assert!(bench.times("POST events").iter().any(|at| *at > secs(250)));
    assert!(bench.asked("GET messages").len() < 20);
}

#[test]
fn shutdown_cancels_the_job_and_waits_for_it() {
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(500)) };
    let real = Bench::new(Choices::upstream(), jobs_in_v2(1)).v2().jobs(jobs);
    assert_eq!(real.run_until(secs(900), real.shutdown_at(secs(30))), Some(exit::SUCCESS));
    assert_eq!(real.clock.now(), secs(505), "there is no deadline");
    let repaired = Bench::new(Choices::hardened(), jobs_in_v2(1)).v2().jobs(jobs);
    assert_eq!(repaired.run_until(secs(900), repaired.shutdown_at(secs(30))), Some(exit::SUCCESS));
    assert_eq!(repaired.clock.now(), secs(50));
    assert_eq!(repaired.asked("DELETE session").len(), 1);
}

#[test]
fn a_shutdown_does_not_wait_for_what_a_cancellation_left_to_the_worker() {
    let jobs = Jobs { on_cancel: OnCancel::Ignores, ..Jobs::lasting(secs(3_000)) };
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("GET message", 1) => Some(after(secs(10), cancellation(2, 1, "00:05:00"))),
        _ => None,
    };
    let ended = |choices| {
        let bench = Bench::new(choices, script).v2().jobs(jobs);
        assert_eq!(bench.run_until(secs(900), bench.shutdown_at(secs(30))), Some(exit::SUCCESS));
        bench.clock.now()
    };
    let unbounded = ended(put_back("kill-deadline"));
    assert!(unbounded >= secs(10 + 285), "{unbounded:?}");
    assert_eq!(ended(Choices::hardened()), secs(50));
}

#[test]
fn a_shutdown_ends_before_the_supervisor_s_patience_although_nothing_answers() {
    let script = |asked: &Asked| (asked.what == "DELETE session").then_some(Answer::Silence);
    for (choices, took) in [(Choices::upstream(), 30), (put_back("kill-deadline"), 30), (Choices::hardened(), 25)] {
        let bench = Bench::new(choices, script).v2();
        assert_eq!(bench.run_until(secs(600), bench.shutdown_at(secs(70))), Some(exit::SUCCESS));
        assert_eq!(bench.clock.now(), secs(70 + took));
    }
}

#[test]
fn a_job_that_may_be_ours_is_asked_for_until_an_answer_arrives() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("POST acquirejob", number) if number < 8 => Some(Answer::Status(504)),
        _ => None,
    };
    let ran = |choices| {
        let bench = Bench::new(choices, script).v2();
        bench.run(secs(400));
        assert!(bench.asked("GET message").len() > 5, "polling goes on");
        bench.ran().len()
    };
    assert_eq!(ran(Choices::hardened()), 1);
    assert_eq!(ran(put_back("acquire-replay")), 0);
    let hopeless = Bench::new(Choices::hardened(), |asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("POST acquirejob", _) => Some(Answer::Status(504)),
        _ => None,
    });
    let hopeless = hopeless.v2();
    hopeless.run(secs(3_600));
    assert!(*hopeless.times("POST acquirejob").last().unwrap() < secs(630));
}
