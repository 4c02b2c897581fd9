//! The router driven in-process by raw requests, in virtual time.

mod garbage;

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::arc::Choices;
use crate::arc::testing::{Room, SET};
use crate::effect::{OnEffect, counted};
use crate::facts::Fact;
use crate::session::ConflictExtends;
use crate::virtual_clock::secs;

const SETS: &str = "/tenant/_apis/runtime/runnerscalesets";

fn room(change: impl FnOnce(&mut Parameters)) -> Room {
    Room::new(&Choices::upstream(), change)
}

async fn open(room: &Room, admin: &str) -> crate::arc::testing::Answer {
    let path = format!("{SETS}/{}/sessions", room.set);
    room.call(Method::POST, &path, admin, json!({"ownerName": "me"}).to_string()).await
}

/// The authorization header of a session's queue, and the queue's path.
fn queue(session: &Value) -> (String, String) {
    let token = format!("Bearer {}", session["messageQueueAccessToken"].as_str().unwrap());
    let url = session["messageQueueUrl"].as_str().unwrap();
    (token, url.strip_prefix("http://service").unwrap().to_owned())
}

#[test]
fn a_session_is_opened_refreshed_and_deleted() {
    let room = room(|_| ());
    room.run(async {
        let admin = room.admin().await;
        let session = open(&room, &admin).await.expect(200);
        assert_eq!((&session["ownerName"], &session["statistics"]["totalAssignedJobs"]), (&json!("me"), &json!(0)));
        open(&room, &admin).await.expect_error(409, "RunnerScaleSetSessionConflictException");
        let path = format!("{SETS}/{}/sessions/{}", room.set, session["sessionId"].as_str().unwrap());
        let again = room.call(Method::PATCH, &path, &admin, "").await.expect(200);
        assert_ne!(again["messageQueueAccessToken"], session["messageQueueAccessToken"]);
        room.call(Method::DELETE, &path, &admin, "").await.expect(204);
        room.call(Method::DELETE, &path, &admin, "").await.expect_error(400, "RunnerScaleSetSessionExpiredException");
        room.call(Method::PATCH, &path, &admin, "").await.expect_error(404, "RunnerAdminException");
        let (token, queue) = queue(&session);
        room.call(Method::GET, &queue, &token, "").await.expect_error(401, "Unauthorized");
        open(&room, &admin).await.expect(200);
        let nobody = format!("{SETS}/999/sessions");
        room.call(Method::POST, &nobody, &admin, "{}").await.expect_error(404, "RunnerScaleSetNotFoundException");
    });
    assert_eq!(room.count(|fact| matches!(fact, Fact::SessionConflict { .. })), 1);
}

#[test]
fn a_session_expires_when_nobody_refreshes_it_and_a_refusal_may_extend_it() {
    for (extends, status) in [(ConflictExtends::Nothing, 200), (ConflictExtends::LiveSession, 409)] {
        let room = room(|parameters| parameters.conflict_extends = extends);
        room.run(async {
            let admin = room.admin().await;
            open(&room, &admin).await.expect(200);
            room.clock.sleep(secs(200)).await;
            open(&room, &admin).await.expect(409);
            room.clock.sleep(secs(200)).await;
            open(&room, &admin).await.expect(status);
        });
    }
}

