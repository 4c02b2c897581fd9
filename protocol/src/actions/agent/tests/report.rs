use super::kit::*;
use crate::actions::agent::{self, CRASHED, UNREPORTED_CODES};
use crate::actions::choices::Choices;
use crate::actions::supervisor::exit;
use crate::distributed_task::wire::TaskResult;
use crate::supervise::Exit;

fn one_job(asked: &Asked) -> Option<Answer> {
    match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("GET messages", 0) => Some(v1_job(1, 1)),
        _ => None,
    }
}

#[test]
fn the_worker_reports_by_its_flow() {
    let v2 = Bench::new(Choices::upstream(), one_job).v2();
    v2.run(secs(100));
    let reports = v2.asked("POST completejob");
    assert_eq!((reports.len(), reports[0].body["conclusion"].as_str()), (1, Some("succeeded")));
    assert_eq!(reports[0].header("authorization"), Some("Bearer job-token"));
    let v1 = Bench::new(Choices::upstream(), one_job).v1();
    v1.run(secs(100));
    let events = v1.asked("POST events");
    assert_eq!((events.len(), events[0].body["name"].as_str()), (1, Some("JobCompleted")));
}

#[test]
fn a_completion_that_fails_is_sent_a_hundred_times_by_the_real_runner() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "POST completejob" => Some(Answer::Status(503)),
        _ => one_job(asked),
    };
    let real = Bench::new(Choices::upstream(), script).v2();
    real.run(secs(20_000));
    let by_worker =
        real.asked("POST completejob").iter().filter(|asked| asked.body["conclusion"] == "succeeded").count();
    assert_eq!(by_worker, 100);
    assert_eq!(real.ran()[0].exit, Some(Exit::Code(CRASHED)));
    let flipped = Bench::new(put_back("nested-retries"), script).v2();
    flipped.run(secs(20_000));
    assert!(flipped.asked("POST completejob").len() >= 100);
    let repaired = Bench::new(Choices::hardened(), script).v2();
    repaired.run(secs(620));
    assert!(repaired.asked("POST completejob").len() <= 62);
}

#[test]
fn a_lost_report_turns_a_success_into_a_failure_of_the_real_runner() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        // The first one is carried out, but its answer is lost.
        ("POST completejob", 0) => Some(Answer::Status(504)),
        ("POST completejob", _) => Some(run_service_error(404)),
        _ => one_job(asked),
    };
    let conclusions = |choices| {
        let bench = Bench::new(choices, script).v2();
        bench.run(secs(200));
        let reports = bench.asked("POST completejob");
        let said: Vec<_> = reports.iter().map(|asked| asked.body["conclusion"].as_str().unwrap().to_owned()).collect();
        (said, bench.ran()[0].exit)
    };
    let (said, exit) = conclusions(Choices::upstream());
    assert_eq!(
        (said.as_slice(), exit),
        (["succeeded", "succeeded", "failed"].map(String::from).as_slice(), Some(Exit::Code(CRASHED)))
    );
    let (_, exit) = conclusions(put_back("report-replay"));
    assert_eq!(exit, Some(Exit::Code(CRASHED)));
    let (said, exit) = conclusions(Choices::hardened());
    assert!(said.iter().all(|said| said == "succeeded"), "{said:?}");
    assert_eq!(exit, Some(Exit::Code(100)));
}

#[test]
fn reports_carry_one_key_or_none() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("POST completejob", 0 | 1) => Some(Answer::Status(504)),
        _ => one_job(asked),
    };
    let keys = |choices| {
        let bench = Bench::new(choices, script).v2();
        bench.run(secs(200));
        let keys = bench.asked("POST completejob");
        keys.iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(keys(Choices::upstream()), [None, None, None]);
    assert_eq!(keys(put_back("report-replay")), [None, None, None]);
    let repaired = keys(Choices::hardened());
    assert!(repaired.len() == 3 && repaired[0].is_some() && repaired.iter().all(|key| *key == repaired[0]));
}

#[test]
fn a_worker_that_dies_after_its_report_has_failed_in_the_real_runner() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("POST completejob", 0) => Some(after(secs(10), Answer::Status(200))),
        _ => one_job(asked),
    };
    let jobs = Jobs { dies: Some(secs(25)), ..Jobs::lasting(secs(20)) };
    let said = |choices| {
        let bench = Bench::new(choices, script).v2().jobs(jobs);
        bench.run(secs(200));
        assert_eq!(bench.ran()[0].exit, Some(Exit::Killed));
        bench
            .asked("POST completejob")
            .iter()
            .map(|asked| asked.body["conclusion"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(said(Choices::upstream()), ["succeeded", "failed"]);
    assert_eq!(said(put_back("crash-report")), ["succeeded", "failed"]);
    assert_eq!(said(Choices::hardened()), ["succeeded", "succeeded"]);
}

#[test]
fn a_result_that_was_written_down_outlives_a_shutdown() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("POST completejob", 0) | ("POST events", 0) => Some(Answer::Silence),
        _ => one_job(asked),
    };
    let bench = |choices, ended| {
        let bench = Bench::new(choices, script).v2();
        assert_eq!(bench.run_until(secs(600), bench.shutdown_at(secs(30))), Some(exit::SUCCESS));
        assert_eq!(bench.ran()[0].exit, Some(ended));
        bench
    };
    // A result that could not be written down comes by the exit code.
    let unreported = Exit::Code(UNREPORTED_CODES + TaskResult::Succeeded as i32);
    let repaired = bench(Choices::hardened(), unreported).asked("POST completejob");
    assert_eq!((repaired.len(), repaired[1].body["conclusion"].as_str()), (2, Some("succeeded")));
    assert_eq!(repaired[0].header("idempotency-key"), repaired[1].header("idempotency-key"));
    assert_eq!(bench(put_back("crash-report"), Exit::Killed).asked("POST completejob").len(), 1);
    let v1 = Bench::new(Choices::hardened(), script).v1();
    assert_eq!(v1.run_until(secs(600), v1.shutdown_at(secs(30))), Some(exit::SUCCESS));
    assert_eq!(v1.asked("POST events")[1].body["result"], "succeeded");
}

