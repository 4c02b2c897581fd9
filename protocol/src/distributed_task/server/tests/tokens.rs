use super::*;
use crate::effect::{OnEffect, counted};

#[tokio::test]
async fn without_a_good_token_every_part_says_401_and_how() {
    let bench = Bench::upstream();
    let v1 = bench.send(Request::post(SESSIONS).body(Body::from("{}")).unwrap()).await;
    v1.expect_error(401, "UnauthorizedRequestException");
    let broker = bench.get("/broker/message?sessionId=x", "junk").await;
    broker.expect_broker_error(401, "");
    let run = bench.post("/run/acquirejob", "junk", json!({})).await;
    run.expect_run_error(401);
    for answer in [v1, broker, run] {
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_token_ends_and_a_new_one_is_granted() {
    let bench = Bench::upstream();
    let (member, session) = bench.v1("a").await;
    let path = format!("{MESSAGES}/1?sessionId={session}");
    bench.delete(&path, &member.token).await.expect(204);
    bench.clock.advance(3_000);
    bench.delete(&path, &member.token).await.expect_error(401, "UnauthorizedRequestException");
    let granted = bench.ask_for_token(&member, bench.clock.wall()).await.expect(200);
    assert_eq!((&granted["expires_in"], &granted["token_type"]), (&json!(3_000), &json!("bearer")));
    let token = granted["access_token"].as_str().unwrap();
    bench.delete(&path, token).await.expect_error(400, "TaskAgentSessionExpiredException");
    let (told, on_effect) = counted();
    bench.server.revoke_tokens(member.is.agent_id, &on_effect).unwrap();
    bench.delete(&path, token).await.expect_error(401, "UnauthorizedRequestException");
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn a_lower_case_scheme_is_understood() {
    let bench = Bench::upstream();
    let member = bench.member("a", Flow::V1, Encryption::Plain).await;
    let request =
        Request::get("/tenant/_apis/distributedtask/pools").header("authorization", format!("bearer {}", member.token));
    bench.send(request.body(Body::empty()).unwrap()).await.expect(200);
}

#[tokio::test]
async fn a_wrong_clock_is_told_with_the_server_s_time() {
    let bench = Bench::upstream();
    let member = bench.member("a", Flow::V1, Encryption::Plain).await;
    let second = |by: i64| Timestamp::from_second(START + by).unwrap();
    bench.ask_for_token(&member, second(300)).await.expect(200);
    bench.ask_for_token(&member, second(-600)).await.expect(200);
    for (by, word) in [(301, "not valid until"), (-601, "expired")] {
        let refused = bench.ask_for_token(&member, second(by)).await.expect(400);
        assert_eq!(refused["error"], "invalid_client");
        let description = refused["error_description"].as_str().unwrap();
        assert!(description.contains(word), "{description}");
        assert!(description.contains("Current server time is 11/14/2023 22:13:20"), "{description}");
    }
}

#[tokio::test]
async fn a_registration_is_refused_for_a_while() {
    for (refusal, code) in [
        (RefusalCode::InvalidClient, "invalid_client"),
        (RefusalCode::UnauthorizedClient, "unauthorized_client"),
        (RefusalCode::ServerError, "server_error"),
    ] {
        let bench = Bench::new(Policy::upstream(), |parameters| parameters.refusal = refusal);
        let member = bench.member("a", Flow::V1, Encryption::Plain).await;
        let (told, on_effect) = counted();
        bench.server.refuse_registration(member.is.agent_id, Duration::from_secs(60), on_effect).unwrap();
        let refused = bench.ask_for_token(&member, bench.clock.wall()).await.expect(400);
        assert_eq!(refused["error"], code);
        assert!(refused["error_description"].as_str().unwrap().contains("was not found or is not medium trust"));
        assert_eq!(told(), 1);
        bench.clock.advance(60);
        bench.ask_for_token(&member, bench.clock.wall()).await.expect(200);
    }
    assert_eq!(
        Bench::upstream().server.refuse_registration(1, Duration::ZERO, OnEffect::untold()),
        Err(UnknownName::Agent)
    );
}

#[tokio::test]
async fn the_pool_denies_an_agent_for_a_while() {
    let denials = [
        (Denial::AccessDenied, 403, "AccessDeniedException"),
        (Denial::AgentUnknown, 404, "TaskAgentNotFoundException"),
    ];
    for (denial, status, exception) in denials {
        let bench = Bench::upstream();
        let (member, session) = bench.v1("a").await;
        let path = format!("{MESSAGES}/1?sessionId={session}");
        let (told, on_effect) = counted();
        bench.server.deny(member.is.agent_id, denial, Duration::from_secs(60), on_effect).unwrap();
        bench.delete(&path, &member.token).await.expect_error(status, exception);
        assert_eq!(told(), 1);
        bench.clock.advance(60);
        bench.delete(&path, &member.token).await.expect(204);
        assert_eq!(told(), 1);
    }
    let denied = Bench::upstream().server.deny(1, Denial::AgentUnknown, Duration::ZERO, OnEffect::untold());
    assert_eq!(denied, Err(UnknownName::Agent));
}

#[tokio::test]
async fn what_is_no_request_for_a_token_is_refused() {
    let bench = Bench::upstream();
    let member = bench.member("a", Flow::V1, Encryption::Plain).await;
    let post = |body: String| bench.send(Request::post("/_apis/oauth2/token").body(Body::from(body)).unwrap());
    assert_eq!(post(String::new()).await.expect(400)["error"], "unsupported_grant_type");
    assert_eq!(post("grant_type=password".into()).await.expect(400)["error"], "unsupported_grant_type");
    assert_eq!(bench.form("junk").await.expect(400)["error"], "invalid_client");
    let other = Signer::new(PrivateKey::generate(576, &mut random(99)).unwrap(), Algorithm::Rs256);
    let (client, url, now) = (member.is.client_id, &member.is.authorization_url, bench.clock.wall());
    let forged = other.assertion(client, url, now, Duration::from_secs(300), &mut random(1));
    assert_eq!(bench.form(&forged).await.expect(400)["error"], "invalid_client");
    let elsewhere = member.signer.assertion(client, "http://elsewhere/", now, Duration::from_secs(300), &mut random(1));
    assert_eq!(bench.form(&elsewhere).await.expect(400)["error"], "invalid_client");
    let stranger = member.signer.assertion(Uuid::nil(), url, now, Duration::from_secs(300), &mut random(1));
    assert_eq!(bench.form(&stranger).await.expect(400)["error"], "invalid_client");
    let mut form = String::from("grant_type=client_credentials&client_assertion_type=x&client_assertion=");
    form += &member.signer.assertion(client, url, now, Duration::from_secs(300), &mut random(1));
    assert_eq!(post(form).await.expect(400)["error"], "invalid_request");
}
