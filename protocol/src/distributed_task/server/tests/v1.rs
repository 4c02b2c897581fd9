use std::pin::pin;

use super::*;
use crate::queue::Cursor;

async fn take(bench: &Bench, member: &Member, session: Uuid) -> (i64, Value) {
    let message = bench.get(&format!("{MESSAGES}?sessionId={session}"), &member.token).await.expect(200);
    assert_eq!(message["messageType"], "PipelineAgentJobRequest");
    let body = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
    (message["messageId"].as_i64().unwrap(), body)
}

async fn patch(bench: &Bench, member: &Member, request: i64, body: Value) -> Answer {
    let path = format!("{REQUESTS}/{request}?lockToken=00000000-0000-0000-0000-000000000000");
    bench.call(Method::PATCH, &path, &member.token, body.to_string()).await
}

#[tokio::test]
async fn a_job_is_taken_renewed_and_finished() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let id = bench.queue("j");
    let (message, job) = take(&bench, &member, session).await;
    assert_eq!(job["jobId"], id.to_string());
    assert_eq!(job["plan"]["planType"], "actions");
    assert_eq!(job["variables"]["system.jobAttempt"]["value"], "1");
    assert!(job.get("lockToken").is_none(), "real servers do not fence");
    let request = job["requestId"].as_i64().unwrap();
    let renewed = patch(&bench, &member, request, json!({"requestId": request})).await.expect(200);
    assert_eq!(renewed["lockedUntil"], "2023-11-14T22:23:20.0000000Z");
    assert_eq!(renewed["reservedAgent"]["name"], "a");
    bench.delete(&format!("{MESSAGES}/{message}?sessionId={session}"), &member.token).await.expect(204);
    bench.clock.advance(60);
    let renewed = patch(&bench, &member, request, json!({"requestId": request})).await.expect(200);
    assert_eq!(renewed["lockedUntil"], "2023-11-14T22:24:20.0000000Z");
    let seen = bench.get(&format!("{REQUESTS}/{request}"), &member.token).await.expect(200);
    assert!(seen.get("result").is_none());
    let finish = json!({"requestId": request, "finishTime": "2023-11-14T22:15:00Z", "result": "succeeded"});
    assert_eq!(patch(&bench, &member, request, finish.clone()).await.expect(200)["result"], "succeeded");
    patch(&bench, &member, request, json!({})).await.expect_error(404, "TaskAgentJobNotFoundException");
    patch(&bench, &member, request, finish).await.expect_error(404, "TaskAgentJobNotFoundException");

    let kinds = bench.facts(|fact| {
        Some(match fact {
            Fact::JobQueued { .. } => "queued",
            Fact::JobOffered { attempt: 1, .. } => "offered",
            Fact::LeaseGranted { attempt: 1, .. } => "granted",
            Fact::LeaseRenewed { attempt: 1, .. } => "renewed",
            Fact::JobReported { accepted: true, .. } => "reported",
            Fact::LeaseReleased { .. } => "released",
            Fact::MessageQueued { .. } => "message",
            Fact::MessageDelivered { .. } => "delivered",
            Fact::MessageAcked { .. } => "acked",
            _ => return None,
        })
    });
    let meant = [
        "queued",
        "offered",
        "message",
        "delivered",
        "granted",
        "acked",
        "renewed",
        "reported",
        "released",
        "reported",
    ];
    assert_eq!(kinds, meant);
}

