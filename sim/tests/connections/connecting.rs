//! Connecting.

use squall_protocol::Timeout;
use squall_protocol::clock::timeout;
use squall_sim::net::{Active, Alpn, BACKLOG_MAX, Condition, ConnectError};

use crate::stage::{LATENCY, ROUND_TRIP, Stage, millis, play, secs};

#[test]
fn connecting_takes_one_round_trip() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.connect().await.unwrap();
        assert_eq!(stage.now().since_start(), ROUND_TRIP);
    });
}

#[test]
fn connecting_into_a_black_hole_hangs_until_the_callers_time_out() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.partition();
        let clock = stage.client.clock();
        let connected = timeout(&clock, secs(30), stage.connect()).await;
        assert_eq!(connected.err(), Some(Timeout(secs(30))));
        assert_eq!(stage.now().since_start(), secs(30));
        assert_eq!(stage.effects(), 5, "SYNs at 0, 1, 3, 7 and 15 s");
    });
}

#[test]
fn connecting_into_a_black_hole_gives_up_after_127_seconds() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.partition();
        assert_eq!(stage.connect().await.err(), Some(ConnectError::TimedOut));
        assert_eq!(stage.now().since_start(), secs(127));
    });
}

async fn connects_after(stage: Stage, partition: std::time::Duration) -> std::time::Duration {
    let _listener = stage.listen();
    stage.partition();
    let healing = stage.clone();
    stage.world.spawn("heal", async move {
        healing.sleep(partition).await;
        healing.heal();
    });
    stage.connect().await.unwrap();
    stage.now().since_start()
}

#[test]
fn a_syn_that_is_lost_is_sent_again_after_1_and_3_seconds() {
    assert_eq!(play(|stage| connects_after(stage, millis(500))), secs(1) + ROUND_TRIP);
    assert_eq!(play(|stage| connects_after(stage, millis(1500))), secs(3) + ROUND_TRIP);
    assert_eq!(play(|stage| connects_after(stage, millis(3500))), secs(7) + ROUND_TRIP);
}

#[test]
fn connecting_hangs_when_only_the_way_back_is_cut() {
    play(|stage| async move {
        let mut listener = stage.listen();
        stage.impose_back(Condition::Cut);
        assert_eq!(stage.connect().await.err(), Some(ConnectError::TimedOut));
        let clock = stage.server.clock();
        assert!(timeout(&clock, secs(1), listener.accept()).await.is_err(), "the server never sees a connection");
    });
}

#[test]
fn a_port_on_which_nothing_listens_refuses_after_one_round_trip() {
    play(|stage| async move {
        assert_eq!(stage.connect().await.err(), Some(ConnectError::Refused));
        assert_eq!(stage.now().since_start(), ROUND_TRIP);
    });
}

#[test]
fn a_refusing_host_refuses_although_somebody_listens() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.impose_out(Condition::Refuse);
        assert_eq!(stage.connect().await.err(), Some(ConnectError::Refused));
        stage.heal();
        assert!(stage.connect().await.is_ok());
        assert_eq!(stage.effects(), 1);
    });
}

#[test]
fn a_name_that_nobody_has_is_not_found() {
    play(|stage| async move {
        let net = stage.world.net();
        let connected = net.connect(stage.client.node().id(), "nobody", 80, Alpn::H1).await;
        assert_eq!(connected.err(), Some(ConnectError::NoName));
    });
}

#[test]
fn a_name_that_cannot_be_resolved_is_not_found_by_that_node_alone() {
    play(|stage| async move {
        let _listener = stage.listen();
        let client = stage.client.node().id();
        stage.world.net().impose(Active { fault: 0, from: Some(client), to: None, what: Condition::NoName });
        assert_eq!(stage.connect().await.err(), Some(ConnectError::NoName));
        let other = stage.world.node("other").id();
        assert!(stage.world.net().connect(other, "server", 80, Alpn::H1).await.is_ok());
    });
}

#[test]
fn a_machine_is_found_by_its_other_name() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.server.node().also_named("api.example");
        let client = stage.client.node().id();
        assert!(stage.world.net().connect(client, "api.example", 80, Alpn::H1).await.is_ok());
    });
}

#[test]
fn a_killed_process_no_longer_listens() {
    play(|stage| async move {
        let process = stage.server.clone();
        stage.server.spawn("listener", async move {
            let mut listener = process.listen(80).unwrap();
            loop {
                listener.accept().await;
            }
        });
        stage.sleep(millis(1)).await;
        assert!(stage.connect().await.is_ok());
        assert!(stage.server.kill());
        assert_eq!(stage.connect().await.err(), Some(ConnectError::Refused));
    });
}

#[test]
fn a_port_has_one_listener_at_a_time() {
    play(|stage| async move {
        let first = stage.listen();
        assert_eq!(stage.server.listen(80).err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
        drop(first);
        assert!(stage.server.listen(80).is_ok());
    });
}

#[test]
fn a_full_backlog_swallows_the_syn_until_there_is_room() {
    play(|stage| async move {
        let mut listener = stage.listen();
        let mut open = Vec::new();
        for _ in 0..BACKLOG_MAX {
            open.push(stage.connect().await.unwrap());
        }
        let began = stage.now();
        let mut late = {
            let at = stage.clone();
            stage.client_does(async move { at.connect().await.map(|_| at.now()) })
        };
        stage.sleep(millis(500)).await;
        assert!(late.so_far().is_none());
        listener.accept().await;
        let connected = late.done().await.unwrap();
        assert_eq!(connected.since(began), secs(1) + ROUND_TRIP);
    });
}

#[test]
fn connections_that_nobody_accepted_are_reset_when_the_listener_closes() {
    play(|stage| async move {
        let listener = stage.listen();
        let mut waiting = stage.connect().await.unwrap();
        drop(listener);
        assert_eq!(waiting.read(1).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(stage.now().since_start(), ROUND_TRIP + LATENCY);
        drop(waiting);
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn a_machine_connects_to_itself_through_any_partition() {
    play(|stage| async move {
        let mut listener = stage.listen();
        stage.world.net().impose(Active { fault: 0, from: None, to: None, what: Condition::Cut });
        let net = stage.world.net();
        let mut near = net.connect(stage.server.node().id(), "server", 80, Alpn::H1).await.unwrap();
        let mut far = listener.accept().await;
        near.write_all(b"to myself").await.unwrap();
        assert_eq!(far.read(100).await.unwrap(), "to myself");
        assert!(stage.now().since_start() < millis(1));
        assert_eq!(stage.effects(), 0);
    });
}

#[test]
fn a_caller_that_stops_waiting_leaves_no_connection_behind() {
    play(|stage| async move {
        let mut listener = stage.listen();
        let clock = stage.client.clock();
        assert!(timeout(&clock, millis(15), stage.connect()).await.is_err(), "the SYN is there, its answer is not");
        let mut served = listener.accept().await;
        assert!(served.read(1).await.unwrap().is_empty());
        drop(served);
        stage.sleep(secs(1)).await;
        assert_eq!(stage.connections(), 0);
    });
}
