use std::time::Duration;

use super::kit::*;
use crate::actions::agent::SETTINGS_FILE;
use crate::actions::choices::Choices;
use crate::actions::supervisor::exit;
use serde_json::json;

/// The waits of the real listeners after failed polls, in milliseconds: everywhere the same.
const CHAIN: [u64; 9] = [25_893, 28_273, 18_857, 16_505, 20_340, 55_714, 33_905, 46_695, 41_288];

fn chain() -> Vec<Duration> {
    CHAIN.iter().map(|wait| Duration::from_millis(*wait)).collect()
}

#[test]
fn v2_waits_by_the_chain_and_ends_at_the_tenth_error() {
    let bench =
        Bench::new(Choices::upstream(), |asked| (asked.what == "GET message").then_some(Answer::Status(500))).v2();
    assert_eq!(bench.run(secs(7200)), Some(exit::RETRYABLE_ERROR));
    let times = bench.times("GET message");
    assert_eq!(times.len(), 50, "ten polls of five attempts each");
    let polls: Vec<_> = times.chunks(5).collect();
    let gaps: Vec<_> = polls.windows(2).map(|pair| pair[1][0] - pair[0][4]).collect();
    assert_eq!(gaps, chain());
    for poll in polls {
        assert!(poll.windows(2).all(|pair| (secs(5)..secs(15)).contains(&(pair[1] - pair[0]))));
    }
}

#[test]
fn v1_waits_by_the_same_chain_and_never_ends() {
    let bench =
        Bench::new(Choices::upstream(), |asked| (asked.what == "GET messages").then_some(Answer::Status(500))).v1();
    assert_eq!(bench.run(secs(7200)), None);
    let times = bench.times("GET messages");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).take(9).collect();
    assert_eq!(gaps, chain());
}

#[test]
fn repaired_runners_come_back_at_different_times() {
    let gap = |choices: Choices, seed| {
        let mut bench = Bench::new(choices, |asked| {
            (asked.what == "GET messages" && asked.before < 2).then_some(Answer::Status(400))
        });
        bench.seed = seed;
        let bench = bench.v1();
        bench.run(secs(300));
        let times = bench.times("GET messages");
        times[1] - times[0]
    };
    assert_eq!(gap(Choices::upstream(), 1), gap(Choices::upstream(), 2));
    let flipped = put_back("poll-backoff");
    assert_eq!(gap(flipped.clone(), 1), gap(flipped, 2));
    assert_ne!(gap(Choices::hardened(), 1), gap(Choices::hardened(), 2));
}

/// A poll in four fails for good, the others are empty.
fn now_and_then(asked: &Asked) -> Option<Answer> {
    let failing = (asked.before / 5).is_multiple_of(2) && asked.before / 5 < 30;
    (asked.what == "GET message").then(|| if failing { Answer::Status(500) } else { after(HOLD, Answer::Status(202)) })
}

#[test]
fn errors_with_successes_between_them_end_the_real_runner() {
    let real = Bench::new(Choices::upstream(), now_and_then).v2();
    assert_eq!(real.run(secs(20_000)), Some(exit::RETRYABLE_ERROR));
    let flipped = Bench::new(put_back("poll-errors"), now_and_then).v2();
    assert_eq!(flipped.run(secs(20_000)), Some(exit::RETRYABLE_ERROR));
    assert_eq!(Bench::new(Choices::hardened(), now_and_then).v2().run(secs(20_000)), None);
}

#[test]
fn a_wrong_not_found_deletes_the_configuration_of_the_real_runner() {
    let once = |asked: &Asked| {
        (asked.before == 1).then(|| broker_error(404, "RunnerNotFound")).filter(|_| asked.what == "GET message")
    };
    for choices in [Choices::upstream(), put_back("on-not-found")] {
        let bench = Bench::new(choices, once).v2();
        assert_eq!(bench.run(secs(600)), Some(exit::SUCCESS));
        assert!(!bench.disk.has(SETTINGS_FILE) && bench.asked("DELETE session").is_empty());
    }
    let repaired = Bench::new(Choices::hardened(), once).v2();
    assert_eq!(repaired.run(secs(600)), None);
    assert!(repaired.disk.has(SETTINGS_FILE));
    let truly = Bench::new(Choices::hardened(), |asked| {
        (asked.what == "GET message").then(|| broker_error(404, "RunnerNotFound"))
    });
    let truly = truly.v2();
    assert_eq!(truly.run(secs(600)), Some(exit::SUCCESS));
    assert_eq!(truly.asked("GET message").len(), 5);
    assert!(!truly.disk.has(SETTINGS_FILE));
}

