//! The listener against the service's own router, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use proptest::prelude::*;

use super::*;
use crate::arc::choices::{MessageOrder, OnConflict};
use crate::arc::testing::{Meddle, Room, Wrong, nothing};
use crate::choices::Design;
use crate::facts::{Fact, SessionEnd};
use crate::virtual_clock::secs;

/// One process for a while, and its exit code.
fn one(room: &Room, choices: &Choices, lasting: u64, meddle: Meddle) -> i32 {
    room.run(room.listener(choices.clone(), secs(lasting), meddle))
}

/// A room whose session is another process's.
fn occupied(choices: &Choices) -> Room {
    let room = Room::new(choices, |parameters| parameters.session_life = secs(3_600));
    room.run(async {
        let admin = room.admin().await;
        let path = format!("/tenant/_apis/runtime/runnerscalesets/{}/sessions", room.set);
        room.call(Method::POST, &path, &admin, r#"{"ownerName":"somebody else"}"#).await.expect(200);
    });
    room
}

fn is_create(asked: &Request<()>) -> bool {
    asked.method() == Method::POST && asked.uri().path().ends_with("/sessions")
}

#[test]
fn each_version_has_its_own_patience_with_a_conflict() {
    for (on_conflict, creations) in [(OnConflict::Exits, 1), (OnConflict::V0_8, 11), (OnConflict::V0_7, 11)] {
        let choices = Choices { on_conflict, ..Choices::upstream() };
        let room = occupied(&choices);
        assert_eq!(one(&room, &choices, 86_400, nothing()), exit::FAILED);
        let at = room.asked("/sessions");
        assert_eq!(at.len(), creations, "{on_conflict:?}");
        let pauses: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let range = if on_conflict == OnConflict::V0_8 { 30_000..30_001 } else { 30_000..45_000 };
        assert!(pauses.iter().all(|pause| range.contains(pause)), "{on_conflict:?}: {pauses:?}");
    }
}

#[test]
fn a_lost_answer_to_a_creation_conflicts_with_itself_unless_it_is_named() {
    let lose_first: Meddle = Arc::new(|asked, nth| (is_create(asked) && nth < 4).then_some(Wrong::Lost));
    let upstream = Choices::upstream();
    let room = Room::new(&upstream, |_| ());
    assert_eq!(one(&room, &upstream, 600, lose_first.clone()), exit::FAILED);
    assert_eq!(room.asked("/sessions"), [0, 1_000]);
    assert_eq!(room.count(|fact| matches!(fact, Fact::SessionConflict { .. })), 1);
    let hardened = Choices::hardened();
    let room = Room::new(&hardened, |_| ());
    one(&room, &hardened, 600, lose_first);
    assert_eq!(room.count(|fact| matches!(fact, Fact::SessionConflict { .. })), 0);
    assert_eq!(room.count(|fact| matches!(fact, Fact::SessionClosed { why: SessionEnd::Deleted, .. })), 1);
}

#[test]
fn the_handler_waits_1_2_4_and_8_seconds_and_then_the_process_ends() {
    let upstream = Choices::upstream();
    let room = Room::new(&upstream, |_| ());
    let unavailable: Meddle =
        Arc::new(|asked, _| is_create(asked).then(|| Wrong::Answer(502, Bytes::from_static(b"bad gateway"))));
    assert_eq!(one(&room, &upstream, 600, unavailable), exit::FAILED);
    assert_eq!(room.asked("/sessions"), [0, 1_000, 3_000, 7_000, 15_000]);
}

#[test]
fn a_token_that_expires_is_renewed_once() {
    let upstream = Choices::upstream();
    let room = Room::new(&upstream, |parameters| parameters.queue_token_life = secs(120));
    one(&room, &upstream, 1_000, nothing());
    // Sixteen minutes of polls, and a refresh for every third of them.
    assert_eq!(room.asked("PATCH http://service").len(), 6);
}

#[test]
fn a_process_that_is_asked_to_ends_its_session() {
    for (choices, deleted) in [(Choices::upstream(), 1), (Choices::named("arc.close.v0_8").unwrap(), 0)] {
        let room = Room::new(&choices, |_| ());
        assert_eq!(one(&room, &choices, 100, nothing()), exit::FAILED);
        assert_eq!(room.clock.now(), secs(100));
        assert_eq!(room.asked("DELETE http://service").len(), deleted);
    }
}

#[test]
fn each_version_has_its_own_order() {
    let orders = [
        (MessageOrder::V0_14, ["DELETE http://service/tenant/message", "acquirejobs"]),
        (MessageOrder::V0_8_1, ["DELETE http://service/tenant/message", "acquirejobs"]),
        (MessageOrder::V0_8_2, ["acquirejobs", "DELETE http://service/tenant/message"]),
        (MessageOrder::V0_7, ["acquirejobs", "DELETE http://service/tenant/message"]),
    ];
    for (message_order, [first, second]) in orders {
        let choices = Choices { message_order, ..Choices::upstream() };
        let room = Room::new(&choices, |_| ());
        room.server.queue_job("job-1", crate::arc::testing::SET);
        let order: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let seen = order.clone();
        let watch: Meddle = Arc::new(move |asked, _| {
            seen.lock().unwrap().push(format!("{} {}", asked.method(), asked.uri()));
            None
        });
        one(&room, &choices, 10, watch);
        let order = order.lock().unwrap();
        let place =
            |what: &str| order.iter().position(|asked| asked.contains(what)).unwrap_or_else(|| panic!("{order:?}"));
        assert!(place(first) < place(second), "{message_order:?}: {order:?}");
    }
}

#[test]
fn version_0_14_0_acquires_nothing() {
    for (message_order, acquires) in [(MessageOrder::V0_14_0, false), (MessageOrder::V0_14, true)] {
        let choices = Choices { message_order, ..Choices::upstream() };
        let room = Room::new(&choices, |_| ());
        room.server.queue_job("job-1", crate::arc::testing::SET);
        one(&room, &choices, 10, nothing());
        assert_eq!(!room.asked("acquirejobs").is_empty(), acquires, "{message_order:?}");
        assert!(!room.asked("DELETE http://service/tenant/message").is_empty(), "{message_order:?}");
    }
}

#[test]
fn a_set_that_stays_unknown_is_not_registered_without_a_pause() {
    let hardened = Choices::hardened();
    let room = Room::new(&hardened, |_| ());
    let unknown: Meddle = Arc::new(|asked, _| {
        let body = Bytes::from_static(b"{\"typeName\":\"RunnerScaleSetNotFoundException\"}");
        is_create(asked).then(|| Wrong::Answer(404, body))
    });
    assert_eq!(one(&room, &hardened, 600, unknown), exit::FAILED);
    assert!((20..100).contains(&room.asked("/sessions").len()), "{:?}", room.asked("/sessions"));
}

/// Bodies that no client expects.
fn garbage() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let texts = [
        "",
        "null",
        "7",
        "[]",
        "{}",
        "{",
        "<html>",
        "{\"messageId\":\"x\"}",
        "{\"token\":7}",
        "{\"url\":\"\",\"token\":\"\"}",
        "{\"messageId\":1,\"messageType\":\"RunnerScaleSetJobMessages\",\"body\":\"[7]\"}",
        "{\"messageId\":1,\"messageType\":\"Other\",\"body\":\"\"}",
        "{\"typeName\":\"RunnerScaleSetNotFoundException\"}",
        "{\"typeName\":\"RunnerAdminException\"}",
        "{\"typeName\":\"RunnerScaleSetSessionConflictException\"}",
        "{\"sessionId\":\"00000000-0000-0000-0000-000000000000\"}",
        "{\"token\":\"a\\nb\"}",
        "{\"url\":\"no address\",\"token\":\"e30.eyJleHAiOjk5OTk5OTk5OTl9.e30\"}",
        "{\"sessionId\":\"00000000-0000-0000-0000-000000000000\",\"messageQueueUrl\":\"no address\",\"statistics\":{\"totalAssignedJobs\":4294967295}}",
        "{\"messageId\":2,\"messageType\":\"RunnerScaleSetJobMessages\",\"statistics\":{\"totalAssignedJobs\":4294967295},\"body\":\"[{\\\"messageType\\\":\\\"JobStarted\\\",\\\"runnerName\\\":\\\"no name\\\"}]\"}",
    ];
    let body = prop_oneof![
        proptest::sample::select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    (proptest::sample::select(&[200u16, 201, 202, 204, 301, 400, 401, 403, 404, 409, 429, 500, 501, 503][..]), body)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// No panic, and no request without end: every design ends when it is asked to.
    #[test]
    fn garbage_is_survived_or_ends_the_process(
        answers in proptest::collection::vec(proptest::option::of(garbage()), 1..12),
        repaired: bool,
    ) {
        let choices = if repaired { Choices::hardened() } else { Choices::upstream() };
        let room = Room::new(&choices, |_| ());
        room.server.queue_job("job-1", crate::arc::testing::SET);
        let meddle: Meddle = Arc::new(move |_, nth| {
            let (status, body) = answers[nth as usize % answers.len()].clone()?;
            Some(Wrong::Answer(status, body.into()))
        });
        let code = one(&room, &choices, 1_800, meddle);
        prop_assert!(code == exit::FAILED || code == exit::PANICKED);
        prop_assert!(room.clock.now() <= secs(1_800) + Duration::from_secs(120));
        prop_assert!(room.asked("http").len() < 20_000, "{}", room.asked("http").len());
    }
}
