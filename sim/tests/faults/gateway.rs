//! Faults of the gateway before a server.

use futures_util::future::join;
use http::Method;
use squall_protocol::{Receipt, TransportError};
use squall_sim::fault::{Fault, FaultKind, RetryAfter, Target, When};

use crate::stage::{Answer, BIG_BYTES, HEAL_MS, Played, Visitor, at_server, fault, plan, play, receipt, told};

/// What one request at 2 s comes to, by HTTP/1.1 or 2.
fn visit(faults: impl Into<Vec<Fault>>, path: &'static str) -> [Played<Result<Answer, TransportError>>; 2] {
    let plan = plan(faults);
    let once = async move |visitor: Visitor| {
        visitor.until_ms(2_000).await;
        visitor.send(if path == "/take" { Method::POST } else { Method::GET }, path).await
    };
    [play(&plan, once), play(&plan, async move |visitor| once(visitor.h2()).await)]
}

fn status(status: u16, when: When, retry_after: Option<RetryAfter>) -> [Fault; 1] {
    [fault(FaultKind::Status { status, when, retry_after, percent: 100 }, at_server())]
}

#[test]
fn a_status_before_commit_keeps_the_request_from_the_server() {
    for played in visit(status(503, When::BeforeCommit, Some(RetryAfter::Seconds(7))), "/take") {
        let answer = played.seen.as_ref().unwrap();
        assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (503, "7"));
        assert_eq!(answer.headers["content-type"], "text/html");
        assert_eq!((played.commits, played.effects(0)), (0, 1));
        let told = told(&played.ended.events, 0);
        assert_eq!(told[1].1, "503 in place of the server to /take");
    }
}

#[test]
fn a_status_after_commit_hides_what_the_server_did() {
    for played in visit(status(504, When::AfterCommit, None), "/take") {
        let answer = played.seen.as_ref().unwrap();
        assert_eq!((answer.status, answer.headers.get("retry-after")), (504, None));
        assert_eq!((played.commits, played.effects(0)), (1, 1));
    }
}

#[test]
fn a_retry_after_date_is_by_the_clock_of_the_gateway() {
    let ahead = Fault { at_ms: 0, ..fault(FaultKind::ClockStep { by_ms: 3_600_000 }, at_server()) };
    let [busy] = status(429, When::BeforeCommit, Some(RetryAfter::Date(60)));
    let [played, _] = visit([busy, ahead], "/hello");
    let answer = played.seen.unwrap();
    assert_eq!(answer.headers["retry-after"], "Thu, 01 Jan 2026 01:01:02 GMT");
    let [played, _] = visit(status(429, When::BeforeCommit, Some(RetryAfter::Absurd("soon".to_owned()))), "/hello");
    assert_eq!(played.seen.unwrap().headers["retry-after"], "soon");
}

#[test]
fn a_route_confines_a_fault() {
    let [busy] = status(503, When::BeforeCommit, None);
    let other = Fault { target: Target { route: Some("/other".to_owned()), ..at_server() }, ..busy.clone() };
    let elsewhere = Fault { target: Target { node: Some("agent".to_owned()), ..Target::default() }, ..busy };
    for played in visit([other, elsewhere], "/hello") {
        assert_eq!(played.seen.as_ref().unwrap().status, 200);
        assert_eq!((played.effects(0), played.effects(1)), (0, 0));
    }
}

#[test]
fn a_dropped_reply_leaves_the_caller_in_doubt() {
    let [h1, h2] = visit([fault(FaultKind::DropReply { percent: 100 }, at_server())], "/take");
    assert_eq!(h1.seen.as_ref().unwrap_err(), &TransportError::ClosedEarly);
    assert_eq!(h2.seen.as_ref().unwrap_err(), &TransportError::StreamReset { code: 2 });
    for played in [h1, h2] {
        assert_eq!((played.commits, played.effects(0)), (1, 1));
    }
}