#[tokio::test]
async fn a_job_has_arrived_once_the_answer_that_hands_it_over_has() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let job = Fact::JobArrived { job: "j".into(), attempt: 1, agent: "a".into() };
    bench.queue("j");
    let polled = bench.get(&format!("{MESSAGES}?sessionId={session}"), &member.token).await;
    assert_eq!(polled.arrived, [Fact::SessionAnswered { session: session.to_string().into() }, job.clone()]);
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let polled = bench.get(&format!("/broker/message?sessionId={session}"), &member.token).await;
    assert_eq!(polled.arrived, [Fact::SessionAnswered { session: session.to_string().into() }], "a mere reference");
    let reference = serde_json::from_str(polled.expect(200)["body"].as_str().unwrap()).unwrap();
    let acquired = bench.acquire(&member, &reference).await;
    assert!(
        matches!(&acquired.arrived[..], [Fact::LeaseAnswered { .. }, last] if *last == job),
        "{:?}",
        acquired.arrived
    );
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_a_job() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let path = format!("{MESSAGES}?sessionId={session}");
    let queue = async {
        bench.clock.advance(20);
        tokio::task::yield_now().await;
        bench.queue("j");
    };
    let (message, ()) = futures_util::join!(bench.get(&path, &member.token), queue);
    assert_eq!(message.expect(200)["messageId"], 1);
}

#[tokio::test]
async fn an_empty_poll_is_held_and_ends_with_202() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let path = format!("{MESSAGES}?sessionId={session}");
    let mut poll = pin!(bench.get(&path, &member.token));
    assert!(futures_util::poll!(&mut poll).is_pending());
    bench.clock.advance(49);
    assert!(futures_util::poll!(&mut poll).is_pending());
    bench.clock.advance(1);
    let answer = poll.await;
    assert!(answer.body.is_empty());
    answer.expect(202);
}

#[tokio::test]
async fn a_message_is_kept_until_it_is_deleted() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    for _ in 0..2 {
        assert_eq!(take(&bench, &member, session).await.0, 1);
    }
    let path = format!("{MESSAGES}?sessionId={session}&lastMessageId=1");
    let (answer, ()) = futures_util::join!(bench.get(&path, &member.token), async { bench.clock.advance(50) });
    answer.expect(202);
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.cursor = Cursor::Ignored);
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    let path = format!("{MESSAGES}?sessionId={session}&lastMessageId=1");
    bench.get(&path, &member.token).await.expect(200);
}

#[tokio::test]
async fn a_busy_agent_gets_no_job_if_its_status_counts() {
    for (counts, phase) in [(BusyStatus::Counts, "queued"), (BusyStatus::Ignored, "offered")] {
        let bench = Bench::new(Policy::upstream(), |parameters| parameters.busy_status = counts);
        let (member, session) = bench.v1("a").await;
        let path = format!("{MESSAGES}?sessionId={session}&status=Busy");
        let (answer, ()) = futures_util::join!(bench.get(&path, &member.token), async { bench.clock.advance(50) });
        answer.expect(202);
        bench.queue("j");
        assert_eq!(bench.phase(0), phase);
        let path = format!("{MESSAGES}?sessionId={session}&status=Online");
        bench.get(&path, &member.token).await.expect(200);
    }
}

#[tokio::test]
async fn a_busy_agent_is_offered_another_job_where_the_pool_overlooks_its_first() {
    for (jobs, phases) in [(0, ["leased", "queued", "queued"]), (1, ["leased", "offered", "queued"])] {
        let bench = Bench::upstream();
        let (member, session) = bench.v1("a").await;
        bench.queue("j1");
        let (_, job) = take(&bench, &member, session).await;
        patch(&bench, &member, job["requestId"].as_i64().unwrap(), json!({})).await.expect(200);
        let (count, told) = crate::effect::counted();
        let minute = Duration::from_secs(60);
        bench.server.overlook_jobs(member.is.agent_id, jobs, minute, told).unwrap();
        bench.queue("j2");
        bench.queue("j3");
        assert_eq!([0, 1, 2].map(|job| bench.phase(job)), phases);
        assert_eq!(count(), u64::from(jobs));
        let shown_idle = |fact: &Fact| matches!(fact, Fact::AgentShown { online: true, busy: false, .. });
        assert_eq!(bench.count(shown_idle), 1, "what is shown is what the agent has");
    }
}

