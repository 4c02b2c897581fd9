use super::kit::*;
use crate::actions::agent::{KEY_FILE, SETTINGS_FILE};
use crate::actions::choices::Choices;
use crate::actions::supervisor::exit;
use serde_json::json;

fn skew() -> Answer {
    Answer::Json(
        400,
        json!({"error": "invalid_client", "error_description": "expired: Current server time is 2026-01-01"}),
    )
}

fn conflict_in_v2() -> Answer {
    broker_error(409, "")
}

#[test]
fn eight_conflicts_in_210_seconds_end_the_real_runner() {
    for v1 in [true, false] {
        let bench = Bench::new(Choices::upstream(), |asked| match asked.what.as_str() {
            "POST sessions" => Some(exception(409, "TaskAgentSessionConflictException")),
            "POST session" => Some(conflict_in_v2()),
            _ => None,
        });
        let (bench, what) = if v1 { (bench.v1(), "POST sessions") } else { (bench.v2(), "POST session") };
        assert_eq!(bench.run(secs(3600)), Some(exit::SESSION_CONFLICT));
        assert_eq!(bench.times(what), (0..8).map(|number| secs(30 * number)).collect::<Vec<_>>());
    }
}

#[test]
fn the_repaired_runner_outlasts_a_conflict() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "POST session" if asked.at < secs(300) => Some(conflict_in_v2()),
        _ => None,
    };
    let repaired = Bench::new(Choices::hardened(), script).v2();
    assert_eq!(repaired.run(secs(600)), None);
    assert!(!repaired.asked("GET message").is_empty());
    let real = Bench::new(put_back("conflict-budget"), script).v2();
    assert_eq!(real.run(secs(600)), Some(exit::SESSION_CONFLICT));
}

#[test]
fn pauses_between_creations_are_drawn_in_the_repaired_runner() {
    let script = |asked: &Asked| (asked.what == "POST session").then_some(Answer::Status(500));
    let bench = Bench::new(Choices::hardened(), script).v2();
    bench.run(secs(1000));
    let gaps: Vec<_> = bench.times("POST session").windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().any(|gap| *gap != gaps[0]), "{gaps:?}");
    let fixed = Bench::new(Choices::upstream(), script).v2();
    fixed.run(secs(1000));
    assert!(fixed.times("POST session").windows(2).all(|pair| pair[1] - pair[0] == secs(30)));
    assert!(fixed.times("POST session").len() > 30, "it is retried without end");
}

#[test]
fn a_wrong_clock_ends_the_real_runner_at_once_and_the_repaired_one_waits() {
    let script = |asked: &Asked| (asked.what == "POST token" && asked.at < secs(20 * 60)).then(skew);
    for choices in [Choices::upstream(), put_back("clock-skew")] {
        let bench = Bench::new(choices.clone(), script).v1();
        let code = bench.run(secs(3600));
        assert!(code.is_some(), "{choices:?}");
    }
    assert_eq!(Bench::new(Choices::upstream(), script).v1().run(secs(3600)), Some(exit::TERMINATED_ERROR));
    let repaired = Bench::new(Choices::hardened(), script).v1();
    assert_eq!(repaired.run(secs(3600)), None);
    assert!(!repaired.asked("GET messages").is_empty());
}

#[test]
fn other_errors_about_the_clock_are_waited_for_sixty_times() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        let text = json!({"error": "other", "error_description": "Current server time is 2026"});
        (asked.what == "POST token").then_some(Answer::Json(400, text))
    })
    .v2();
    assert_eq!(bench.run(secs(7200)), Some(exit::TERMINATED_ERROR));
    assert_eq!(bench.clock.now(), secs(59 * 30));
}