#[test]
fn a_fault_meets_answers_to_requests_from_before_it() {
    let played = play(&plan([fault(FaultKind::DropReply { percent: 100 }, at_server())]), async |visitor| {
        let polled = visitor.get("/slow").await;
        (polled.unwrap_err(), visitor.now_ms() > 5_000)
    });
    assert_eq!(played.seen, (TransportError::ClosedEarly, true));
}

#[test]
fn a_delay_holds_the_answer_back() {
    let delay = |by_ms| FaultKind::Delay { by_ms, percent: 100 };
    let played = play(&plan([fault(delay(3_000), at_server())]), async |visitor| {
        visitor.until_ms(2_000).await;
        let (h1, h2) = join(visitor.get("/hello"), visitor.h2().get("/hello")).await;
        (h1.unwrap().status, h2.unwrap().status, visitor.now_ms())
    });
    assert!(matches!(played.seen, (200, 200, 5_000..5_100)), "{:?}", played.seen);
    assert_eq!((played.commits, played.effects(0)), (2, 2));
}

#[test]
fn answers_held_back_follow_soon_after_the_plan_has_healed() {
    let answered_ms = |by_ms| {
        let delay = FaultKind::Delay { by_ms, percent: 100 };
        let played = play(&plan([fault(delay, at_server())]), async |visitor| {
            visitor.until_ms(2_000).await;
            visitor.get("/hello").await.unwrap();
            visitor.now_ms()
        });
        played.seen
    };
    let a_quarter_of_the_rest = answered_ms(HEAL_MS - 2_000 + 60_000);
    assert!((HEAL_MS + 15_000..HEAL_MS + 15_100).contains(&a_quarter_of_the_rest), "{a_quarter_of_the_rest}");
    let at_last = answered_ms(3_000_000);
    assert!((HEAL_MS + 30_000..HEAL_MS + 30_100).contains(&at_last), "{at_last}");
}

fn late(by_ms: u64) -> [Fault; 1] {
    [fault(FaultKind::Late { by_ms, percent: 100 }, at_server())]
}

#[test]
fn a_caller_who_waits_for_his_late_request_is_answered() {
    let played = play(&plan(late(3_000)), async |visitor| {
        visitor.until_ms(2_000).await;
        let (h1, h2) = join(visitor.get("/hello"), visitor.h2().get("/hello")).await;
        (h1.unwrap().status, h2.unwrap().status, visitor.now_ms())
    });
    assert!(matches!(played.seen, (200, 200, 5_000..5_100)), "{:?}", played.seen);
    assert_eq!((played.commits, played.effects(0)), (2, 2));
}

#[test]
fn a_late_request_is_carried_out_after_its_caller_gave_it_up() {
    for version in [Visitor::clone, Visitor::h2] {
        let played = play(&plan(late(20_000)), async move |visitor| {
            visitor.until_ms(2_000).await;
            let visitor = version(&visitor);
            let answer = visitor.within_ms(5_000, visitor.send(Method::POST, "/take")).await;
            visitor.until_ms(21_900).await;
            answer
        });
        assert_eq!((&played.seen, played.commits, played.effects(0)), (&None, 1, 1));
        let told = told(&played.ended.events, 0);
        let without = told.iter().find(|(_, what)| what == "request to /take goes on without its caller");
        assert!(matches!(without, Some((22_000..22_100, _))), "{told:?}");
    }
}

#[test]
fn a_late_request_is_lost_with_the_servers_process() {
    let [held] = late(20_000);
    let api = FaultKind::Kill { service: "api".to_owned() };
    let kill = Fault { at_ms: 10_000, for_ms: 0, ..fault(api, at_server()) };
    let played = play(&plan([held, kill]), async |visitor| {
        visitor.until_ms(2_000).await;
        visitor.send(Method::POST, "/take").await.unwrap_err()
    });
    assert_eq!((&played.seen, played.commits, played.effects(0)), (&TransportError::ClosedEarly, 0, 1));
}