#[tokio::test]
async fn what_is_overlooked_ends() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    bench.queue("j1");
    let (_, job) = take(&bench, &member, session).await;
    patch(&bench, &member, job["requestId"].as_i64().unwrap(), json!({})).await.expect(200);
    let minute = Duration::from_secs(60);
    bench.server.overlook_jobs(member.is.agent_id, 1, minute, OnEffect::untold()).unwrap();
    bench.clock.advance(60);
    bench.queue("j2");
    assert_eq!(bench.phase(1), "queued");
    assert!(bench.server.overlook_jobs(99, 1, minute, OnEffect::untold()).is_err());
}

#[tokio::test]
async fn the_message_of_a_job_is_handled_when_the_job_is_leased() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    let (message, job) = take(&bench, &member, session).await;
    let told = || {
        let of = |fact: &Fact| match fact {
            Fact::MessageAcked { message } => Some(("acked", message.to_string())),
            Fact::MessageHandled { message } => Some(("handled", message.to_string())),
            _ => None,
        };
        bench.facts(of)
    };
    bench.delete(&format!("{MESSAGES}/{message}?sessionId={session}"), &member.token).await.expect(204);
    assert_eq!(told(), [("acked", "a/1".to_owned())]);
    patch(&bench, &member, job["requestId"].as_i64().unwrap(), json!({})).await.expect(200);
    bench.server.cancel_job("j").unwrap();
    assert_eq!(told()[1..], [("handled", "a/1".to_owned())]);
    let finish = json!({ "finishTime": "2023-11-14T22:13:20Z", "result": "canceled" });
    patch(&bench, &member, job["requestId"].as_i64().unwrap(), finish).await.expect(200);
    assert_eq!(told()[2..], [("handled", "a/2".to_owned())]);
}

#[tokio::test]
async fn another_agent_cannot_act_on_a_lease() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    let (other, _) = bench.v1("bb").await;
    take(&bench, &member, session).await;
    patch(&bench, &other, 1, json!({})).await.expect_error(409, "TaskAgentJobTokenExpiredException");
    patch(&bench, &member, 1, json!({})).await.expect(200);
    patch(&bench, &other, 1, json!({})).await.expect_error(409, "TaskAgentJobTokenExpiredException");
    patch(&bench, &other, 1, json!({"result": 2})).await.expect_error(409, "TaskAgentJobTokenExpiredException");
    patch(&bench, &member, 9, json!({})).await.expect_error(404, "TaskAgentJobNotFoundException");
    assert_eq!(bench.phase(0), "leased");
}

#[tokio::test]
async fn a_request_can_be_ended_by_deleting_it_or_named_in_the_body() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    take(&bench, &member, session).await;
    bench.call(Method::PATCH, REQUESTS, &member.token, json!({"requestId": 1}).to_string()).await.expect(200);
    bench
        .delete(&format!("{REQUESTS}/1?result=done"), &member.token)
        .await
        .expect_error(400, "ArgumentOutOfRangeException");
    bench.delete(&format!("{REQUESTS}/1?result=failed"), &member.token).await.expect(204);
    assert_eq!(bench.get(&format!("{REQUESTS}/1"), &member.token).await.expect(200)["result"], "failed");
}

#[tokio::test]
async fn a_cancellation_reaches_the_agent_that_has_the_job() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let id = bench.queue("j");
    let (message, _) = take(&bench, &member, session).await;
    patch(&bench, &member, 1, json!({})).await.expect(200);
    bench.delete(&format!("{MESSAGES}/{message}?sessionId={session}"), &member.token).await.expect(204);
    bench.server.cancel_job("j").unwrap();
    bench.server.cancel_job("j").unwrap();
    let message = bench.get(&format!("{MESSAGES}?sessionId={session}"), &member.token).await.expect(200);
    assert_eq!(message["messageType"], "JobCancellation");
    let body: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({"jobId": id.to_string(), "timeout": "00:05:00"}));
    patch(&bench, &member, 1, json!({"result": "canceled"})).await.expect(200);
    assert_eq!(bench.server.snapshot().agents[0].messages, 0, "what is about an ended job is withdrawn");
    assert_eq!(bench.count(|fact| matches!(fact, Fact::JobCancelRequested { .. })), 1);
    assert_eq!(bench.server.cancel_job("k"), Err(UnknownName::Job));
}

