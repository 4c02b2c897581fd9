use super::*;
use crate::effect::counted;

/// The job's plan, id and own token.
fn parts(job: &Value) -> (Value, String) {
    let endpoint = &job["resources"]["endpoints"][0];
    assert_eq!(endpoint["name"], "SystemVssConnection");
    // By these two the worker finds the run service.
    assert_eq!((&job["messageType"], &endpoint["url"]), (&json!("RunnerJobRequest"), &json!("http://server/run/")));
    let token = endpoint["authorization"]["parameters"]["AccessToken"].as_str().unwrap();
    (json!({"planId": job["plan"]["planId"], "jobId": job["jobId"]}), token.into())
}

fn with(mut body: Value, name: &str, value: impl Into<Value>) -> Value {
    body[name] = value.into();
    body
}

#[tokio::test]
async fn a_job_is_acknowledged_acquired_renewed_and_completed() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let reference = bench.reference(&member, session).await;
    assert_eq!(reference["run_service_url"], "http://server/run/");
    assert_eq!(reference["should_acknowledge"], true);
    let request = json!({"runnerRequestId": reference["runner_request_id"]});
    let acknowledge = format!("/broker/acknowledge?sessionId={session}&status=Online");
    bench.post(&acknowledge, &member.token, request.clone()).await.expect(200);
    let job = bench.acquire(&member, &reference).await.expect(200);
    assert_eq!(job["lockedUntil"], "2023-11-14T22:23:20.0000000Z");
    bench.post(&acknowledge, &member.token, request).await.expect_broker_error(404, "AcknowledgeJobNotFound");
    let (names, token) = parts(&job);
    bench.clock.advance(60);
    let renewed = bench.post("/run/renewjob", &token, names.clone()).await.expect(200);
    assert_eq!(renewed, json!({"lockedUntil": "2023-11-14T22:24:20.0000000Z"}));
    let done = with(names.clone(), "conclusion", "succeeded");
    bench.post("/run/completejob", &token, done.clone()).await.expect(200);
    assert_eq!(bench.phase(0), "closed");
    bench.post("/run/completejob", &token, done).await.expect_run_error(404);
    bench.post("/run/renewjob", &token, names).await.expect_run_error(404);
}

#[tokio::test]
async fn a_job_message_comes_again_until_it_is_acknowledged_or_acquired() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let first = bench.reference(&member, session).await;
    let path = format!("/broker/message?sessionId={session}");
    let wait = async {
        bench.clock.advance(49);
        tokio::task::yield_now().await;
        bench.clock.advance(1);
    };
    let (empty, ()) = futures_util::join!(bench.get(&path, &member.token), wait);
    empty.expect(202);
    let (again, ()) = futures_util::join!(bench.reference(&member, session), async { bench.clock.advance(10) });
    assert_eq!(again, first);
    bench.acquire(&member, &first).await.expect(200);
    let wait = async {
        for _ in 0..5 {
            bench.clock.advance(10);
            tokio::task::yield_now().await;
        }
    };
    let (nothing, ()) = futures_util::join!(bench.get(&path, &member.token), wait);
    nothing.expect(202);
}

#[tokio::test]
async fn acquiring_twice_conflicts_unless_it_is_idempotent() {
    for (bench, status) in [
        (Bench::upstream(), 409),
        (Bench::new(Policy::upstream(), |parameters| parameters.acquire_replay = AcquireReplay::SameAnswer), 200),
        (Bench::hardened(), 200),
    ] {
        let (member, session) = bench.v2("a").await;
        bench.queue("j");
        let reference = bench.reference(&member, session).await;
        let first = bench.acquire(&member, &reference).await.expect(200);
        let second = bench.acquire(&member, &reference).await;
        match status {
            409 => second.expect_run_error(409),
            _ => {
                let second = second.expect(200);
                assert_eq!((&second["jobId"], &second["lockToken"]), (&first["jobId"], &first["lockToken"]));
            }
        }
        assert_eq!(bench.count(|fact| matches!(fact, Fact::LeaseGranted { .. })), 1);
        let (other, _) = bench.v2("bb").await;
        bench.acquire(&other, &reference).await.expect_run_error(409);
    }
}

