//! Faults of the network.

use squall_protocol::TransportError;
use squall_sim::fault::{Direction, Fault, FaultKind, Target};

use crate::stage::{BIG_BYTES, agent_to_server, at_agent, at_server, fault, plan, play, told};

/// How long a request takes that begins at 2 s, in milliseconds.
fn request_ms(faults: impl Into<Vec<Fault>>, path: &'static str) -> (u64, u64) {
    let played = play(&plan(faults), async move |visitor| {
        visitor.until_ms(2_000).await;
        visitor.get(path).await.expect("it is answered in the end");
        visitor.now_ms() - 2_000
    });
    (played.seen, played.effects(0))
}

#[test]
fn latency_is_added_to_every_packet_in_its_direction() {
    let slow = |direction| [fault(FaultKind::Latency { add_ms: 500, direction }, agent_to_server())];
    let (both, effects) = request_ms(slow(Direction::Both), "/hello");
    assert!((2_000..2_100).contains(&both), "SYN, its answer, request and reply took {both} ms");
    // And the connection's end, both ways.
    assert_eq!(effects, 6);
    for direction in [Direction::Out, Direction::In] {
        let (one_way, effects) = request_ms(slow(direction), "/hello");
        assert!((1_000..1_100).contains(&one_way), "{direction:?} took {one_way} ms");
        assert_eq!(effects, 3);
    }
}

#[test]
fn a_narrow_link_takes_its_time_for_many_bytes() {
    let narrow = FaultKind::Bandwidth { bytes_per_s: 5_000, direction: Direction::In };
    let (narrow_ms, effects) = request_ms([fault(narrow, agent_to_server())], "/big");
    let least = BIG_BYTES as u64 * 1_000 / 5_000;
    assert!((least..least + 200).contains(&narrow_ms), "{narrow_ms} ms");
    assert!(effects > 0);
}

#[test]
fn whoever_connects_through_a_partition_hangs_until_a_later_syn_gets_through() {
    let cut = [fault(FaultKind::Partition { direction: Direction::Both }, agent_to_server())];
    let (hung, effects) = request_ms(cut, "/hello");
    // SYNs at 0, 1, 3, 7 and 15 s; the partition ends 9 s after the first.
    assert!((15_000..15_100).contains(&hung), "{hung} ms");
    assert_eq!(effects, 4);
}

#[test]
fn a_partition_of_the_way_back_lets_the_server_act_and_nobody_hear_of_it() {
    let deaf = [fault(FaultKind::Partition { direction: Direction::In }, agent_to_server())];
    let played = play(&plan(deaf), async |visitor| {
        visitor.get("/hello").await.unwrap();
        visitor.until_ms(2_000).await;
        let heard = visitor.within_ms(5_000, visitor.get("/hello")).await;
        assert!(heard.is_none(), "{heard:?}");
    });
    assert_eq!(played.commits, 2);
    assert!(played.effects(0) > 0);
}

#[test]
fn a_host_that_refuses_has_nothing_listening() {
    for target in [at_server(), Target { peer: Some("agent".to_owned()), ..at_server() }] {
        let played = play(&plan([fault(FaultKind::Refuse, target)]), async |visitor| {
            visitor.until_ms(2_000).await;
            visitor.get("/hello").await.unwrap_err()
        });
        assert_eq!(played.seen, TransportError::Refused);
        assert_eq!((played.commits, played.effects(0)), (0, 1));
    }
    let others = Target { peer: Some("late-agent".to_owned()), ..at_server() };
    assert_eq!(request_ms([fault(FaultKind::Refuse, others)], "/hello").1, 0);
}

#[test]
fn a_reset_breaks_the_connections_of_the_moment() {
    let reset = Fault { for_ms: 0, ..fault(FaultKind::Reset, agent_to_server()) };
    let played = play(&plan([reset]), async |visitor| {
        visitor.until_ms(500).await;
        let cut = visitor.get("/slow").await.unwrap_err();
        (cut, visitor.now_ms(), visitor.get("/hello").await.unwrap().status)
    });
    assert_eq!(played.seen, (TransportError::Reset, 1_000, 200));
    assert_eq!(played.effects(0), 1);
    assert_eq!(told(&played.ended.events, 0), [(1_000, "begins".to_owned()), (1_000, "ends".to_owned())]);
}

#[test]
fn a_reset_after_some_bytes_cuts_the_body() {
    let reset = FaultKind::ResetAfter { bytes: 1_000, direction: Direction::In };
    let played = play(&plan([fault(reset, agent_to_server())]), async |visitor| {
        visitor.until_ms(2_000).await;
        visitor.get("/big").await.unwrap()
    });
    assert_eq!(played.seen.broken, Some(TransportError::Reset));
    assert!((500..1_000).contains(&played.seen.body.len()), "{} bytes", played.seen.body.len());
    assert_eq!(played.effects(0), 1);
}

#[test]
fn a_name_without_address_is_told_as_such() {
    for target in [agent_to_server(), at_agent()] {
        let played = play(&plan([fault(FaultKind::Dns, target)]), async |visitor| {
            visitor.until_ms(2_000).await;
            visitor.get("/hello").await.unwrap_err()
        });
        assert_eq!(played.seen, TransportError::Dns { host: "server".to_owned() });
        assert_eq!(played.effects(0), 1);
    }
}