#[tokio::test]
async fn a_job_can_be_fetched_by_the_name_of_its_offer() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    let id = bench.queue("j");
    let reference = bench.reference(&member, session).await;
    let path = |name: &str| format!("/tenant/_apis/runner/messages/{name}");
    let job = bench.get(&path(reference["runner_request_id"].as_str().unwrap()), &member.token).await.expect(200);
    assert_eq!(job["jobId"], id.to_string());
    bench.get(&path("x"), &member.token).await.expect_error(404, "TaskAgentJobNotFoundException");
}

#[tokio::test]
async fn a_pool_that_moved_sends_its_runners_to_the_broker() {
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.broker = Broker::Apart);
    let (member, session) = bench.v1("a").await;
    let path = format!("{MESSAGES}?sessionId={session}");
    let mut held = pin!(bench.get(&path, &member.token));
    assert!(futures_util::poll!(&mut held).is_pending());
    bench.server.serve_pool_by(Flow::V2);
    bench.clock.advance(49);
    assert!(futures_util::poll!(&mut held).is_pending(), "a poll that is held is not ended");
    bench.clock.advance(1);
    assert_eq!(held.await.status.as_u16(), 202);
    let migration = bench.get(&path, &member.token).await.expect(200);
    assert_eq!(migration["messageType"], "BrokerMigration");
    assert_eq!(migration["body"], json!({"brokerBaseUrl": "http://server/broker/"}).to_string());
    let opened = bench.post(SESSIONS, &member.token, session_of(&member, "host (PID: 2)")).await.expect(200);
    assert_eq!(opened["brokerMigrationMessage"]["brokerBaseUrl"], "http://server/broker/");
    assert!(opened.get("sessionId").is_none(), "the broker is who opens it");

    // The session goes on at the broker, whose jobs are V2's and whose numbers are not the pool's.
    let broker = format!("/broker/message?sessionId={session}&status=Online");
    let (polled, _) = futures_util::join!(bench.get(&broker, &member.token), async {
        tokio::task::yield_now().await;
        bench.queue("j")
    });
    let polled = polled.expect(200);
    assert_eq!(polled["messageType"], "RunnerJobRequest");
    let number = polled["messageId"].as_i64().unwrap();
    assert!(number > 1_000, "{number}");
    bench.delete(&format!("{MESSAGES}/{number}?sessionId={session}"), &member.token).await.expect(204);
    assert_eq!(bench.count(|fact| matches!(fact, Fact::MessageAcked { .. })), 1);

    bench.server.serve_pool_by(Flow::V1);
    bench.server.update_agent(member.is.agent_id, "3.0.0").unwrap();
    let behind = format!("{path}&lastMessageId={number}");
    let back = bench.get(&behind, &member.token);
    assert!(futures_util::poll!(pin!(back)).is_pending(), "a cursor of the broker's hides what the pool has");
    assert_eq!(bench.get(&path, &member.token).await.expect(200)["messageType"], "AgentRefresh");
}

#[tokio::test]
async fn a_broker_apart_gives_a_second_job_to_a_runner_that_brings_one_along() {
    for (broker, given) in [(Broker::OfPool, false), (Broker::Apart, true)] {
        let bench = Bench::new(Policy::upstream(), |parameters| {
            (parameters.broker, parameters.busy_status) = (broker, BusyStatus::Ignored);
        });
        let (member, session) = bench.v1("a").await;
        bench.queue("j");
        let (message, job) = take(&bench, &member, session).await;
        patch(&bench, &member, job["requestId"].as_i64().unwrap(), json!({})).await.expect(200);
        bench.delete(&format!("{MESSAGES}/{message}?sessionId={session}"), &member.token).await.expect(204);
        bench.queue("k");
        bench.server.serve_pool_by(Flow::V2);
        let path = format!("/broker/message?sessionId={session}&status=Busy");
        let polled = futures_util::poll!(pin!(bench.get(&path, &member.token)));
        assert_eq!(polled.is_ready(), given, "{broker:?}");
    }
}