#[test]
fn a_message_comes_again_until_it_is_deleted_and_its_jobs_are_acquired_once() {
    let room = room(|_| ());
    room.run(async {
        let admin = room.admin().await;
        let session = open(&room, &admin).await.expect(200);
        let (token, queue) = queue(&session);
        let poll = |last: u64| {
            let path = if last > 0 { format!("{queue}?lastMessageId={last}") } else { queue.clone() };
            let (room, token) = (&room, &token);
            async move { room.call(Method::GET, &path, token, "").await }
        };
        let before = room.clock.now();
        poll(0).await.expect(202);
        assert_eq!(room.clock.now() - before, secs(50));
        room.server.queue_job("job-1", SET);
        let message = poll(0).await.expect(200);
        assert_eq!(message["messageType"], "RunnerScaleSetJobMessages");
        let jobs: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
        assert_eq!((&jobs[0]["messageType"], &jobs[0]["jobDisplayName"]), (&json!("JobAvailable"), &json!("job-1")));
        assert_eq!(poll(0).await.expect(200)["messageId"], message["messageId"]);
        let request = &jobs[0]["runnerRequestId"];
        let acquire = format!("{SETS}/{}/acquirejobs", room.set);
        for _ in 0..2 {
            let acquired =
                room.call(Method::POST, &acquire, &token, json!([request, 999]).to_string()).await.expect(200);
            assert_eq!(acquired, json!({"count": 1, "value": [request]}));
        }
        let next = poll(1).await.expect(200);
        assert_eq!(next["statistics"]["totalAssignedJobs"], 1);
        room.call(Method::DELETE, &format!("{queue}/1"), &token, "").await.expect(204);
        room.call(Method::DELETE, &format!("{queue}/1"), &token, "").await.expect_error(404, "MessageNotFound");
    });
    assert_eq!(room.count(|fact| matches!(fact, Fact::JobOffered { .. })), 1);
    assert_eq!(room.count(|fact| matches!(fact, Fact::MessageAcked { .. })), 1);
}

#[test]
fn messages_lack_their_statistics_for_a_while() {
    let room = room(|_| ());
    room.run(async {
        let admin = room.admin().await;
        let session = open(&room, &admin).await.expect(200);
        let (token, queue) = queue(&session);
        let (told, on_effect) = counted();
        room.server.lose_statistics(secs(60), on_effect);
        room.server.queue_job("job-1", SET);
        assert_eq!(told(), 0);
        for (wait, lacks, told_then) in [(0, true, 1), (59, true, 2), (1, false, 2)] {
            room.clock.sleep(secs(wait)).await;
            let message = room.call(Method::GET, &queue, &token, "").await.expect(200);
            assert_eq!((message["statistics"].is_null(), told()), (lacks, told_then));
        }
    });
}

#[test]
fn tokens_have_lives_of_their_own() {
    let room = room(|parameters| {
        (parameters.queue_token_life, parameters.admin_token_life) = (secs(100), secs(200));
    });
    room.run(async {
        let admin = room.admin().await;
        let session = open(&room, &admin).await.expect(200);
        let (token, queue) = queue(&session);
        room.clock.sleep(secs(101)).await;
        room.call(Method::GET, &queue, &token, "").await.expect_error(401, "Unauthorized");
        let path = format!("{SETS}/{}/sessions/{}", room.set, session["sessionId"].as_str().unwrap());
        room.call(Method::PATCH, &path, &admin, "").await.expect(200);
        room.clock.sleep(secs(100)).await;
        room.call(Method::PATCH, &path, &admin, "").await.expect_error(401, "Unauthorized");
        assert_eq!(crate::jwt::expiry(&admin[7..]).unwrap(), room.clock.wall() - secs(1));
        room.server.refuse_credential(crate::arc::testing::CREDENTIAL, secs(10), OnEffect::untold());
        let path = "/api/v3/orgs/org/actions/runners/registration-token";
        let refused = room.call(Method::POST, path, "Bearer ghp_set", "").await.expect(401);
        assert_eq!(refused["message"], "Bad credentials");
    });
}