#[test]
fn a_refused_poll_ends_v2_with_1_and_v1_with_2() {
    let script =
        |asked: &Asked| (asked.what.starts_with("GET message") && asked.at < secs(60)).then_some(Answer::Status(401));
    assert_eq!(Bench::new(Choices::upstream(), script).v2().run(secs(600)), Some(exit::TERMINATED_ERROR));
    assert_eq!(Bench::new(Choices::upstream(), script).v1().run(secs(600)), Some(exit::RETRYABLE_ERROR));
    assert_eq!(Bench::new(Choices::hardened(), script).v2().run(secs(600)), None);
    assert_eq!(Bench::new(Choices::hardened(), script).v1().run(secs(600)), None);
}

#[test]
fn oauth_errors_in_a_poll_are_never_final_in_v1() {
    let bench = Bench::new(Choices::upstream(), |asked| match asked.what.as_str() {
        "GET messages" if asked.at < secs(500) => Some(Answer::Status(401)),
        "POST token" if asked.at > secs(1) && asked.at < secs(500) => {
            Some(Answer::Json(400, json!({"error": "unauthorized_client", "error_description": "not medium trust"})))
        }
        _ => None,
    });
    assert_eq!(bench.v1().run(secs(600)), Some(exit::RETRYABLE_ERROR), "three rounds of 401 are");
    let bench = Bench::new(Choices::upstream(), |asked| match asked.what.as_str() {
        "GET messages" if asked.at < secs(1) && asked.before == 0 => Some(after(secs(5), Answer::Status(401))),
        "POST token" if asked.at > secs(1) && asked.at < secs(500) => {
            Some(Answer::Json(400, json!({"error": "unauthorized_client", "error_description": "not medium trust"})))
        }
        _ => None,
    });
    let bench = bench.v1();
    assert_eq!(bench.run(secs(700)), None);
    assert!(bench.asked("GET messages").len() > 2);
}

#[test]
fn an_expired_session_is_opened_anew_and_the_cursor_stays() {
    let bench = Bench::new(Choices::upstream(), |asked| match (asked.what.as_str(), asked.before) {
        ("GET messages", 0) => Some(cancellation(41, 99, "00:05:00")),
        ("GET messages", 1) => Some(exception(400, "TaskAgentSessionExpiredException")),
        _ => None,
    });
    let bench = bench.v1();
    bench.run(secs(20));
    assert_eq!(bench.asked("POST sessions").len(), 2);
    let polls = bench.asked("GET messages");
    assert_eq!(polls[2].query["lastMessageId"], "41");
    assert_eq!(bench.asked("DELETE messages")[0].path.rsplit('/').next(), Some("41"));
}

#[test]
fn the_end_of_a_job_aborts_the_poll_of_the_real_runner() {
    let script = |asked: &Asked| (asked.what == "GET message" && asked.before == 0).then(|| v2_job(1));
    let polls = |choices: Choices| {
        let bench = Bench::new(choices, script).v2();
        bench.run(secs(70));
        bench
            .asked("GET message")
            .iter()
            .map(|asked| (asked.at.as_secs(), asked.query["status"].clone()))
            .collect::<Vec<_>>()
    };
    let told = |at, status: &str| (at, status.to_owned());
    let aborted = [told(0, "Online"), told(0, "Busy"), told(20, "Online"), told(70, "Online")];
    assert_eq!(polls(Choices::upstream())[..3], aborted[..3]);
    let kept = [told(0, "Online"), told(0, "Busy"), told(50, "Online")];
    let repaired = polls(Choices::hardened());
    assert_eq!(repaired.len(), 3);
    assert_eq!((repaired[0].1.as_str(), repaired[1].1.as_str(), repaired[2].1.as_str()), ("Online", "Busy", "Online"));
    assert!(repaired[2].0 >= kept[2].0, "{repaired:?}");
    assert_eq!(polls(put_back("status-change"))[2].1, "Online");
}

#[test]
fn polls_that_end_at_once_are_paced_in_the_repaired_runner() {
    let script =
        |asked: &Asked| (asked.what == "GET message").then(|| after(Duration::from_millis(20), Answer::Status(202)));
    let polls = |choices| {
        let bench = Bench::new(choices, script).v2();
        bench.run(secs(60));
        bench.asked("GET message").len()
    };
    assert!(polls(Choices::upstream()) > 1_000);
    assert!(polls(put_back("empty-polls")) > 1_000);
    assert!(polls(Choices::hardened()) <= 61);
}

#[test]
fn v1_slows_down_after_fifty_empty_polls() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        (asked.what == "GET messages").then(|| after(Duration::from_millis(10), Answer::Status(202)))
    });
    let bench = bench.v1();
    bench.run(secs(120));
    let times = bench.times("GET messages");
    assert!(times[50] < secs(1), "fifty go through");
    assert!(times[51] - times[50] >= secs(15) && times[51] - times[50] < secs(31));
    assert!(times.len() < 60);
}

