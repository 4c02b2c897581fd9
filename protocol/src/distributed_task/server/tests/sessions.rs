use std::pin::pin;

use super::*;
use crate::distributed_task::cipher::{Digest, SessionKey};
use crate::distributed_task::wire::{TaskAgentMessage, TaskAgentSession, from_value};
use crate::facts::SessionEnd;
use crate::session::ConflictExtends;

#[tokio::test]
async fn a_second_session_conflicts_until_the_first_expires() {
    let bench = Bench::upstream();
    let (member, _) = bench.v1("a").await;
    let again = session_of(&member, "host (PID: 2)");
    bench.clock.advance(299);
    let refused = bench.post(SESSIONS, &member.token, again.clone()).await;
    refused.expect_error(409, "TaskAgentSessionConflictException");
    assert_eq!(refused.json()["message"], "The actions runner a already has an active session.");
    bench.post("/broker/session", &member.token, again.clone()).await.expect_broker_error(409, "");
    bench.clock.advance(1);
    bench.post(SESSIONS, &member.token, again).await.expect(200);
    assert_eq!(bench.count(|fact| matches!(fact, Fact::SessionConflict { .. })), 2);
    assert_eq!(
        bench.facts(|fact| match fact {
            Fact::SessionClosed { why, .. } => Some(*why),
            _ => None,
        }),
        [SessionEnd::Expired]
    );
}

#[tokio::test]
async fn a_conflict_may_extend_the_live_session() {
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.conflict_extends = ConflictExtends::LiveSession);
    let (member, _) = bench.v1("a").await;
    for _ in 0..5 {
        bench.clock.advance(200);
        let again = bench.post(SESSIONS, &member.token, session_of(&member, "host")).await;
        again.expect_error(409, "TaskAgentSessionConflictException");
    }
}

#[tokio::test]
async fn polls_refresh_a_session_at_both_ends() {
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.session_life = Duration::from_secs(60));
    let (member, session) = bench.v1("a").await;
    for _ in 0..3 {
        let path = format!("{MESSAGES}?sessionId={session}");
        let poll = bench.get(&path, &member.token);
        let (answer, ()) = futures_util::join!(poll, async { bench.clock.advance(50) });
        answer.expect(202);
        bench.clock.advance(59);
    }
    bench.clock.advance(1);
    let gone = bench.get(&format!("{MESSAGES}?sessionId={session}"), &member.token).await;
    gone.expect_error(400, "TaskAgentSessionExpiredException");
    bench
        .get(&format!("/broker/message?sessionId={session}"), &member.token)
        .await
        .expect_broker_error(400, "RunnerSessionInvalid");
}

#[tokio::test]
async fn a_session_is_deleted_once_or_however_often() {
    for (second, status) in [(SecondDelete::NotFound, 400), (SecondDelete::Succeeds, 204)] {
        let bench = Bench::new(Policy::upstream(), |parameters| parameters.second_delete = second);
        let (member, session) = bench.v1("a").await;
        let path = format!("{SESSIONS}/{session}");
        bench.delete(&path, &member.token).await.expect(204);
        bench.delete(&path, &member.token).await.expect(status);
        let online = bench.facts(|fact| match fact {
            Fact::AgentShown { online, busy, .. } => Some((*online, *busy)),
            _ => None,
        });
        assert_eq!(online, [(true, false), (false, false)]);
    }
}

#[tokio::test]
async fn a_poll_ends_with_its_session() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let path = format!("{MESSAGES}?sessionId={session}");
    let deleted = format!("{SESSIONS}/{session}");
    let (poll, _) = futures_util::join!(bench.get(&path, &member.token), bench.delete(&deleted, &member.token));
    poll.expect_error(400, "TaskAgentSessionExpiredException");
}

#[tokio::test]
async fn sessions_are_for_their_own_agent() {
    let bench = Bench::upstream();
    let ((a, session), (b, _)) = (bench.v1("a").await, bench.v1("bb").await);
    bench.post(SESSIONS, &b.token, session_of(&a, "x")).await.expect_error(403, "AccessDeniedException");
    bench.get(&format!("{MESSAGES}?sessionId={session}"), &b.token).await.expect_error(403, "AccessDeniedException");
    bench.delete(&format!("{SESSIONS}/{session}"), &b.token).await.expect_error(403, "AccessDeniedException");
    bench
        .delete(&format!("{MESSAGES}/1?sessionId={session}"), &b.token)
        .await
        .expect_error(403, "AccessDeniedException");
    let elsewhere = SESSIONS.replace("/1/", "/2/");
    bench.post(&elsewhere, &a.token, json!({})).await.expect_error(404, "TaskAgentPoolNotFoundException");
    bench.get(MESSAGES, &a.token).await.expect_error(400, "ArgumentNullException");
    bench.get(&format!("{MESSAGES}?sessionId=x"), &a.token).await.expect_error(400, "ArgumentOutOfRangeException");
}