#[test]
fn other_oauth_errors_are_final_in_v1_only() {
    let script = |asked: &Asked| {
        (asked.what == "POST token").then(|| Answer::Json(400, json!({"error": "unauthorized_client"})))
    };
    assert_eq!(Bench::new(Choices::upstream(), script).v1().run(secs(3600)), Some(exit::TERMINATED_ERROR));
    assert_eq!(Bench::new(Choices::upstream(), script).v2().run(secs(3600)), None);
    assert_eq!(Bench::new(Choices::hardened(), script).v1().run(secs(3600)), None);
}

#[test]
fn a_refusal_is_final_or_retried() {
    let script = |asked: &Asked| (asked.what == "POST session" && asked.at < secs(60)).then_some(Answer::Status(401));
    for choices in [Choices::upstream(), put_back("on-refusal")] {
        let bench = Bench::new(choices, script).v2();
        assert_eq!(bench.run(secs(600)), Some(exit::TERMINATED_ERROR));
        assert_eq!(bench.asked("POST session").len(), 2, "one refresh of the token");
    }
    assert_eq!(Bench::new(Choices::hardened(), script).v2().run(secs(600)), None);
}

#[test]
fn three_rounds_of_authentication_in_v1() {
    let bench = Bench::new(Choices::upstream(), |asked| (asked.what == "POST sessions").then_some(Answer::Status(401)));
    let bench = bench.v1();
    assert_eq!(bench.run(secs(600)), Some(exit::TERMINATED_ERROR));
    assert_eq!(bench.asked("POST sessions").len(), 3);
}

#[test]
fn an_outage_of_the_token_endpoint_sends_requests_without_a_token() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "POST token" if asked.at < secs(100) => Some(Answer::Status(403)),
        "POST session" if asked.header("authorization").is_none() => Some(Answer::Status(401)),
        _ => None,
    };
    let real = Bench::new(Choices::upstream(), script).v2();
    assert_eq!(real.run(secs(600)), Some(exit::TERMINATED_ERROR));
    let flipped = Bench::new(put_back("token-trouble"), script).v2();
    assert_eq!(flipped.run(secs(600)), None);
    assert!(flipped.asked("POST session").iter().any(|asked| asked.header("authorization").is_none()));
    let repaired = Bench::new(Choices::hardened(), script).v2();
    assert_eq!(repaired.run(secs(600)), None);
    assert!(repaired.asked("POST session").iter().all(|asked| asked.header("authorization").is_some()));
}

