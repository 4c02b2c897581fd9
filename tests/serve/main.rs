//! `squall serve`: the real program on a real port, and clients that know nothing but its ready line and the wire.
#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "clients of a real server run on real tokio, in real time")]

mod arc;
mod azure;
mod bkci;
mod client;
mod flox;
#[path = "../program/mod.rs"]
mod program;
mod v1;
mod v2;

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use self::client::Client;
use self::program::Program;

const SCENARIO: &str = "actions-idle-runner";

#[tokio::test]
async fn the_ready_line_names_everything() {
    let program = Program::start(SCENARIO, &["--jobs", "2"]);
    let ready = &program.ready;
    assert_eq!((&ready["ready"], &ready["scenario"]), (&json!(true), &json!("actions-idle-runner")));
    let (url, credentials) = (ready["url"].as_str().unwrap(), &ready["credentials"]);
    for field in ["tenant_url", "server_url_v2", "authorization_url"] {
        assert!(credentials[field].as_str().unwrap().starts_with(url), "{field}");
    }
    assert!(credentials["private_key_pem"].as_str().unwrap().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    assert_eq!((&credentials["pool_id"], &credentials["agent_id"]), (&json!(1), &json!(1)));
    assert_eq!(credentials["agent_name"], "runner-1");
    let client = Client::of(ready);
    let names: Vec<_> = client.jobs().await.iter().map(|job| job["name"].clone()).collect();
    assert_eq!(names, ["job-1", "job-2"]);
    assert_eq!(client.administer(Method::POST, "/jobs", Some(json!({"name": "job-3"}))).await.status, 201);
    assert_eq!(client.administer(Method::DELETE, "/jobs/job-1", None).await.status, 204);
    let ended = program.interrupt("INT");
    assert_eq!((ended.code, &ended.verdict["verdict"]), (Some(0), &json!("pass")));
    // The one that was cancelled has ended; the others wait, and may for a while.
    assert_eq!(ended.verdict["invariants"]["queued-job-ends"], 1);
}

#[tokio::test]
async fn only_who_has_a_token_gets_in() {
    let program = Program::start(SCENARIO, &[]);
    let client = Client::of(&program.ready);
    let junk = "grant_type=client_credentials&client_assertion=junk&client_assertion_type=x";
    let refused = client.form(junk).await;
    assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("invalid_client")));
    let sessions = client.tenant("/_apis/distributedtask/pools/1/sessions");
    for token in [None, Some("junk")] {
        assert_eq!(client.send(Method::POST, &sessions, token, Some(json!({}))).await.status, 401);
    }
    let admin = format!("{}/jobs", program.ready["admin"]["url"].as_str().unwrap());
    assert_eq!(client.send(Method::GET, &admin, None, None).await.status, 401);
    assert_eq!(program.interrupt("INT").code, Some(0));
}

#[tokio::test]
async fn the_end_does_not_wait_for_polls() {
    let program = Program::start(SCENARIO, &[]);
    let client = Client::of(&program.ready);
    let token = client.token().await;
    let session = v2::open(&client, &token).await;
    let poll = format!("{}message?sessionId={}&status=Online", client.broker(), session.id);
    let polling = tokio::spawn(async move { client.try_send(Method::GET, &poll, Some(&token), None).await.is_some() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    let ended = tokio::task::spawn_blocking(move || program.interrupt("TERM")).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(0));
    assert!(!polling.await.unwrap(), "the poll was cut off");
}

#[tokio::test]
async fn an_attempt_with_two_results_is_a_violation() {
    let program = Program::start(SCENARIO, &["--jobs", "1", "--encryption", "plain"]);
    let client = Client::of(&program.ready);
    let token = client.token().await;
    let session = v2::open(&client, &token).await;
    let job = v2::acquire(&client, &token, &session).await;
    assert_eq!(v2::complete(&client, &job, "succeeded").await.status, 200);
    assert_eq!(v2::complete(&client, &job, "failed").await.status, 404);
    let ended = program.interrupt("INT");
    assert_eq!((ended.code, &ended.verdict["fingerprint"]), (Some(1), &json!("one-result-reported/job")));
}

#[tokio::test]
async fn the_journal_is_there_as_it_happens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let program =
        Program::start(SCENARIO, &["--jobs", "1", "--encryption", "key-in-clear", "--journal", path.to_str().unwrap()]);
    let client = Client::of(&program.ready);
    let token = client.token().await;
    let session = v2::open(&client, &token).await;
    let job = v2::acquire(&client, &token, &session).await;
    assert_eq!(v2::complete(&client, &job, "succeeded").await.status, 200);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let facts: Vec<_> = lines.iter().map(|line| line["fact"].as_str().unwrap()).collect();
    for fact in ["job_queued", "session_opened", "job_offered", "message_delivered", "lease_granted", "job_reported"] {
        assert!(facts.contains(&fact), "{fact}: {facts:?}");
    }
    assert!((1..).zip(&lines).all(|(n, line)| line["seq"] == n), "{text}");
    assert!(lines.iter().all(|line| line["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok()), "{text}");
    let ended = program.interrupt("INT");
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.verdict["facts"], std::fs::read_to_string(&path).unwrap().lines().count());
}