#[tokio::test]
async fn the_real_v2_deletion_ends_whatever_session_lives() {
    let bench = Bench::upstream();
    let (member, _) = bench.v2("a").await;
    bench.delete("/broker/session", &member.token).await.expect(200);
    bench.delete("/broker/session", &member.token).await.expect_broker_error(400, "RunnerSessionInvalid");
    bench.post("/broker/session", &member.token, session_of(&member, "x")).await.expect(200);

    let bench = Bench::new(Policy::upstream(), |parameters| parameters.idless_delete = IdlessDelete::Ignored);
    let (member, _) = bench.v2("a").await;
    bench.delete("/broker/session", &member.token).await.expect(200);
    bench.post("/broker/session", &member.token, session_of(&member, "x")).await.expect_broker_error(409, "");
}

#[tokio::test]
async fn a_hardened_deletion_ends_only_the_session_it_names() {
    let bench = Bench::hardened();
    let (member, session) = bench.v2("a").await;
    let named = |session: Uuid| format!("/broker/session?sessionId={session}");
    bench.delete("/broker/session", &member.token).await.expect_broker_error(400, "RunnerSessionInvalid");
    bench.delete(&named(Uuid::nil()), &member.token).await.expect_broker_error(400, "RunnerSessionInvalid");
    assert_eq!(bench.server.snapshot().agents[0].session, Some(session));
    bench.delete(&named(session), &member.token).await.expect(200);
    assert_eq!(bench.server.snapshot().agents[0].session, None);
}

#[tokio::test]
async fn a_hardened_creation_is_answered_again_or_takes_over() {
    let bench = Bench::hardened();
    let member = bench.member("a", Flow::V2, Encryption::KeyUnderRsa).await;
    let create = |key: &'static str, owner: &'static str| {
        let request = Request::post("/broker/session").header("idempotency-key", key);
        let request = request.header("authorization", format!("Bearer {}", member.token));
        bench.send(request.body(Body::from(session_of(&member, owner).to_string())).unwrap())
    };
    let read = |answer: &Value| {
        let session: TaskAgentSession = from_value(answer.clone()).unwrap();
        SessionKey::read(&session.encryption_key.unwrap(), member.signer.key(), Digest::Sha1).unwrap()
    };
    let first = create("k", "host (PID: 1)").await.expect(200);
    let again = create("k", "host (PID: 1)").await.expect(200);
    assert_eq!((&again["sessionId"], read(&again)), (&first["sessionId"], read(&first)));
    let next = create("l", "host (PID: 2)").await.expect(200);
    assert_ne!(next["sessionId"], first["sessionId"]);
    create("m", "elsewhere").await.expect_broker_error(409, "");
    let old = first["sessionId"].as_str().unwrap();
    bench
        .get(&format!("/broker/message?sessionId={old}"), &member.token)
        .await
        .expect_broker_error(400, "RunnerSessionInvalid");
    let ends = bench.facts(|fact| match fact {
        Fact::SessionClosed { why, session, .. } => Some((session.to_string(), *why)),
        _ => None,
    });
    assert_eq!(ends, [(old.to_owned(), SessionEnd::Replaced)]);
}

#[tokio::test]
async fn encrypted_messages_can_be_decrypted_by_their_agent() {
    for (encryption, encrypted) in [(Encryption::KeyUnderRsa, true), (Encryption::KeyInClear, false)] {
        let bench = Bench::upstream();
        let member = bench.member("a", Flow::V1, encryption).await;
        let opened = bench.post(SESSIONS, &member.token, session_of(&member, "x")).await.expect(200);
        let opened: TaskAgentSession = from_value(opened).unwrap();
        let key = opened.encryption_key.unwrap();
        assert_eq!(key.encrypted, encrypted);
        let key = SessionKey::read(&key, member.signer.key(), Digest::Sha1).unwrap();
        let job = bench.queue("j");
        let path = format!("{MESSAGES}?sessionId={}", opened.session_id.unwrap());
        let message: TaskAgentMessage = from_value(bench.get(&path, &member.token).await.expect(200)).unwrap();
        assert!(message.iv.is_some() && !message.body.contains("jobId"));
        let body: Value = serde_json::from_str(&key.decrypt(&message).unwrap()).unwrap();
        assert_eq!(body["jobId"], job.to_string());
    }
}

#[tokio::test]
async fn the_housekeeping_ends_sessions_without_anybody_calling() {
    let bench = Bench::upstream();
    bench.v1("a").await;
    let facts = bench.facts.clone();
    let closed = move || facts.0.lock().unwrap().iter().any(|fact| matches!(fact, Fact::SessionClosed { .. }));
    let housekeeping = bench.server.housekeeping();
    let clock = async {
        bench.clock.advance(299);
        tokio::task::yield_now().await;
        assert!(!closed());
        bench.clock.advance(1);
        tokio::task::yield_now().await;
        assert!(closed());
    };
    futures_util::future::select(pin!(housekeeping), pin!(clock)).await;
}
