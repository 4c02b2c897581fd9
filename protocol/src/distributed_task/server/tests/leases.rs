use super::*;
use crate::facts::Outcome;

struct Taken {
    names: Value,
    token: String,
    lock: Value,
}

async fn taken(bench: &Bench, member: &Member, session: Uuid) -> Taken {
    let reference = bench.reference(member, session).await;
    let job = bench.acquire(member, &reference).await.expect(200);
    Taken {
        names: json!({"planId": job["plan"]["planId"], "jobId": job["jobId"]}),
        token: job["resources"]["endpoints"][0]["authorization"]["parameters"]["AccessToken"].as_str().unwrap().into(),
        lock: job["lockToken"].clone(),
    }
}

async fn complete(bench: &Bench, taken: &Taken, conclusion: &str, fenced: bool) -> Answer {
    let mut body = taken.names.clone();
    body["conclusion"] = conclusion.into();
    if fenced {
        body["lockToken"] = taken.lock.clone();
    }
    bench.post("/run/completejob", &taken.token, body).await
}

fn reports(bench: &Bench) -> Vec<(u32, Outcome, bool)> {
    bench.facts(|fact| match fact {
        Fact::JobReported { attempt, outcome, accepted, .. } => Some((*attempt, *outcome, *accepted)),
        _ => None,
    })
}

#[tokio::test]
async fn a_lease_that_expires_fails_the_job() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    let taken = taken(&bench, &member, session).await;
    bench.clock.advance(600);
    assert_eq!(bench.phase(0), "closed");
    bench.post("/run/renewjob", &taken.token, taken.names.clone()).await.expect_run_error(404);
    complete(&bench, &taken, "succeeded", false).await.expect_run_error(404);
    assert_eq!(reports(&bench), [(1, Outcome::Succeeded, false)]);
    assert_eq!(bench.count(|fact| matches!(fact, Fact::LeaseExpired { .. })), 1);
    assert_eq!(bench.count(|fact| matches!(fact, Fact::JobGivenUp { .. })), 1);
}

#[tokio::test]
async fn a_report_that_comes_again_is_answered_by_the_rule_or_the_policy() {
    let last = |parameters: &mut Parameters| parameters.result_rule = ResultRule::LastWrite;
    for (bench, same, other, result) in [
        (Bench::upstream(), 404, 404, "succeeded"),
        (Bench::new(Policy::upstream(), last), 200, 200, "failed"),
        (Bench::hardened(), 200, 404, "succeeded"),
        (Bench::new(Policy::hardened(), last), 200, 404, "succeeded"),
    ] {
        let (member, session) = bench.v2("a").await;
        bench.queue("j");
        let taken = taken(&bench, &member, session).await;
        let fenced = !taken.lock.is_null();
        complete(&bench, &taken, "succeeded", fenced).await.expect(200);
        complete(&bench, &taken, "succeeded", fenced).await.expect(same);
        complete(&bench, &taken, "failed", fenced).await.expect(other);
        let record = serde_json::to_value(bench.server.snapshot().jobs[0].result).unwrap();
        assert_eq!(record, result);
        let meant = [(1, Outcome::Succeeded, true), (1, Outcome::Succeeded, true), (1, Outcome::Failed, other == 200)];
        assert_eq!(reports(&bench), meant);
        assert_eq!(bench.count(|fact| matches!(fact, Fact::LeaseReleased { .. })), 1);
    }
}

/// Attempt 1 on one agent expires, attempt 2 runs on another; then attempt 1 speaks up.
async fn two_attempts(policy: Policy) -> (Bench, Taken, Taken) {
    let bench = Bench::new(policy, |parameters| parameters.on_lease_expiry = OnLeaseExpiry::Requeue);
    let (a, first) = bench.v2("a").await;
    bench.queue("j");
    let one = taken(&bench, &a, first).await;
    bench.clock.advance(600);
    let (b, second) = bench.v2("bb").await;
    let two = taken(&bench, &b, second).await;
    (bench, one, two)
}