#[test]
fn late_requests_follow_soon_after_the_plan_has_healed() {
    let asked_ms = |by_ms| {
        let played = play(&plan(late(by_ms)), async |visitor| {
            visitor.until_ms(2_000).await;
            visitor.get("/hello").await.unwrap();
            visitor.now_ms()
        });
        played.seen
    };
    let a_quarter_of_the_rest = asked_ms(HEAL_MS - 2_000 + 60_000);
    assert!((HEAL_MS + 15_000..HEAL_MS + 15_100).contains(&a_quarter_of_the_rest), "{a_quarter_of_the_rest}");
}

#[test]
fn a_truncated_body_breaks_off() {
    for path in ["/big", "/chunked"] {
        let [h1, h2] = visit([fault(FaultKind::Truncate { bytes: 1_234, percent: 100 }, at_server())], path);
        for (played, broken) in [(h1, TransportError::ClosedEarly), (h2, TransportError::StreamReset { code: 2 })] {
            let answer = played.seen.as_ref().unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 1_234), "{path}");
            assert_eq!(answer.broken, Some(broken), "{path}");
            assert_eq!(played.effects(0), 1);
        }
    }
    for played in visit([fault(FaultKind::Truncate { bytes: 0, percent: 100 }, at_server())], "/big") {
        assert_eq!((played.seen.unwrap().body.len(), played.ended.effects.of(0)), (0, 1));
    }
}

#[test]
fn a_body_that_is_no_longer_than_the_cut_is_whole_and_no_effect_is_claimed() {
    for path in ["/big", "/chunked"] {
        let bytes = BIG_BYTES as u64;
        for kind in [FaultKind::Truncate { bytes, percent: 100 }, FaultKind::Stall { bytes, percent: 100 }] {
            for played in visit([fault(kind.clone(), at_server())], path) {
                let answer = played.seen.as_ref().unwrap();
                assert_eq!((answer.body.len(), answer.broken.clone()), (BIG_BYTES, None), "{kind:?} {path}");
                assert_eq!(played.effects(0), 0, "{kind:?} {path}");
            }
        }
    }
}

#[test]
fn a_stalled_body_is_silent_for_ever() {
    for path in ["/big", "/chunked"] {
        let stall = [fault(FaultKind::Stall { bytes: 1_234, percent: 100 }, at_server())];
        let played = play(&plan(stall), async move |visitor| {
            visitor.until_ms(2_000).await;
            let by_h2 = visitor.h2();
            visitor.within_ms(3_000_000, join(visitor.get(path), by_h2.get(path))).await.is_none()
        });
        assert!(played.seen, "somebody got an answer");
        assert_eq!((played.commits, played.effects(0)), (2, 2));
    }
}

#[test]
fn a_captive_portal_answers_200_and_something_else() {
    for played in visit([fault(FaultKind::LoginPage { percent: 100 }, at_server())], "/take") {
        let answer = played.seen.as_ref().unwrap();
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, "text/html"));
        assert!(answer.body.starts_with(b"<!DOCTYPE html>"));
        assert_eq!((played.commits, played.effects(0)), (0, 1));
    }
}

#[test]
fn a_stream_reset_carries_its_code() {
    for (code, when, commits) in [(7, When::BeforeCommit, 0), (0xb, When::AfterCommit, 1)] {
        let reset = FaultKind::StreamReset { code, when, percent: 100 };
        let [h1, h2] = visit([fault(reset, at_server())], "/take");
        assert_eq!(h1.seen.as_ref().unwrap_err(), &TransportError::ClosedEarly);
        assert_eq!(h2.seen.as_ref().unwrap_err(), &TransportError::StreamReset { code });
        for played in [h1, h2] {
            assert_eq!((played.commits, played.effects(0)), (commits, 1));
        }
    }
}

