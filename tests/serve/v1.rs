//! The older protocol: pools, plans and timelines.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use crate::SCENARIO;
use crate::client::Client;
use crate::program::Program;
use crate::v2::Session;

const SESSIONS: &str = "134e239e-2df3-4794-a6f6-24f1f19ec8dc";
const MESSAGES: &str = "c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7";
const JOB_REQUESTS: &str = "fc825784-c92a-4299-9221-998a02d1b54f";
const PLAN_EVENTS: &str = "557624af-b29e-4c20-8ab0-0399d2204f3f";
const TIMELINE_RECORDS: &str = "8893bc5b-35b2-4be7-83cb-99e683551db4";
const FEED: &str = "858983e4-19bd-4c5e-864c-507b59b58b12";
const LOGS: &str = "46f5667d-263a-4684-91b1-dff7fdcf64e2";
/// Any will do: the service keeps no records.
const RECORD: &str = "11111111-2222-3333-4444-555555555555";

/// A runner with a session.
struct Runner {
    client: Client,
    locations: BTreeMap<String, String>,
    token: String,
    session: Session,
}

impl Runner {
    async fn start(program: &Program) -> Self {
        let client = Client::of(&program.ready);
        let (locations, token) = (client.locations().await, client.token().await);
        let url = client.tenant(&format!("/{}", path(&locations[SESSIONS], &[("poolId", &json!(1))])));
        let opened = client.send(Method::POST, &url, Some(&token), Some(client.session())).await.expect(200);
        assert_eq!(opened["encryptionKey"]["encrypted"], true);
        let again = client.send(Method::POST, &url, Some(&token), Some(client.session())).await.expect(409);
        assert_eq!(again["typeKey"], "TaskAgentSessionConflictException");
        let session = Session::of(&client, &opened);
        Self { client, locations, token, session }
    }

    fn url(&self, id: &str, parameters: &[(&str, &Value)], query: &str) -> String {
        self.client.tenant(&format!("/{}{query}", path(&self.locations[id], parameters)))
    }

    /// The next job, its message deleted and its lease renewed once.
    async fn job(&self) -> Value {
        let pool = ("poolId", &json!(1));
        let query = format!("?sessionId={}&status=Online&api-version=5.1-preview", self.session.id);
        let poll = self.url(MESSAGES, &[pool], &query);
        let message = self.client.send(Method::GET, &poll, Some(&self.token), None).await.expect(200);
        assert_eq!(message["messageType"], "PipelineAgentJobRequest");
        let delete = self.url(MESSAGES, &[pool, ("messageId", &message["messageId"])], &query);
        self.client.send(Method::DELETE, &delete, Some(&self.token), None).await.expect(204);
        let job = self.session.read(&message);
        let renewed = self.patch(&job, json!({"requestId": job["requestId"]})).await;
        assert!(renewed["lockedUntil"].is_string());
        job
    }

    /// Changes the request for a job.
    async fn patch(&self, job: &Value, body: Value) -> Value {
        let request = [("poolId", &json!(1)), ("requestId", &job["requestId"])];
        let url = self.url(JOB_REQUESTS, &request, "?lockToken=00000000-0000-0000-0000-000000000000");
        self.client.send(Method::PATCH, &url, Some(&self.token), Some(body)).await.expect(200)
    }

    /// The URL of something of a job's plan.
    fn of_plan(&self, id: &str, job: &Value, more: &[(&str, &Value)]) -> String {
        let plan = &job["plan"];
        let mut parameters = vec![
            ("scopeIdentifier", &plan["scopeIdentifier"]),
            ("hubName", &plan["planType"]),
            ("planId", &plan["planId"]),
            ("timelineId", &job["timeline"]["id"]),
        ];
        parameters.extend(more);
        self.url(id, &parameters, "")
    }

    /// What a worker tells of its job.
    async fn tell(&self, job: &Value) {
        let token = token_of(job);
        let record = json!({"id": job["jobId"], "type": "Job", "name": "j", "state": "inProgress", "order": 1});
        let records = self.of_plan(TIMELINE_RECORDS, job, &[]);
        let sent = json!({"count": 1, "value": [record]});
        assert_eq!(self.client.send(Method::PATCH, &records, token, Some(sent)).await.expect(200)["count"], 1);
        let feed = self.of_plan(FEED, job, &[("recordId", &json!(RECORD))]);
        let lines = json!({"stepId": RECORD, "count": 1, "value": ["hello"]});
        self.client.send(Method::POST, &feed, token, Some(lines)).await.expect(200);
        let logs = self.of_plan(LOGS, job, &[]);
        let log = self.client.send(Method::POST, &logs, token, Some(json!({"path": "logs/1"}))).await.expect(200);
        let append = self.of_plan(LOGS, job, &[("logId", &log["id"])]);
        let appended = self.client.send_bytes(&append, token.unwrap(), "one\ntwo\n").await.expect(200);
        assert_eq!(appended["lineCount"], 2);
    }

    async fn results(&self) -> Vec<Value> {
        self.client.jobs().await.iter().map(|job| job["result"].clone()).collect()
    }

    async fn stop(self) {
        let session = json!(self.session.id);
        let url = self.url(SESSIONS, &[("poolId", &json!(1)), ("sessionId", &session)], "");
        self.client.send(Method::DELETE, &url, Some(&self.token), None).await.expect(204);
    }
}

/// The job's own token.
fn token_of(job: &Value) -> Option<&str> {
    job["resources"]["endpoints"][0]["authorization"]["parameters"]["AccessToken"].as_str()
}

/// Fills a template; a parameter without a value disappears with its slash.
fn path(template: &str, parameters: &[(&str, &Value)]) -> String {
    let parts =
        template.split('/').filter_map(|part| match part.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            None => Some(part.to_owned()),
            Some(name) => {
                let value = parameters.iter().find(|(known, _)| *known == name)?.1;
                Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            }
        });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn a_job_ends_by_an_event_of_its_plan_and_by_its_request() {
    let program = Program::start(SCENARIO, &["--jobs", "2"]);
    let runner = Runner::start(&program).await;

    let job = runner.job().await;
    runner.tell(&job).await;
    let event = json!({"name": "JobCompleted", "jobId": job["jobId"], "requestId": job["requestId"],
                       "result": "Succeeded", "outputs": {}});
    let events = runner.of_plan(PLAN_EVENTS, &job, &[]);
    runner.client.send(Method::POST, &events, token_of(&job), Some(event)).await.expect(200);
    assert_eq!(runner.results().await, [json!("succeeded"), Value::Null]);

    let job = runner.job().await;
    let finish =
        json!({"requestId": job["requestId"], "finishTime": "2026-01-02T03:04:05.1234567Z", "result": "failed"});
    assert!(runner.patch(&job, finish).await["finishTime"].is_string());
    assert_eq!(runner.results().await, ["succeeded", "failed"]);

    runner.stop().await;
    let ended = program.interrupt("TERM");
    assert_eq!((ended.code, &ended.verdict["verdict"]), (Some(0), &json!("pass")));
    assert_eq!(ended.verdict["invariants"]["one-result-reported"], 2);
}
