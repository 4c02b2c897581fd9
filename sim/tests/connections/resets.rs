//! Resets.

use std::io::ErrorKind;

use squall_sim::net::Condition;

use crate::stage::{LATENCY, play, read_exactly, secs};

#[test]
fn a_reset_now_is_seen_by_the_reader_after_one_latency() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        let at = stage.now();
        server.reset();
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stage.now().since(at), LATENCY);
        assert_eq!(client.write_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe, "an error is told once");
        assert!(client.read(1).await.unwrap().is_empty());
    });
}

#[test]
fn what_arrived_before_a_reset_can_still_be_read() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        server.write_all(b"buffered").await.unwrap();
        stage.sleep(secs(1)).await;
        server.reset();
        stage.sleep(secs(1)).await;
        assert_eq!(client.read(4).await.unwrap(), "buff");
        assert_eq!(client.read(100).await.unwrap(), "ered");
        assert_eq!(client.read(100).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_wakes_a_writer_that_waits_for_room() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        let writing = stage.client_does(async move { client.write_all(&[0; 200_000]).await });
        stage.sleep(secs(1)).await;
        server.reset();
        assert_eq!(writing.done().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_that_is_lost_leaves_a_half_open_peer() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        stage.partition();
        server.reset();
        stage.sleep(secs(1)).await;
        stage.heal();
        let mut reading = {
            let at = stage.clone();
            stage.client_does(async move {
                let read = client.read(1).await;
                (client, read.map(|_| at.now()))
            })
        };
        stage.sleep(secs(3600)).await;
        assert!(reading.so_far().is_none(), "nobody tells the reader");
        assert_eq!(stage.connections(), 1);
    });
}

#[test]
fn the_first_write_on_a_half_open_connection_brings_the_reset() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        stage.partition();
        server.reset();
        stage.sleep(secs(1)).await;
        stage.heal();
        client.write_all(b"still there?").await.unwrap();
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        drop(client);
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn something_in_between_resets_both_ends_after_so_many_bytes() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_back(Condition::ResetAfter(10));
        server.write_all(b"123456").await.unwrap();
        assert_eq!(read_exactly(&mut client, 6).await, b"123456");
        server.write_all(b"7890abcdef").await.unwrap();
        assert_eq!(read_exactly(&mut client, 4).await, b"7890");
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stage.effects(), 1);
        drop((client, server));
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn something_in_between_that_resets_one_way_lets_the_other_way_pass() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_back(Condition::ResetAfter(0));
        client.write_all(&[7; 50_000]).await.unwrap();
        assert_eq!(read_exactly(&mut server, 50_000).await.len(), 50_000);
        assert_eq!(stage.effects(), 0);
    });
}

#[test]
fn all_connections_between_two_machines_are_reset_at_once() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        let (a, b) = (stage.client.node().id(), stage.server.node().id());
        stage.world.net().reset_connections(0, Some(b), Some(a));
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stage.effects(), 1);
    });
}
