//! Agents that get no more work: ephemeral ones, and those that are taken out of their pool.

use super::*;

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
    let refused = bench.acquire(&member, &reference).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.arrived, [Fact::AgentDismissed { agent: "a".into() }]);
    bench.queue("k");
    bench.polled(&member, session).await.expect(202);
    assert_eq!(bench.phase(1), "queued");
    bench.open_v2(&member).await.expect_broker_error(404, "RunnerNotFound");
    // Whoever is there to stay is only told that the job is not his.
    let refused = bench.acquire(&other, &reference).await;
    assert_eq!((refused.status, refused.arrived), (StatusCode::CONFLICT, vec![]));
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
    assert!(bench.server.dismiss(99).is_err());
}

#[tokio::test]
async fn what_an_agent_outside_its_pool_has_ends_with_its_lease_or_by_its_report() {
    for (asked_for_its_end, phase) in [(false, "queued"), (true, "closed")] {
        let bench = Bench::new(Policy::upstream(), |parameters| {
            (parameters.removal, parameters.on_lease_expiry) = (Removal::AtOnce, OnLeaseExpiry::Requeue);
        });
        let (busy, session) = bench.v1("a").await;
        let (other, _) = bench.v1("bb").await;
        bench.queue("j");
        bench.queue("k");
        bench.get(&format!("{MESSAGES}?sessionId={session}"), &busy.token).await.expect(200);
        let renew = async |member: &Member, request: i64| {
            let path = format!("{REQUESTS}/{request}?lockToken={}", Uuid::nil());
            bench.call(Method::PATCH, &path, &member.token, json!({"requestId": request}).to_string()).await
        };
        renew(&busy, 1).await.expect(200);
        renew(&other, 2).await.expect(200);
        for member in [&busy, &other] {
            bench.server.dismiss(member.is.agent_id).unwrap();
        }
        // They are seen no more, but may go on and report.
        bench
            .get(&format!("{MESSAGES}?sessionId={session}"), &busy.token)
            .await
            .expect_error(404, "TaskAgentNotFoundException");
        assert_eq!(bench.get(AGENTS, &busy.token).await.expect(200)["count"], 0);
        bench
            .get(&format!("{AGENTS}/{}", other.is.agent_id), &other.token)
            .await
            .expect_error(404, "TaskAgentNotFoundException");
        renew(&busy, 1).await.expect(200);
        bench.delete(&format!("{REQUESTS}/2?result=succeeded"), &other.token).await.expect(204);
        if asked_for_its_end {
            bench.server.cancel_job("j").unwrap();
        }
        // There is nobody who could be late to heed it.
        assert_eq!(bench.count(|fact| matches!(fact, Fact::JobCancelRequested { .. })), 0);
        bench.clock.advance(600);
        assert_eq!((bench.phase(0), bench.phase(1)), (phase, "closed"));
    }
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
    enum Meanwhile {
        Nothing,
        Deleted,
        Update,
    }
    for (lapsed_offer, meanwhile, numbers) in [
        (LapsedOffer::Withdrawn, Meanwhile::Nothing, [1, 2]),
        (LapsedOffer::SameNumber, Meanwhile::Nothing, [1, 1]),
        (LapsedOffer::SameNumber, Meanwhile::Deleted, [1, 2]),
        (LapsedOffer::SameNumber, Meanwhile::Update, [1, 3]),
    ] {
        let bench = Bench::new(Policy::upstream(), |parameters| parameters.lapsed_offer = lapsed_offer);
        let (member, session) = bench.v1("a").await;
        bench.queue("j");
        let path = format!("{MESSAGES}?sessionId={session}");
        let first = bench.get(&path, &member.token).await.expect(200);
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Deleted => {
                bench.delete(&format!("{MESSAGES}/1?sessionId={session}"), &member.token).await.expect(204);
            }
            // A cursor may have seen it.
            Meanwhile::Update => bench.server.update_agent(member.is.agent_id, "4.0.0").unwrap(),
        }
        bench.clock.advance(120);
        let mut second = bench.get(&path, &member.token).await.expect(200);
        while second["messageType"] == "AgentRefresh" {
            second =
                bench.get(&format!("{path}&lastMessageId={}", second["messageId"]), &member.token).await.expect(200);
        }
        assert_eq!([&first["messageId"], &second["messageId"]].map(|number| number.as_i64().unwrap()), numbers);
        let body: Value = serde_json::from_str(second["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["variables"]["system.jobAttempt"]["value"], "2");
    }
}