#[test]
fn the_token_client_makes_six_attempts_on_its_own_within_a_hundred_seconds() {
    let bench =
        Bench::new(Choices::upstream(), |asked| (asked.what == "POST token").then_some(Answer::Status(500))).v2();
    bench.run(secs(99));
    let times = bench.times("POST token");
    assert!((5..=6).contains(&times.len()), "{times:?}");
    for (pair, (low, high)) in times.windows(2).zip([(10_800, 11_200), (12_400, 13_600), (15_600, 18_400)]) {
        assert!((low..high).contains(&(pair[1] - pair[0]).as_millis()), "{times:?}");
    }
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_key_or_none() {
    let script = |asked: &Asked| match (asked.what.as_str(), asked.before) {
        ("POST session", 0) => Some(Answer::Status(504)),
        ("POST session", 1) => Some(conflict_in_v2()),
        _ => None,
    };
    let keys = |choices| {
        let bench = Bench::new(choices, script).v2();
        bench.run(secs(200));
        let asked = bench.asked("POST session");
        asked.iter().map(|asked| asked.header("idempotency-key").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(keys(Choices::upstream()), [None, None, None]);
    assert_eq!(keys(put_back("create-replay")), [None, None, None]);
    let repaired = keys(Choices::hardened());
    assert!(repaired[0].is_some() && repaired.iter().all(|key| *key == repaired[0]), "{repaired:?}");
}

#[test]
fn a_runner_that_does_not_exist_is_asked_about_five_times() {
    let script = |asked: &Asked| (asked.what == "POST sessions").then(|| exception(404, "TaskAgentNotFoundException"));
    let real = Bench::new(Choices::upstream(), script).v1();
    assert_eq!(real.run(secs(600)), Some(exit::TERMINATED_ERROR));
    assert_eq!(real.asked("POST sessions").len(), 1);
    let repaired = Bench::new(Choices::hardened(), script).v1();
    assert_eq!(repaired.run(secs(600)), Some(exit::SUCCESS));
    assert_eq!(repaired.times("POST sessions"), [0, 60, 120, 180, 240].map(secs));
    assert!(!repaired.disk.has(SETTINGS_FILE));
}

#[test]
fn a_login_page_is_a_session_without_a_name() {
    let script = |asked: &Asked| (asked.what == "POST session" && asked.before == 0).then_some(Answer::Page);
    for choices in [Choices::upstream(), put_back("not-json")] {
        let bench = Bench::new(choices, script).v2();
        assert_eq!(bench.run(secs(3600)), Some(exit::RETRYABLE_ERROR));
        assert!(bench.asked("GET message").is_empty());
    }
    assert_eq!(Bench::new(Choices::hardened(), script).v2().run(secs(3600)), None);
}

#[test]
fn the_session_is_deleted_at_the_end_by_name_or_by_whoever_asks() {
    for (choices, named) in
        [(Choices::upstream(), false), (put_back("session-delete"), false), (Choices::hardened(), true)]
    {
        let bench = Bench::new(choices, |_| None).v2();
        assert_eq!(bench.run_until(secs(600), bench.shutdown_at(secs(70))), Some(exit::SUCCESS));
        let deleted = bench.asked("DELETE session");
        assert_eq!(deleted.len(), 1);
        assert_eq!(deleted[0].query.contains_key("sessionId"), named);
    }
}

#[test]
fn a_503_is_retried_as_the_handler_does() {
    let script = |asked: &Asked| (asked.what == "POST session").then_some(Answer::Status(503));
    let bench = Bench::new(Choices::upstream(), script).v2();
    bench.run(secs(60));
    let gaps: Vec<_> = bench.times("POST session").windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    let ranges = [(10_800, 11_200), (12_400, 13_600), (15_600, 18_400)];
    assert!(gaps.len() == 3 && gaps.iter().zip(ranges).all(|(gap, (low, high))| (low..high).contains(gap)), "{gaps:?}");
    let jittered = Bench::new(Choices::hardened(), script).v2();
    jittered.run(secs(60));
    let gaps: Vec<_> = jittered.times("POST session").windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert!(gaps[0] < 5_000 && gaps[1] < 10_000 && gaps[2] < 20_000, "{gaps:?}");
}

#[test]
fn a_host_that_is_known_to_be_away_is_not_asked_again() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        (asked.what == "POST session").then_some(Answer::With(503, "x-vss-hostofflineerror", "gone"))
    });
    let bench = bench.v2();
    bench.run(secs(29));
    assert_eq!(bench.asked("POST session").len(), 1);
}

#[test]
fn a_runner_without_configuration_ends() {
    let bench = Bench::new(Choices::upstream(), |_| None).v2();
    crate::disk::Disk::remove(&bench.disk, KEY_FILE).unwrap();
    assert_eq!(bench.run(secs(10)), Some(exit::TERMINATED_ERROR));
}

#[test]
fn a_session_s_answer_can_send_v1_to_the_broker() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        let session = json!({"sessionId": uuid::Uuid::from_u128(1), "brokerMigrationMessage": {"brokerBaseUrl": BASE}});
        (asked.what == "POST sessions").then_some(Answer::Json(200, session))
    });
    let bench = bench.v1();
    bench.run_until(secs(120), bench.shutdown_at(secs(100)));
    assert_eq!(bench.asked("POST session").len(), 1);
    assert!(bench.asked("GET messages").is_empty() && !bench.asked("GET message").is_empty());
    assert_eq!(bench.asked("DELETE session").len(), 1);
}
