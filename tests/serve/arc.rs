//! The scale-set service: a session, a message, an acquisition, and the refusals on the way.

use http::Method;
use serde_json::{Value, json};

use crate::client;
use crate::program::Program;

/// A call with a bearer's token, or another scheme's.
async fn call(method: Method, url: &str, token: &str, body: Value) -> client::Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client::send_with(method, url, &[("authorization", token.to_owned())], body).await
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

#[tokio::test]
async fn a_listener_opens_its_session_and_acquires_a_job() {
    let program = Program::start("arc-listener-session", &["--jobs", "1", "--set", "poll-hold=1"]);
    let (url, credentials) = (text(&program.ready["url"]), program.ready["credentials"].clone());
    let organisation = text(&credentials["config_url"]).rsplit('/').next().unwrap().to_owned();
    let registration = format!("{url}/api/v3/orgs/{organisation}/actions/runners/registration-token");
    assert_eq!(call(Method::POST, &registration, "Bearer junk", Value::Null).await.status, 401);
    let bearer = format!("Bearer {}", text(&credentials["token"]));
    let granted = call(Method::POST, &registration, &bearer, Value::Null).await.expect(201);
    let asked = json!({"url": credentials["config_url"], "runner_event": "register"});
    let remote = format!("RemoteAuth {}", text(&granted["token"]));
    let admin = format!("{url}/api/v3/actions/runner-registration");
    let admin = call(Method::POST, &admin, &remote, asked).await.expect(200);
    let token = format!("Bearer {}", text(&admin["token"]));
    let sets = format!("{}/_apis/runtime/runnerscalesets", text(&admin["url"]).trim_end_matches('/'));
    let set = format!("{sets}/{}", credentials["scale_set_id"]);
    let (sessions, version) = (format!("{set}/sessions"), "?api-version=6.0-preview");
    let owner = json!({"ownerName": "listener-1"});
    let session = call(Method::POST, &format!("{sessions}{version}"), &token, owner.clone()).await.expect(200);
    let conflict = call(Method::POST, &format!("{sessions}{version}"), &token, owner).await.expect(409);
    assert!(text(&conflict["typeName"]).contains("RunnerScaleSetSessionConflictException"), "{conflict}");
    let (queue, of_queue) =
        (text(&session["messageQueueUrl"]), format!("Bearer {}", text(&session["messageQueueAccessToken"])));
    assert_eq!(call(Method::GET, &queue, "Bearer junk", Value::Null).await.status, 401);
    let poll = [("authorization", of_queue.clone()), ("x-scalesetmaxcapacity", "3".to_owned())];
    let message = client::send_with(Method::GET, &queue, &poll, String::new()).await.expect(200);
    assert_eq!(message["messageType"], "RunnerScaleSetJobMessages");
    let jobs: Value = serde_json::from_str(&text(&message["body"])).unwrap();
    assert_eq!(jobs[0]["messageType"], "JobAvailable", "{jobs}");
    let acknowledged = format!("{queue}/{}", message["messageId"]);
    assert_eq!(call(Method::DELETE, &acknowledged, &of_queue, Value::Null).await.status, 204);
    let acquire = format!("{set}/acquirejobs{version}");
    let acquired = call(Method::POST, &acquire, &of_queue, json!([jobs[0]["runnerRequestId"]])).await.expect(200);
    assert_eq!(acquired["value"], json!([jobs[0]["runnerRequestId"]]));
    let own = format!("{sessions}/{}{version}", text(&session["sessionId"]));
    assert_eq!(call(Method::DELETE, &own, &token, Value::Null).await.status, 204);
    let ended = program.interrupt("INT");
    assert_eq!((ended.code, &ended.verdict["verdict"]), (Some(0), &json!("pass")), "{}", ended.verdict);
}
