use super::kit::*;
use crate::actions::choices::Choices;
use crate::http::TransportError;

/// When the session was asked for, as long as `answer` is all there is.
fn attempts(choices: Choices, answer: fn() -> Answer) -> Vec<u64> {
    let bench = Bench::new(choices, move |asked| (asked.what.starts_with("POST session")).then(answer)).v2();
    bench.run(secs(400));
    bench.times("POST session").iter().map(std::time::Duration::as_secs).collect()
}

#[test]
fn a_refused_connection_is_not_tried_again_below_the_session() {
    let times = attempts(Choices::upstream(), || Answer::Fails(TransportError::Refused));
    assert_eq!(times[..4], [0, 30, 60, 90]);
    let repaired = attempts(Choices::hardened(), || Answer::Fails(TransportError::Refused));
    assert!(repaired[1] < 6 && repaired[2] < 16, "{repaired:?}");
}

#[test]
fn a_reset_connection_is() {
    for error in [|| Answer::Fails(TransportError::Reset), || Answer::Fails(TransportError::Unreachable)] {
        let times = attempts(Choices::upstream(), error);
        assert!((10..12).contains(&times[1]) && (23..25).contains(&times[2]), "{times:?}");
        assert!((38..44).contains(&times[3]) && (68..74).contains(&times[4]), "four attempts, then 30 s: {times:?}");
    }
    let early = attempts(Choices::upstream(), || Answer::Fails(TransportError::ClosedEarly));
    assert_eq!(early[..3], [0, 30, 60]);
}

#[test]
fn silence_lasts_as_long_as_the_send_timeout_and_is_not_retried_below() {
    let times = attempts(Choices::upstream(), || Answer::Silence);
    assert_eq!(times, [0, 130, 260, 390]);
    let v1 = Bench::new(Choices::upstream(), |asked| (asked.what == "POST sessions").then_some(Answer::Silence)).v1();
    v1.run(secs(300));
    assert_eq!(v1.times("POST sessions"), [0, 90, 180, 270].map(secs));
}

#[test]
fn a_connection_is_tried_five_times_a_tenth_of_a_second_apart() {
    let bench = Bench::new(Choices::upstream(), |asked| {
        (asked.what == "GET ConnectionData").then_some(Answer::Fails(TransportError::Refused))
    });
    let bench = bench.v1();
    bench.run(secs(29));
    assert_eq!(bench.asked("GET ConnectionData").len(), 15, "three connections");
    assert_eq!(bench.times("GET ConnectionData").last(), Some(&std::time::Duration::from_millis(400)));
    assert!(bench.asked("POST sessions").is_empty());
}

#[test]
fn only_the_repaired_runner_minds_retry_after() {
    let answer = || Answer::With(429, "retry-after", "7");
    assert_eq!(attempts(Choices::upstream(), answer)[..3], [0, 30, 60]);
    let repaired = attempts(Choices::hardened(), answer);
    assert!((7..12).contains(&repaired[1]) && (14..29).contains(&repaired[2]), "{repaired:?}");
    let absurd = attempts(Choices::hardened(), || Answer::With(503, "retry-after", "86400"));
    assert!(absurd[1] < 25, "{absurd:?}");
}
