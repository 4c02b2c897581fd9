//! Agents that get no more work: ephemeral ones, and those that are taken out of their pool.

use super::*;
use crate::http::Receipt;

impl Bench {
    fn dismissed(&self) -> usize {
        self.count(|fact| matches!(fact, Fact::AgentDismissed { .. }))
    }

    async fn polled(&self, member: &Member, session: Uuid) -> Answer {
        let path = format!("/broker/message?sessionId={session}");
        let wait = async {
            tokio::task::yield_now().await;
            self.clock.advance(50);
        };
        futures_util::join!(self.get(&path, &member.token), wait).0
    }

    /// The facts that become true when the answer to an acquirejob has arrived.
    async fn acquire_receipt(&self, member: &Member, reference: &Value) -> (StatusCode, Vec<Fact>) {
        let asked = json!({"jobMessageId": reference["runner_request_id"]}).to_string();
        let request = Request::post("/run/acquirejob").header("authorization", format!("Bearer {}", member.token));
        let answer = self.router.clone().oneshot(request.body(Body::from(asked)).unwrap()).await.unwrap();
        (answer.status(), answer.extensions().get::<Receipt>().map(|receipt| receipt.0.clone()).unwrap_or_default())
    }
}

#[tokio::test]
async fn an_ephemeral_agent_has_one_job_and_is_forgotten() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2_for("a", Lifetime::Ephemeral).await;
    bench.queue("j");
    let reference = bench.reference(&member, session).await;
    assert_eq!(bench.dismissed(), 0);
    let job = bench.acquire(&member, &reference).await.expect(200);
    assert_eq!(bench.dismissed(), 1);
    bench.queue("k");
    bench.server.overlook_jobs(member.is.agent_id, 1, Duration::from_secs(600), OnEffect::untold()).unwrap();
    assert_eq!(bench.phase(1), "queued");
    bench.polled(&member, session).await.expect(202);
    bench.open_v2(&member).await.expect(409);
    let token = job["resources"]["endpoints"][0]["authorization"]["parameters"]["AccessToken"].as_str().unwrap();
    let done = json!({"planId": job["plan"]["planId"], "jobId": job["jobId"], "conclusion": "succeeded"});
    bench.post("/run/completejob", token, done).await.expect(200);
    bench.polled(&member, session).await.expect_broker_error(404, "RunnerNotFound");
    bench.open_v2(&member).await.expect_broker_error(404, "RunnerNotFound");
    assert_eq!((bench.phase(1), bench.dismissed()), ("queued", 1));
}

#[tokio::test]
async fn an_ephemeral_agent_that_lost_its_job_polls_in_vain() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2_for("a", Lifetime::Ephemeral).await;
    bench.queue("j");
    let reference = bench.reference(&member, session).await;
    let (other, other_session) = bench.v2("bb").await;
    bench.clock.advance(120);
    bench.reference(&other, other_session).await;
    let (status, receipt) = bench.acquire_receipt(&member, &reference).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(receipt, [Fact::AgentDismissed { agent: "a".into() }]);
    bench.queue("k");
    bench.polled(&member, session).await.expect(202);
    assert_eq!(bench.phase(1), "queued");
    bench.open_v2(&member).await.expect_broker_error(404, "RunnerNotFound");
    // Whoever is there to stay is only told that the job is not his.
    let (status, receipt) = bench.acquire_receipt(&other, &reference).await;
    assert_eq!((status, receipt), (StatusCode::CONFLICT, vec![]));
}

#[tokio::test]
async fn an_agent_that_is_taken_out_of_its_pool_may_end_what_it_has() {
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.removal = Removal::AtOnce);
    let (busy, session) = bench.v2("a").await;
    bench.queue("j");
    let reference = bench.reference(&busy, session).await;
    let job = bench.acquire(&busy, &reference).await.expect(200);
    let (offered, offered_session) = bench.v2("bb").await;
    bench.queue("k");
    bench.reference(&offered, offered_session).await;
    for member in [&busy, &offered] {
        bench.server.dismiss(member.is.agent_id).unwrap();
    }
    assert_eq!((bench.phase(0), bench.phase(1), bench.dismissed()), ("leased", "queued", 2));
    bench.polled(&busy, session).await.expect_broker_error(404, "RunnerNotFound");
    bench.open_v2(&offered).await.expect_broker_error(404, "RunnerNotFound");
    let token = job["resources"]["endpoints"][0]["authorization"]["parameters"]["AccessToken"].as_str().unwrap();
    let names = json!({"planId": job["plan"]["planId"], "jobId": job["jobId"]});
    bench.post("/run/renewjob", token, names).await.expect(200);
    // Nobody can tell it to end.
    bench.server.cancel_job("j").unwrap();
    assert_eq!(bench.count(|fact| matches!(fact, Fact::JobCancelRequested { .. })), 0);
    assert!(bench.server.dismiss(99).is_err());
}

#[tokio::test]
async fn an_agent_with_a_job_may_be_removed_only_after_it() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let reference = bench.reference(&member, session).await;
    let job = bench.acquire(&member, &reference).await.expect(200);
    bench.server.dismiss(member.is.agent_id).unwrap();
    bench.polled(&member, session).await.expect(202);
    let token = job["resources"]["endpoints"][0]["authorization"]["parameters"]["AccessToken"].as_str().unwrap();
    let done = json!({"planId": job["plan"]["planId"], "jobId": job["jobId"], "conclusion": "succeeded"});
    bench.post("/run/completejob", token, done).await.expect(200);
    bench.polled(&member, session).await.expect_broker_error(404, "RunnerNotFound");
}

#[tokio::test]
async fn a_lapsed_offer_may_be_made_again_by_its_number() {
    for (lapsed_offer, deleted, numbers) in [
        (LapsedOffer::Withdrawn, false, [1, 2]),
        (LapsedOffer::SameNumber, false, [1, 1]),
        (LapsedOffer::SameNumber, true, [1, 2]),
    ] {
        let bench = Bench::new(Policy::upstream(), |parameters| parameters.lapsed_offer = lapsed_offer);
        let (member, session) = bench.v1("a").await;
        bench.queue("j");
        let path = format!("{MESSAGES}?sessionId={session}");
        let first = bench.get(&path, &member.token).await.expect(200);
        if deleted {
            bench.delete(&format!("{MESSAGES}/1?sessionId={session}"), &member.token).await.expect(204);
        }
        bench.clock.advance(120);
        let second = bench.get(&path, &member.token).await.expect(200);
        assert_eq!([&first["messageId"], &second["messageId"]].map(|number| number.as_i64().unwrap()), numbers);
        let body: Value = serde_json::from_str(second["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["variables"]["system.jobAttempt"]["value"], "2");
    }
}
