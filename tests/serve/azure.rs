//! Azure's profile: no broker, a second host, and errors in its own words.

use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::program::Program;

#[tokio::test]
async fn an_agent_finds_its_second_host_and_gets_a_job() {
    let program = Program::start("azure-post-job", &["--jobs", "1"]);
    assert_eq!(program.ready["scenario"], "azure-post-job");
    let client = Client::of(&program.ready);
    let second_host = client.credential("location_url").to_owned() + "_apis/connectionData";
    let told = client.send(Method::GET, &second_host, None, None).await.expect(200);
    assert!(told["locationServiceData"].is_object());
    let token = client.token().await;
    let sessions = client.tenant("/_apis/distributedtask/pools/1/sessions");
    let opened = client.send(Method::POST, &sessions, Some(&token), Some(client.session())).await.expect(200);
    let again = client.send(Method::POST, &sessions, Some(&token), Some(client.session())).await.expect(409);
    assert!(again["typeName"].as_str().unwrap().starts_with("Microsoft.TeamFoundation.DistributedTask"), "{again}");
    let poll = format!(
        "{}?sessionId={}",
        client.tenant("/_apis/distributedtask/pools/1/messages"),
        opened["sessionId"].as_str().unwrap()
    );
    let message = client.send(Method::GET, &poll, Some(&token), None).await.expect(200);
    assert_eq!(message["messageType"], "PipelineAgentJobRequest");
    let flag = client.tenant("/_apis/FeatureFlags/DistributedTask.Agent.EnableProgressiveRetryBackoff");
    assert_eq!(client.send(Method::GET, &flag, Some(&token), None).await.expect(200)["effectiveState"], json!("Off"));
    assert_eq!(program.interrupt("INT").code, Some(0));
}