#[tokio::test]
async fn without_fencing_an_earlier_attempt_acts_on_the_later_one() {
    let (bench, one, two) = two_attempts(Policy::upstream()).await;
    assert!(one.lock.is_null());
    bench.post("/run/renewjob", &one.token, one.names.clone()).await.expect(200);
    complete(&bench, &one, "failed", false).await.expect(200);
    complete(&bench, &two, "succeeded", false).await.expect_run_error(404);
    assert_eq!(reports(&bench), [(1, Outcome::Failed, true), (2, Outcome::Succeeded, false)]);
}

#[tokio::test]
async fn with_fencing_an_earlier_attempt_is_refused() {
    let (bench, one, two) = two_attempts(Policy::hardened()).await;
    let mut renewal = one.names.clone();
    bench.post("/run/renewjob", &one.token, renewal.clone()).await.expect_run_error(409);
    renewal["lockToken"] = one.lock.clone();
    bench.post("/run/renewjob", &one.token, renewal.clone()).await.expect_run_error(409);
    complete(&bench, &one, "failed", true).await.expect_run_error(409);
    renewal["lockToken"] = two.lock.clone();
    bench.post("/run/renewjob", &two.token, renewal).await.expect(200);
    complete(&bench, &two, "succeeded", true).await.expect(200);
    assert_eq!(reports(&bench), [(1, Outcome::Failed, false), (2, Outcome::Succeeded, true)]);
}

#[tokio::test]
async fn with_fencing_v1_renews_with_the_token_of_its_message() {
    let bench = Bench::hardened();
    let (member, session) = bench.v1("a").await;
    bench.queue("j");
    let message = bench.get(&format!("{MESSAGES}?sessionId={session}"), &member.token).await.expect(200);
    let job: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
    let patch = async |lock: &str| {
        let path = format!("{REQUESTS}/1?lockToken={lock}");
        bench.call(Method::PATCH, &path, &member.token, "{}").await
    };
    patch("00000000-0000-0000-0000-000000000000").await.expect_error(409, "TaskAgentJobTokenExpiredException");
    patch("x").await.expect_error(400, "ArgumentOutOfRangeException");
    patch(job["lockToken"].as_str().unwrap()).await.expect(200);
    assert_eq!(bench.phase(0), "leased");
}

#[tokio::test]
async fn the_last_attempt_s_late_report_closes_a_job_that_waits_again() {
    for (policy, fenced, result, status) in [
        (Policy::upstream(), false, "succeeded", 200),
        (Policy::upstream(), false, "abandoned", 200),
        (Policy::hardened(), true, "succeeded", 200),
        (Policy::hardened(), true, "abandoned", 409),
        (Policy::hardened(), false, "succeeded", 409),
    ] {
        let bench = Bench::new(policy, |parameters| parameters.on_lease_expiry = OnLeaseExpiry::Requeue);
        let (member, session) = bench.v2("a").await;
        bench.queue("j");
        let taken = taken(&bench, &member, session).await;
        bench.delete(&format!("/broker/session?sessionId={session}"), &member.token).await.expect(200);
        bench.clock.advance(600);
        assert_eq!(bench.phase(0), "queued");
        complete(&bench, &taken, result, fenced).await.expect(status);
        assert_eq!(bench.phase(0), if status == 200 { "closed" } else { "queued" });
    }
}

#[tokio::test]
async fn an_earlier_attempt_s_report_is_refused_even_after_the_same_result() {
    let (bench, one, two) = two_attempts(Policy::hardened()).await;
    complete(&bench, &two, "succeeded", true).await.expect(200);
    complete(&bench, &one, "succeeded", true).await.expect_run_error(409);
    assert_eq!(reports(&bench), [(2, Outcome::Succeeded, true), (1, Outcome::Succeeded, false)]);
}

#[tokio::test]
async fn the_agent_of_an_ended_job_gets_the_next_one() {
    let bench = Bench::upstream();
    let (member, session) = bench.v2("a").await;
    bench.queue("j");
    bench.queue("k");
    let first = taken(&bench, &member, session).await;
    assert_eq!(bench.phase(1), "queued");
    complete(&bench, &first, "succeeded", false).await.expect(200);
    assert_eq!(bench.phase(1), "offered");
    let shown = bench.facts(|fact| match fact {
        Fact::AgentShown { online, busy, .. } => Some((*online, *busy)),
        _ => None,
    });
    assert_eq!(shown, [(true, false), (true, true), (true, false), (true, true)]);
}
