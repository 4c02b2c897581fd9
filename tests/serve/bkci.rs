//! BK-CI's server: an agent starts, asks, is given a build and works through it, each call on the wire.

use http::Method;
use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::program::Program;

const STARTUP: &str = "/ms/environment/api/buildAgent/agent/thirdPartyAgent/startup";
const ASK: &str = "/ms/dispatch/api/buildAgent/agent/thirdPartyAgent/ask";
const FINISH: &str = "/ms/dispatch/api/buildAgent/agent/thirdPartyAgent/workerBuildFinish";
const WORKER: &str = "/ms/process/api/build/worker";

/// What an agent or one of its workers calls with.
struct Agent {
    gateway: String,
    headers: Vec<(&'static str, String)>,
}

impl Agent {
    fn of(ready: &Value) -> Self {
        let credential = |name: &str| ready["credentials"][name].as_str().unwrap().to_owned();
        let headers = vec![
            ("X-DEVOPS-BUILD-TYPE", credential("build_type")),
            ("X-DEVOPS-PROJECT-ID", credential("project_id")),
            ("X-DEVOPS-AGENT-ID", credential("agent_id")),
            ("X-DEVOPS-AGENT-SECRET-KEY", credential("secret_key")),
        ];
        Self { gateway: credential("gateway"), headers }
    }

    /// The same with another value of a header, or with one more.
    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value.to_owned()));
        Self { gateway: self.gateway.clone(), headers }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        client::send_with(method, &format!("{}{path}", self.gateway), &self.headers, body).await
    }

    async fn ask(&self) -> Value {
        let asked = json!({
            "askEnable": {"build": "ALL", "upgrade": false, "dockerDebug": false, "pipeline": false},
            "heartbeat": {"masterVersion": "v1.0.0", "slaveVersion": "1.0.0", "hostName": "agent-1",
                          "agentIp": "10.0.0.1", "parallelTaskCount": 1, "taskList": []},
        });
        self.call(Method::POST, ASK, asked).await.expect(200)
    }

    /// Asks until there is a build; the engine needs a moment to dispatch one.
    async fn build(&self) -> Value {
        for _ in 0..200 {
            let answer = self.ask().await;
            assert_eq!((&answer["status"], &answer["agentStatus"]), (&json!(0), &json!("IMPORT_OK")), "{answer}");
            if !answer["data"]["build"].is_null() {
                return answer["data"]["build"].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("no build came");
    }
}

#[tokio::test]
async fn an_agent_is_given_a_build_and_works_through_it() {
    let program = Program::start("bkci-agent-reuse", &["--jobs", "1"]);
    let agent = Agent::of(&program.ready);
    let start = json!({"hostname": "agent-1", "hostIp": "10.0.0.1", "detectOS": "linux",
                       "masterVersion": "v1.0.0", "version": "1.0.0"});
    assert_eq!(agent.call(Method::POST, STARTUP, start).await.expect(200)["data"], true);
    let build = agent.build().await;
    assert_eq!(
        (&build["buildId"], &build["projectId"], &build["executeCount"]),
        (&json!("job-1"), &json!("squall"), &json!(1))
    );
    let seq = build["vmSeqId"].as_str().unwrap();
    let worker = agent.with("X-DEVOPS-BUILD-ID", "job-1").with("X-DEVOPS-VM-SID", seq);
    let call = |method, path: &'static str, body| {
        let worker = &worker;
        async move { worker.call(method, &format!("{WORKER}{path}"), body).await }
    };
    let started = call(Method::PUT, "/started", Value::Null).await.expect(200);
    assert_eq!((&started["data"]["buildId"], &started["data"]["vmSeqId"]), (&json!("job-1"), &json!(seq)));
    // Only the first start of a worker is one (`buildVMStarted`).
    assert_eq!(call(Method::PUT, "/started", Value::Null).await.expect(500)["status"], 2_101_255);
    let beat = call(Method::POST, "/heartbeat/v1", Value::Null).await.expect(200);
    assert_eq!((&beat["data"]["buildId"], &beat["data"]["cancelTaskIds"]), (&json!("job-1"), &Value::Null));
    let task = call(Method::GET, "/claim", Value::Null).await.expect(200)["data"].clone();
    assert_eq!((&task["status"], &task["buildId"]), (&json!("DO"), &json!("job-1")), "{task}");
    let done = json!({"taskId": task["taskId"], "elementId": task["elementId"], "success": true, "buildResult": {}});
    assert_eq!(call(Method::POST, "/complete", done).await.expect(200)["data"], true);
    assert_eq!(call(Method::GET, "/claim", Value::Null).await.expect(200)["data"]["status"], "END");
    assert_eq!(call(Method::POST, "/end", Value::Null).await.expect(200)["data"], true);
    let mut finished = build.clone();
    finished["success"] = json!(true);
    assert_eq!(agent.call(Method::POST, FINISH, finished).await.expect(200)["data"], true);
    assert!(agent.ask().await["data"]["build"].is_null(), "there is no second one");
    // What comes after the end is refused by the number of a build that has ended.
    assert_eq!(call(Method::POST, "/end", Value::Null).await.expect(500)["status"], 2_101_182);
    let ended = program.interrupt("INT");
    assert_eq!((ended.code, &ended.verdict["verdict"]), (Some(0), &json!("pass")), "{}", ended.verdict);
    // The build, and its one job.
    assert_eq!(ended.verdict["invariants"]["queued-job-ends"], 2);
}

#[tokio::test]
async fn strangers_are_refused_and_a_deleted_agent_is_told_so() {
    let program = Program::start("bkci-agent-reuse", &["--jobs", "1"]);
    let agent = Agent::of(&program.ready);
    let wrong = agent.with("X-DEVOPS-AGENT-SECRET-KEY", "wrong");
    assert_eq!(wrong.call(Method::POST, STARTUP, json!({})).await.expect(403)["status"], 403);
    assert_eq!(agent.call(Method::POST, STARTUP, json!({"hostname": 7})).await.expect(400)["status"], 400);
    // An agent that is not known is one that was deleted: it is to uninstall itself.
    assert_eq!(agent.with("X-DEVOPS-AGENT-ID", "agent-9").ask().await["agentStatus"], "DELETE");
    let worker = agent.with("X-DEVOPS-BUILD-ID", "job-1").with("X-DEVOPS-VM-SID", "1");
    let early = worker.call(Method::PUT, &format!("{WORKER}/started"), Value::Null).await;
    assert_eq!(early.expect(403)["status"], 403, "it was not given the build");
    assert_eq!(agent.call(Method::GET, "/ms/nowhere", Value::Null).await.expect(404)["status"], 404);
    assert_eq!(program.interrupt("TERM").code, Some(0));
}