#[test]
fn a_reset_stream_leaves_the_others_of_its_connection_alone() {
    let route = Some("/other".to_owned());
    let reset = FaultKind::StreamReset { code: 2, when: When::BeforeCommit, percent: 100 };
    let played = play(&plan([fault(reset, Target { route, ..at_server() })]), async |visitor| {
        visitor.until_ms(2_000).await;
        let visitor = visitor.h2();
        let (slow, reset) = join(visitor.get("/slow"), visitor.get("/other")).await;
        (slow.unwrap().status, reset.unwrap_err())
    });
    assert_eq!(played.seen, (200, TransportError::StreamReset { code: 2 }));
}

#[test]
fn a_connection_going_away_answers_what_is_under_way_and_takes_nothing_new() {
    let route = Some("/other".to_owned());
    let going = fault(FaultKind::GoAway { percent: 100 }, Target { route, ..at_server() });
    let played = play(&plan([going]), async |visitor| {
        visitor.until_ms(2_000).await;
        let visitor = visitor.h2();
        visitor.get("/hello").await.unwrap();
        let later = async {
            let told = visitor.get("/other").await.unwrap().status;
            let mut after = Vec::new();
            for _ in 0..20 {
                after.push(visitor.get("/hello").await.unwrap().status);
            }
            (told, after)
        };
        let (slow, later) = join(visitor.get("/slow"), later).await;
        (slow.unwrap().status, later)
    });
    assert_eq!(played.seen, (200, (200, vec![200; 20])));
    assert_eq!(played.effects(0), 1);
    assert_eq!(connections_of_agent(&played), 2);
}

#[test]
fn over_http_1_going_away_is_connection_close() {
    let going = [fault(FaultKind::GoAway { percent: 100 }, at_server())];
    let played = play(&plan(going), async |visitor| {
        visitor.until_ms(2_000).await;
        let first = visitor.get("/hello").await.unwrap();
        visitor.get("/hello").await.unwrap();
        first.headers["connection"].to_str().unwrap().to_owned()
    });
    assert_eq!(played.seen, "close");
    assert_eq!(played.effects(0), 2);
    assert_eq!(connections_of_agent(&played), 2);
}

fn connections_of_agent<T>(played: &Played<T>) -> usize {
    let agent = played.ended.nodes.iter().position(|name| name == "agent").unwrap() as u32;
    let connected = |event: &&squall_sim::trace::Event| {
        event.node.0 == agent && matches!(event.what, squall_sim::trace::What::Connected { .. })
    };
    played.ended.events.iter().filter(connected).count()
}

#[test]
fn a_receipt_is_written_when_the_answer_has_arrived_whole() {
    let written = |kind: Option<FaultKind>| {
        let faults: Vec<Fault> = kind.into_iter().map(|kind| fault(kind, at_server())).collect();
        visit(faults, "/receipt").map(|played| {
            let Receipt(facts) = receipt();
            let of = |entry: &&squall_sim::journal::Entry| facts.contains(&entry.fact);
            let seen = played.seen.map(|answer| answer.headers.contains_key("x-receipt"));
            assert!(!seen.unwrap_or_default(), "the header is the network's own");
            let at = |entry: &squall_sim::journal::Entry| played.ended.nodes[entry.node.0 as usize].clone();
            played.ended.journal.iter().filter(of).map(at).collect::<Vec<_>>()
        })
    };
    assert_eq!(written(None), [["agent"], ["agent"]]);
    for whole in [FaultKind::Delay { by_ms: 100, percent: 100 }, FaultKind::Late { by_ms: 100, percent: 100 }] {
        assert_eq!(written(Some(whole.clone())), [["agent"], ["agent"]], "{whole:?}");
    }
    let lost = [
        FaultKind::DropReply { percent: 100 },
        FaultKind::Truncate { bytes: 2, percent: 100 },
        FaultKind::LoginPage { percent: 100 },
        FaultKind::Status { status: 504, when: When::AfterCommit, retry_after: None, percent: 100 },
        FaultKind::StreamReset { code: 2, when: When::AfterCommit, percent: 100 },
    ];
    for kind in lost {
        assert_eq!(written(Some(kind.clone())), [const { Vec::<String>::new() }; 2], "{kind:?}");
    }
}