#[test]
fn a_lease_is_not_renewed_while_the_listener_reports_in_place_of_its_worker() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "POST completejob" => Some(Answer::Status(503)),
        _ => one_job(asked),
    };
    let last_renewal = |choices| {
        let jobs = Jobs { dies: Some(secs(130)), ..Jobs::lasting(secs(20)) };
        let bench = Bench::new(choices, script).v2().jobs(jobs);
        bench.run(secs(600));
        assert!(bench.times("POST completejob").last().unwrap() > &secs(500));
        *bench.times("POST renewjob").last().unwrap()
    };
    assert_eq!(last_renewal(Choices::hardened()), secs(120));
    assert!(last_renewal(put_back("dispatch-failure")) > secs(500));
}

#[test]
fn a_report_is_tried_for_as_long_as_the_lease_lasts_which_is_not_renewed_for_ever() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "POST completejob" => Some(Answer::Status(503)),
        _ => one_job(asked),
    };
    let bench = Bench::new(Choices::hardened(), script).v2();
    bench.run(secs(3_600));
    let [renewed, reported] = ["POST renewjob", "POST completejob"].map(|call| *bench.times(call).last().unwrap());
    let known = secs(20);
    assert!((known + agent::PATIENCE - agent::RENEW_PAUSE..=known + agent::PATIENCE).contains(&renewed), "{renewed:?}");
    let lease_ends = renewed + LEASE;
    assert!((lease_ends - secs(30)..lease_ends + agent::SHORTEST_ROUND).contains(&reported), "{reported:?}");
}

#[test]
fn a_login_page_is_no_answer_to_a_report() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("POST events" | "POST completejob", 0) => Some(Answer::Page),
        _ => one_job(asked),
    };
    let reports = |choices: Choices| {
        let v1 = Bench::new(choices.clone(), script).v1();
        let v2 = Bench::new(choices, script).v2();
        assert_eq!([&v1, &v2].map(|bench| bench.run(secs(200))), [None; 2]);
        (v1.asked("POST events").len(), v2.asked("POST completejob").len())
    };
    assert_eq!(reports(Choices::upstream()), (1, 1));
    assert_eq!(reports(put_back("not-json")), (1, 1));
    assert_eq!(reports(Choices::hardened()), (2, 2));
}

#[test]
fn a_worker_that_dies_before_its_report_has_failed() {
    let jobs = Jobs { dies: Some(secs(10)), ..Jobs::lasting(secs(20)) };
    for choices in [Choices::upstream(), Choices::hardened()] {
        let bench = Bench::new(choices, one_job).v2().jobs(jobs);
        bench.run(secs(200));
        let reports = bench.asked("POST completejob");
        assert_eq!((reports.len(), reports[0].body["conclusion"].as_str()), (1, Some("failed")));
    }
    let v1 = Bench::new(Choices::upstream(), one_job).v1().jobs(jobs);
    v1.run(secs(200));
    assert_eq!((v1.asked("PATCH records").len(), v1.asked("POST events").len()), (1, 0));
}

#[test]
fn an_orphaned_worker_runs_on_or_stops_before_its_lease_ends() {
    let ended = |choices| {
        let bench = Bench::new(choices, one_job).v2().jobs(Jobs::lasting(secs(2_000)));
        assert_eq!(bench.run(secs(30)), None);
        bench.go_on(secs(3_000));
        bench.ran()[0].to.unwrap()
    };
    assert_eq!(ended(Choices::upstream()), secs(2_000));
    assert_eq!(ended(put_back("pipe-end")), secs(2_000));
    let repaired = ended(Choices::hardened());
    assert!(repaired >= secs(500) && repaired <= secs(530), "{repaired:?}");
}

#[test]
fn a_worker_without_a_job_ends_after_half_a_minute() {
    struct Silent;
    impl crate::workers::Parent for Silent {
        fn receive(&mut self) -> futures_util::future::BoxFuture<'_, Option<bytes::Bytes>> {
            Box::pin(std::future::pending())
        }
    }
    let bench = Bench::new(Choices::upstream(), |_| None).v2();
    let worker = agent::worker(bench.machine(1), Choices::upstream(), Box::new(Silent), bench.work());
    assert_eq!(bench.clock.run(worker), CRASHED);
    assert_eq!(bench.clock.now(), agent::JOB_TIMEOUT);
}