#[tokio::test]
async fn the_run_service_serves_a_runner_that_the_broker_denies() {
    for (denial, status) in [(Denial::AccessDenied, 403), (Denial::AgentUnknown, 404)] {
        let bench = Bench::upstream();
        let (member, session) = bench.v2("a").await;
        bench.queue("j");
        let reference = bench.reference(&member, session).await;
        let (told, on_effect) = counted();
        bench.server.deny(member.is.agent_id, denial, Duration::from_secs(60), on_effect).unwrap();
        let path = format!("/broker/acknowledge?sessionId={session}");
        bench.post(&path, &member.token, json!({})).await.expect(status);
        bench.acquire(&member, &reference).await.expect(200);
        assert_eq!(told(), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_acquired_says_why() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.acquire(&member, &json!({"runner_request_id": "x"})).await.expect_run_error(404);
    bench.queue("j");
    let reference = bench.reference(&member, session).await;
    let (other, _) = bench.v2("bb").await;
    bench.acquire(&other, &reference).await.expect_run_error(404);
    bench.server.cancel_job("j").unwrap();
    bench.acquire(&member, &reference).await.expect_run_error(422);
    let stale = format!("/broker/acknowledge?sessionId={}", Uuid::nil());
    bench.post(&stale, &member.token, json!({})).await.expect_broker_error(400, "RunnerSessionInvalid");
}

#[tokio::test]
async fn an_offer_that_nobody_takes_goes_to_another_agent() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let old = bench.reference(&member, session).await;
    let (other, other_session) = bench.v2("bb").await;
    bench.clock.advance(120);
    let new = bench.reference(&other, other_session).await;
    assert_ne!(new["runner_request_id"], old["runner_request_id"]);
    bench.acquire(&member, &old).await.expect_run_error(409);
    let job = bench.acquire(&other, &new).await.expect(200);
    assert_eq!(job["variables"]["system.jobAttempt"]["value"], "2");
    assert_eq!(bench.count(|fact| matches!(fact, Fact::JobRequeued { attempt: 1, .. })), 1);
}

#[tokio::test]
async fn a_cancellation_comes_again_until_the_job_ends() {
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.cancel_redelivery = Duration::from_secs(1));
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let job = bench.acquire(&member, &bench.reference(&member, session).await).await.expect(200);
    bench.server.cancel_job("j").unwrap();
    let path = format!("/broker/message?sessionId={session}&status=Busy");
    for _ in 0..3 {
        let message = bench.get(&path, &member.token).await.expect(200);
        assert_eq!(message["messageType"], "JobCancellation");
        bench.clock.advance(1);
    }
    let (names, token) = parts(&job);
    bench.post("/run/completejob", &token, with(names, "conclusion", "canceled")).await.expect(200);
    let (empty, ()) = futures_util::join!(bench.get(&path, &member.token), async { bench.clock.advance(50) });
    empty.expect(202);
}

#[tokio::test]
async fn a_job_s_token_is_for_its_job() {
    let bench = Bench::upstream();
    let ((a, first), (b, second)) = (bench.v2("a").await, bench.v2("bb").await);
    bench.queue("j");
    bench.queue("k");
    let one = bench.acquire(&a, &bench.reference(&a, first).await).await.expect(200);
    let two = bench.acquire(&b, &bench.reference(&b, second).await).await.expect(200);
    let ((names, _), (_, token)) = (parts(&one), parts(&two));
    bench.post("/run/renewjob", &token, names.clone()).await.expect_run_error(403);
    bench.post("/run/completejob", &token, with(names.clone(), "conclusion", "failed")).await.expect_run_error(403);
    bench.post("/run/acquirejob", &token, json!({"jobMessageId": "x"})).await.expect_run_error(403);
    assert_eq!(bench.phase(0), "leased");
    let wrong_plan = with(names, "planId", Uuid::nil().to_string());
    bench.post("/run/renewjob", &token, wrong_plan).await.expect_run_error(404);
}

#[tokio::test]
async fn both_spellings_of_both_clients_are_read() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let reference = bench.reference(&member, session).await;
    let asked = json!({"StreamID": reference["runner_request_id"], "JobMessageID": reference["runner_request_id"]});
    let job = bench.post("/run/acquirejob", &member.token, asked).await.expect(200);
    let done = json!({"PlanID": job["plan"]["planId"], "JOBID": job["jobId"], "Conclusion": "Succeeded"});
    bench.post("/run/completejob", &member.token, done).await.expect(200);
}