#[test]
fn a_body_that_stalls_stops_the_real_runner_for_good() {
    let script = |asked: &Asked| (asked.what == "GET message" && asked.before == 0).then_some(Answer::Stall);
    for choices in [Choices::upstream(), put_back("body-timeout")] {
        let bench = Bench::new(choices, script).v2();
        assert_eq!(bench.run(secs(86_400)), None);
        assert_eq!(bench.asked("GET message").len(), 1);
    }
    let repaired = Bench::new(Choices::hardened(), script).v2();
    repaired.run(secs(600));
    assert!(repaired.times("GET message")[1] >= secs(100) && repaired.times("GET message")[1] < secs(116));
}

#[test]
fn v1_reads_bodies_within_its_send_timeout() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        (asked.what == "GET messages" && asked.before == 0).then_some(Answer::Stall)
    });
    let bench = bench.v1();
    bench.run(secs(600));
    assert_eq!(bench.times("GET messages")[1], secs(60) + Duration::from_millis(CHAIN[0]));
}

#[test]
fn a_fatal_poll_cancels_the_job_of_the_real_runner() {
    let script = |asked: &Asked| match asked.what.as_str() {
        "GET message" if asked.before == 0 => Some(v2_job(1)),
        "GET message" if asked.at > secs(90) && asked.at < secs(200) => Some(broker_error(400, "RunnerSessionInvalid")),
        "POST session" if asked.at > secs(90) && asked.at < secs(200) => Some(broker_error(404, "RunnerNotFound")),
        _ => None,
    };
    let bench = |mut choices: Choices| {
        choices.on_not_found = crate::actions::choices::OnNotFound::DeletesConfiguration;
        Bench::new(choices, script).v2().jobs(Jobs::lasting(secs(400)))
    };
    for choices in [Choices::upstream(), put_back("fatal-poll")] {
        let real = bench(choices);
        assert_eq!(real.run(secs(900)), Some(exit::TERMINATED_ERROR));
        assert_eq!(real.asked("POST completejob")[0].body["conclusion"], "canceled");
    }
    let repaired = bench(Choices::hardened());
    assert_eq!(repaired.run(secs(900)), None);
    assert_eq!(repaired.asked("POST completejob")[0].body["conclusion"], "succeeded");
}

#[test]
fn a_migrated_v1_runner_polls_the_broker_each_time() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        let body = json!({"brokerBaseUrl": BASE}).to_string();
        let migration = json!({"messageId": 5, "messageType": "BrokerMigration", "body": body});
        (asked.what == "GET messages").then_some(Answer::Json(200, migration))
    });
    let bench = bench.v1();
    bench.run(secs(120));
    let pairs = bench.times("GET messages").into_iter().zip(bench.times("GET message"));
    assert!(pairs.clone().count() >= 2 && pairs.clone().all(|(pool, broker)| pool == broker));
    assert!(
        !bench.asked("GET messages")[1].query.contains_key("lastMessageId"),
        "only a message from the broker counts"
    );
}

#[test]
fn the_broker_s_numbers_move_the_cursor_of_the_real_runner_alone() {
    let cursor = |choices: Choices| {
        let bench = Bench::new(choices, |asked| match asked.what.as_str() {
            "GET messages" => {
                let body = json!({"brokerBaseUrl": BASE}).to_string();
                Some(Answer::Json(200, json!({"messageId": 0, "messageType": "BrokerMigration", "body": body})))
            }
            "GET message" if asked.before == 0 => {
                Some(Answer::Json(200, json!({"messageId": 7_000, "messageType": "ForceTokenRefresh", "body": ""})))
            }
            _ => None,
        });
        let bench = bench.v1();
        bench.run(secs(120));
        bench.asked("GET messages")[1].query.get("lastMessageId").cloned()
    };
    assert_eq!(cursor(put_back("cursor")).as_deref(), Some("7000"));
    assert_eq!(cursor(Choices::hardened()), None);
}

#[test]
fn an_order_to_update_ends_the_runner_once_it_is_idle() {
    let bench = Bench::new(Choices::upstream(), |asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => Some(v2_job(1)),
        ("GET message", 1) => {
            Some(Answer::Json(200, json!({"messageId": 2, "messageType": "RunnerRefresh", "body": "{}"})))
        }
        _ => None,
    });
    let bench = bench.v2();
    assert_eq!(bench.run(secs(600)), Some(exit::RUNNER_UPDATING));
    assert_eq!(bench.clock.now(), secs(20));
}

#[test]
fn a_refreshed_configuration_starts_the_listener_anew_inside_of_the_process() {
    let bench = Bench::new(Choices::upstream(), |asked| match (asked.what.as_str(), asked.before) {
        ("GET message", 0) => {
            Some(Answer::Json(200, json!({"messageId": 2, "messageType": "RunnerRefreshConfig", "body": "{}"})))
        }
        _ => None,
    });
    let bench = bench.v2();
    assert_eq!(bench.run(secs(100)), None);
    assert_eq!(bench.asked("POST session").len(), 2);
    assert_eq!(bench.asked("DELETE session").len(), 1);
}
