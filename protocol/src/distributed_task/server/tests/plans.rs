use super::*;

/// A V1 job in its agent's hands: the base path of its plan, its message, its token.
async fn running(bench: &Bench) -> (String, Value, String) {
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    let message = bench.get(&format!("{MESSAGES}?sessionId={session}"), &member.token).await.expect(200);
    let job: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
    let path = format!("{REQUESTS}/1");
    bench.call(Method::PATCH, &path, &member.token, "{}").await.expect(200);
    let plan = job["plan"]["planId"].as_str().unwrap();
    let scope = job["plan"]["scopeIdentifier"].as_str().unwrap();
    let base = format!("/tenant/{scope}/_apis/distributedtask/hubs/actions/plans/{plan}");
    let parameters = &job["resources"]["endpoints"][0]["authorization"]["parameters"];
    let token = parameters["AccessToken"].as_str().unwrap().to_owned();
    (base, job, token)
}

#[tokio::test]
async fn the_event_of_its_end_closes_a_job() {
    let bench = Bench::upstream();
    let (base, job, token) = running(&bench).await;
    let events = format!("{base}/events");
    let ended = json!({"Name": "JobCompleted", "JobID": job["jobId"], "RequestID": 1, "Result": "Succeeded"});
    bench.post(&events, &token, json!({"name": "JobStarted", "jobId": job["jobId"]})).await.expect(200);
    assert_eq!(bench.phase(0), "leased");
    let stranger = json!({"name": "JobCompleted", "jobId": Uuid::nil().to_string(), "result": "failed"});
    bench.post(&events, &token, stranger).await.expect_error(404, "TaskAgentJobNotFoundException");
    bench.post(&events, &token, ended.clone()).await.expect(200);
    assert_eq!(bench.phase(0), "closed");
    bench.post(&events, &token, ended).await.expect_error(400, "TaskOrchestrationPlanTerminatedException");
}

#[tokio::test]
async fn timelines_consoles_and_logs_are_taken() {
    let bench = Bench::upstream();
    let (base, job, token) = running(&bench).await;
    let timeline = job["timeline"]["id"].as_str().unwrap();
    let record = Uuid::from_u128(5);
    let records = format!("{base}/timelines/{timeline}/records");
    let sent = json!({"Count": 1, "Value": [{"ID": record, "Name": "x", "StartTime": "2023-11-14T22:13:20", "State": "InProgress"}]});
    let taken = bench.call(Method::PATCH, &records, &token, sent.to_string()).await.expect(200);
    assert_eq!((&taken["count"], &taken["value"][0]["name"]), (&json!(1), &json!("x")));
    let lines = json!({"count": 1, "value": ["hello"], "stepId": record});
    bench.post(&format!("{records}/{record}/feed"), &token, lines).await.expect(200);
    let log = bench.post(&format!("{base}/logs"), &token, json!({"path": "logs/x"})).await.expect(200);
    assert_eq!((&log["id"], &log["path"]), (&json!(1), &json!("logs/x")));
    let appended = bench.call(Method::POST, &format!("{base}/logs/1"), &token, "a\nb\n").await.expect(200);
    assert_eq!(appended["lineCount"], 2);
    let missing = bench.call(Method::POST, &format!("{base}/logs/2"), &token, "a").await;
    missing.expect_error(404, "TaskOrchestrationPlanLogNotFoundException");
}

#[tokio::test]
async fn a_plan_must_exist_and_be_the_token_s() {
    let bench = Bench::upstream();
    let (base, job, token) = running(&bench).await;
    let plan = job["plan"]["planId"].as_str().unwrap();
    let nowhere = format!("{}/events", base.replace(plan, &Uuid::nil().to_string()));
    bench.post(&nowhere, &token, json!({})).await.expect_error(404, "TaskOrchestrationPlanNotFoundException");
    bench.queue("k");
    let (other, session) = bench.v2("bb").await;
    let reference = bench.reference(&other, session).await;
    let second = bench.acquire(&other, &reference).await.expect(200);
    let theirs = base.replace(plan, second["plan"]["planId"].as_str().unwrap());
    bench
        .post(&format!("{theirs}/events"), &token, json!({}))
        .await
        .expect_error(403, "TaskOrchestrationPlanSecurityException");
    bench.post(&format!("{theirs}/events"), "", json!({})).await.expect_error(401, "UnauthorizedRequestException");
}