#[test]
fn scale_sets_and_runners_are_found_made_and_deleted() {
    let room = room(|_| ());
    room.run(async {
        let admin = room.admin().await;
        let call = |method, path: String, body: &'static str| {
            let (room, admin) = (&room, &admin);
            async move { room.call(method, &path, admin, body).await }
        };
        let found = call(Method::GET, format!("{SETS}?runnerGroupId=1&name={SET}"), "").await.expect(200);
        assert_eq!((&found["count"], &found["value"][0]["id"]), (&json!(1), &json!(room.set)));
        let made = call(Method::POST, SETS.into(), r#"{"name":"other"}"#).await.expect(200);
        assert_eq!(made["labels"][0]["name"], "other");
        call(Method::POST, SETS.into(), r#"{"name":"other"}"#).await.expect_error(409, "RunnerScaleSetExists");
        let one = format!("{SETS}/{}", made["id"]);
        call(Method::PATCH, one.clone(), r#"{"RunnerSetting":{"disableUpdate":true}}"#).await.expect(200);
        assert_eq!(call(Method::GET, one.clone(), "").await.expect(200)["RunnerSetting"]["disableUpdate"], true);
        let jit = format!("{one}/generatejitconfig");
        let config = call(Method::POST, jit.clone(), r#"{"name":"r-1"}"#).await.expect(200);
        call(Method::POST, jit, r#"{"name":"r-1"}"#).await.expect_error(409, "AgentExistsException");
        let agents = "/tenant/_apis/distributedtask/pools/0/agents";
        let listed = call(Method::GET, format!("{agents}?agentName=r-1"), "").await.expect(200);
        assert_eq!(listed["value"][0], config["runner"]);
        let runner = format!("{agents}/{}", config["runner"]["id"]);
        call(Method::DELETE, runner.clone(), "").await.expect(204);
        call(Method::GET, runner, "").await.expect_error(404, "AgentNotFoundException");
        call(Method::DELETE, one.clone(), "").await.expect(204);
        call(Method::GET, one, "").await.expect_error(404, "RunnerScaleSetNotFoundException");
        let groups = call(Method::GET, "/tenant/_apis/runtime/runnergroups/?groupName=default".into(), "").await;
        assert_eq!(groups.expect(200)["value"][0]["isDefaultGroup"], true);
    });
}

#[test]
fn a_job_that_no_runner_takes_is_queued_again_and_given_up_at_last() {
    let room = room(|parameters| parameters.assignment = Assignment::Automatic);
    room.run(async {
        let admin = room.admin().await;
        let session = open(&room, &admin).await.expect(200);
        let (token, queue) = queue(&session);
        room.server.queue_job("job-1", SET);
        for message in 0..30 {
            room.call(Method::GET, &format!("{queue}?lastMessageId={message}"), &token, "").await;
        }
    });
    assert_eq!(room.count(|fact| matches!(fact, Fact::JobRequeued { .. })), 3);
    assert_eq!(room.count(|fact| matches!(fact, Fact::JobGivenUp { attempt: 4, .. })), 1);
}

#[test]
fn a_runner_takes_a_job_reports_it_and_is_gone() {
    let room = room(|parameters| parameters.assignment = Assignment::Automatic);
    room.run(async {
        let admin = room.admin().await;
        let session = open(&room, &admin).await.expect(200);
        let (token, queue) = queue(&session);
        room.server.queue_job("job-1", SET);
        let runner = room.server.register_runner(SET, "r-1").unwrap();
        room.call(Method::GET, &queue, &token, "").await.expect(200);
        assert_eq!(room.server.take_job(runner).await, Some(Taken { job: "job-1".into(), attempt: 1 }));
        assert!(!room.server.remove_runner("r-1"));
        room.server.complete(runner, Outcome::Succeeded);
        let told = room.call(Method::GET, &format!("{queue}?lastMessageId=1"), &token, "").await.expect(200);
        let jobs: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
        let kinds: Vec<&str> =
            jobs.as_array().unwrap().iter().map(|job| job["messageType"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["JobStarted", "JobCompleted"]);
        assert_eq!(jobs[1]["result"], "succeeded");
        assert_eq!(room.server.take_job(runner).await, None);
    });
    assert_eq!(room.count(|fact| matches!(fact, Fact::JobReported { accepted: true, .. })), 1);
}
