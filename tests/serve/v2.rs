//! The newer protocol: broker and run service.

use http::Method;
use serde_json::{Value, json};
use squall_protocol::distributed_task::cipher::{Digest, SessionKey};
use squall_protocol::distributed_task::wire::{EncryptionKey, TaskAgentMessage};

use crate::SCENARIO;
use crate::client::{Answer, Client};
use crate::program::Program;

pub struct Session {
    pub id: String,
    key: Option<SessionKey>,
}

impl Session {
    pub fn of(client: &Client, opened: &Value) -> Self {
        let key = opened.get("encryptionKey").filter(|key| !key.is_null()).map(|key| {
            let key: EncryptionKey = serde_json::from_value(key.clone()).unwrap();
            SessionKey::read(&key, &client.key, Digest::of(false)).unwrap()
        });
        Self { id: opened["sessionId"].as_str().unwrap().to_owned(), key }
    }

    /// The body of a message.
    pub fn read(&self, message: &Value) -> Value {
        let message: TaskAgentMessage = serde_json::from_value(message.clone()).unwrap();
        assert_eq!(message.iv.is_some(), self.key.is_some());
        let body = self.key.as_ref().map_or(message.body.clone(), |key| key.decrypt(&message).unwrap());
        serde_json::from_str(&body).unwrap()
    }
}

pub async fn open(client: &Client, token: &str) -> Session {
    let url = format!("{}session", client.broker());
    let opened = client.send(Method::POST, &url, Some(token), Some(client.session())).await.expect(200);
    Session::of(client, &opened)
}

/// The next job, acknowledged and acquired.
pub async fn acquire(client: &Client, token: &str, session: &Session) -> Value {
    let (broker, session_id) = (client.broker(), &session.id);
    let poll = format!("{broker}message?sessionId={session_id}&status=Online&runnerVersion=3.0.0&disableUpdate=true");
    let message = client.send(Method::GET, &poll, Some(token), None).await.expect(200);
    assert_eq!(message["messageType"], "RunnerJobRequest");
    let reference = session.read(&message);
    let request = &reference["runner_request_id"];
    let acknowledge = format!("{broker}acknowledge?sessionId={session_id}&status=Online");
    let body = json!({"runnerRequestId": request});
    client.send(Method::POST, &acknowledge, Some(token), Some(body)).await.expect(200);
    let acquire = format!("{}acquirejob", reference["run_service_url"].as_str().unwrap());
    let body = json!({"jobMessageId": request, "runnerOS": "Linux"});
    let job = client.send(Method::POST, &acquire, Some(token), Some(body)).await.expect(200);
    assert_eq!(job["resources"]["endpoints"][0]["url"], reference["run_service_url"]);
    job
}

/// Calls the run service about a job, with the job's own token.
async fn call(client: &Client, job: &Value, what: &str, more: Value) -> Answer {
    let mut body = json!({"planId": job["plan"]["planId"], "jobId": job["jobId"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let endpoint = &job["resources"]["endpoints"][0];
    let url = format!("{}{what}", endpoint["url"].as_str().unwrap());
    let token = endpoint["authorization"]["parameters"]["AccessToken"].as_str();
    client.send(Method::POST, &url, token, Some(body)).await
}

pub async fn complete(client: &Client, job: &Value, conclusion: &str) -> Answer {
    call(client, job, "completejob", json!({"conclusion": conclusion, "outputs": {}, "stepResults": []})).await
}

#[tokio::test]
async fn a_job_is_acquired_renewed_and_completed() {
    let program = Program::start(SCENARIO, &["--jobs", "1"]);
    let client = Client::of(&program.ready);
    let token = client.token().await;
    let session = open(&client, &token).await;
    let job = acquire(&client, &token, &session).await;
    assert_eq!((&job["jobName"], &job["messageType"]), (&json!("job-1"), &json!("RunnerJobRequest")));
    assert!(call(&client, &job, "renewjob", json!({})).await.expect(200)["lockedUntil"].is_string());
    complete(&client, &job, "succeeded").await.expect(200);
    assert_eq!(client.jobs().await[0]["phase"], "closed");
    let url = format!("{}session?sessionId={}", client.broker(), session.id);
    client.send(Method::DELETE, &url, Some(&token), None).await.expect(200);
    let ended = program.interrupt("INT");
    assert_eq!((ended.code, &ended.verdict["verdict"]), (Some(0), &json!("pass")));
}
