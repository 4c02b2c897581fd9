use super::*;

#[tokio::test]
async fn both_ways_of_finding_services_tell_the_same() {
    let bench = Bench::upstream();
    for path in ["/tenant/_apis/", "/tenant/_apis"] {
        let request = Request::options(path).body(Body::empty()).unwrap();
        let found = bench.send(request).await.expect(200);
        assert_eq!(found["count"], 11);
        let sessions =
            found["value"].as_array().unwrap().iter().find(|each| each["resourceName"] == "sessions").unwrap();
        assert_eq!(sessions["id"], "134e239e-2df3-4794-a6f6-24f1f19ec8dc");
    }
    let request = Request::get("/tenant/_apis/connectionData?connectOptions=1&lastChangeId=-1").body(Body::empty());
    let data = bench.send(request.unwrap()).await.expect(200);
    let definitions = data["locationServiceData"]["serviceDefinitions"].as_array().unwrap();
    assert_eq!(definitions.len(), 11);
    assert!(definitions.iter().any(|each| each["identifier"] == "c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7"));
}

#[tokio::test]
async fn unknown_paths_and_methods_have_typed_errors() {
    let bench = Bench::upstream();
    bench.get("/tenant/_apis/nothing", "").await.expect_error(404, "HttpException");
    bench.call(Method::PUT, SESSIONS, "", "").await.expect_error(405, "HttpException");
}

#[tokio::test]
async fn agents_and_pools_can_be_looked_up() {
    let bench = Bench::upstream();
    let (old, new) = (bench.v1("old").await.0, bench.v2("newer").await.0);
    let pools = bench.get("/tenant/_apis/distributedtask/pools", &old.token).await.expect(200);
    assert_eq!((&pools["count"], &pools["value"][0]["id"]), (&json!(1), &json!(1)));
    bench.get("/tenant/_apis/distributedtask/pools/1", &old.token).await.expect(200);
    bench
        .get("/tenant/_apis/distributedtask/pools/9", &old.token)
        .await
        .expect_error(404, "TaskAgentPoolNotFoundException");
    let agents = "/tenant/_apis/distributedtask/pools/1/agents";
    let found = bench.get(&format!("{agents}?agentName=NEWER"), &old.token).await.expect(200);
    assert_eq!(found["count"], 1);
    let properties = &found["value"][0]["properties"];
    assert_eq!(properties["UseV2Flow"], json!({"$type": "System.Boolean", "$value": true}));
    assert_eq!(properties["ServerUrlV2"], json!({"$type": "System.String", "$value": "http://server/broker/"}));
    let mine = bench.get(&format!("{agents}/1"), &old.token).await.expect(200);
    assert_eq!((&mine["name"], &mine["status"]), (&json!("old"), &json!("online")));
    assert_eq!(mine["authorization"]["authorizationUrl"], old.is.authorization_url);
    bench.get(&format!("{agents}/7"), &old.token).await.expect_error(404, "TaskAgentNotFoundException");

    let labelled = json!({"id": 1, "labels": [{"name": "gpu"}]});
    let changed = bench.call(Method::PUT, &format!("{agents}/1"), &old.token, labelled.to_string()).await.expect(200);
    assert_eq!(changed["labels"][0]["name"], "gpu");
    let other = bench.call(Method::PUT, &format!("{agents}/1"), &new.token, labelled.to_string()).await;
    other.expect_error(403, "AccessDeniedException");
}

#[tokio::test]
async fn an_agent_is_added_and_deleted_over_the_wire() {
    let bench = Bench::upstream();
    let agents = "/tenant/_apis/distributedtask/pools/1/agents";
    let key = PrivateKey::generate(576, &mut random(3)).unwrap().public();
    use base64::Engine;
    let number = |bytes| base64::prelude::BASE64_STANDARD.encode(bytes);
    let sent = json!({"name": "x", "authorization": {"publicKey":
        {"exponent": number(key.exponent()), "modulus": number(key.modulus())}}});
    bench.post(agents, "", sent.clone()).await.expect_error(401, "UnauthorizedRequestException");
    let added = bench.post(agents, "admin", sent).await.expect(200);
    assert!(added["authorization"]["clientId"].as_str().unwrap().parse::<Uuid>().is_ok());
    bench.post(agents, "admin", json!({"name": "y"})).await.expect_error(400, "ArgumentNullException");

    let (member, session) = bench.v1("mine").await;
    let path = format!("{agents}/{}", member.is.agent_id);
    bench.delete(&path, &member.token).await.expect(204);
    bench
        .get(&format!("{MESSAGES}?sessionId={session}"), &member.token)
        .await
        .expect_error(401, "UnauthorizedRequestException");
    let refused = bench.ask_for_token(&member, bench.clock.wall()).await.expect(400);
    assert_eq!(refused["error"], "invalid_client");
    assert!(refused["error_description"].as_str().unwrap().contains("was not found or is not medium trust"));
    assert!(bench.server.deregister(member.is.agent_id).is_err());
}

#[tokio::test]
async fn the_administration_queues_lists_and_cancels() {
    let bench = Bench::upstream();
    let jobs = "/squall/admin/jobs";
    bench.post(jobs, "wrong", json!({"name": "j"})).await.expect_error(401, "UnauthorizedRequestException");
    bench.post(jobs, "admin", json!({"name": ""})).await.expect_error(400, "ArgumentNullException");
    let queued = bench.post(jobs, "admin", json!({"name": "j"})).await.expect(201);
    assert!(queued["jobId"].is_string());
    assert_eq!(bench.post(jobs, "admin", json!({"name": "j"})).await.expect(201), queued);
    assert_eq!(bench.get(jobs, "admin").await.expect(200)[0]["phase"], "queued");
    bench.delete(&format!("{jobs}/j"), "admin").await.expect(204);
    bench.delete(&format!("{jobs}/k"), "admin").await.expect_error(404, "TaskAgentJobNotFoundException");
    assert_eq!(bench.get("/squall/admin/snapshot", "admin").await.expect(200)["jobs"][0]["result"], "canceled");
    let bench = Bench::new(Policy::upstream(), |parameters| parameters.admin_token = None);
    bench.get(jobs, "admin").await.expect_error(404, "HttpException");
}
