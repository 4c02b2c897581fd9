//! Machines that die, boot and freeze under an open connection.

use std::io::ErrorKind;

use squall_sim::net::{Condition, RETRANSMIT_LIMIT};

use crate::stage::{LATENCY, Stage, idle_process, millis, play, secs};
use squall_sim::net::Stream;

/// A connection whose server end a process of the server's machine holds and reads from.
async fn with_reading_server(stage: &Stage) -> Stream {
    let (client, mut server) = stage.pair().await;
    stage.server.spawn("reader", async move {
        while server.read(1024).await.is_ok_and(|bytes| !bytes.is_empty()) {}
        std::future::pending::<()>().await;
    });
    client
}

#[test]
fn a_dead_host_sends_nothing_and_a_reader_hangs() {
    play(|stage| async move {
        let mut client = with_reading_server(&stage).await;
        assert_eq!(stage.server.node().crash(), 1);
        let mut reading = stage.client_does(async move { client.read(1).await });
        stage.sleep(secs(5 * 3600)).await;
        assert!(reading.so_far().is_none());
    });
}

#[test]
fn a_writer_to_a_dead_host_times_out_after_the_retransmission_limit() {
    play(|stage| async move {
        let mut client = with_reading_server(&stage).await;
        stage.server.node().crash();
        let sent = stage.now();
        client.write_all(b"hello?").await.unwrap();
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::TimedOut);
        let took = stage.now().since(sent);
        assert!(took >= RETRANSMIT_LIMIT && took < RETRANSMIT_LIMIT + secs(2), "{took:?}");
        drop(client);
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn a_host_that_booted_again_resets_old_connections_when_they_are_used() {
    play(|stage| async move {
        let mut client = with_reading_server(&stage).await;
        stage.server.node().crash();
        stage.sleep(secs(60)).await;
        stage.server.node().boot();
        let sent = stage.now();
        client.write_all(b"remember me?").await.unwrap();
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stage.now().since(sent), 2 * LATENCY);
        drop(client);
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn a_fin_to_a_host_that_booted_again_ends_the_connection_for_good() {
    play(|stage| async move {
        let client = with_reading_server(&stage).await;
        stage.server.node().crash();
        stage.server.node().boot();
        drop(client);
        stage.sleep(secs(1)).await;
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn what_left_a_machine_before_its_crash_arrives_and_nothing_after_it() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.server.spawn("writer", async move {
            server.write_all(b"left in time").await.unwrap();
            std::future::pending::<()>().await;
        });
        stage.sleep(millis(5)).await;
        stage.server.node().crash();
        assert_eq!(client.read(100).await.unwrap(), "left in time");
        let mut reading = stage.client_does(async move { client.read(1).await });
        stage.sleep(secs(3600)).await;
        assert!(reading.so_far().is_none(), "no FIN comes");
    });
}

#[test]
fn a_dead_host_does_not_retransmit() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.partition();
        stage.server.spawn("writer", async move {
            server.write_all(b"lost").await.unwrap();
            std::future::pending::<()>().await;
        });
        stage.sleep(secs(1)).await;
        stage.server.node().crash();
        stage.heal();
        let mut reading = stage.client_does(async move { client.read(1).await });
        stage.sleep(secs(3600)).await;
        assert!(reading.so_far().is_none());
    });
}

#[test]
fn what_waits_for_a_narrow_link_dies_with_its_machine() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_back(Condition::Narrow(10_000));
        stage.server.spawn("writer", async move {
            server.write_all(&[9; 50_000]).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut got = 0;
        while got < 10_000 {
            got += client.read(1 << 20).await.unwrap().len();
        }
        stage.server.node().crash();
        let mut more = stage.client_does(async move { client.read(1 << 20).await });
        stage.sleep(secs(60)).await;
        assert!(more.so_far().is_none());
    });
}

#[test]
fn a_host_that_is_down_does_not_even_refuse() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.server.node().crash();
        let clock = stage.client.clock();
        assert!(squall_protocol::clock::timeout(&clock, secs(10), stage.connect()).await.is_err());
        stage.server.node().boot();
        assert_eq!(stage.connect().await.err(), Some(squall_sim::net::ConnectError::Refused));
    });
}

#[test]
fn a_frozen_host_takes_nothing_and_then_everything() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        let process = idle_process(stage.server.node());
        process.spawn("echo", async move {
            while let Ok(bytes) = server.read(1024).await {
                server.write_all(&bytes).await.unwrap();
            }
        });
        stage.server.node().freeze();
        let sent = stage.now();
        client.write_all(b"wake up").await.unwrap();
        let thawing = stage.clone();
        stage.world.spawn("thaw", async move {
            thawing.sleep(secs(20)).await;
            thawing.server.node().thaw();
        });
        assert_eq!(client.read(100).await.unwrap(), "wake up");
        assert_eq!(stage.now().since(sent), 2 * LATENCY + millis(25_400), "at the seventh retransmission");
    });
}

#[test]
fn connecting_to_a_frozen_host_hangs() {
    play(|stage| async move {
        let _listener = stage.listen();
        stage.server.node().freeze();
        let clock = stage.client.clock();
        assert!(squall_protocol::clock::timeout(&clock, secs(10), stage.connect()).await.is_err());
    });
}

#[test]
fn what_had_left_a_machine_arrives_although_it_is_frozen_meanwhile() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        client.write_all(b"on its way").await.unwrap();
        stage.client.node().freeze();
        assert_eq!(server.read(100).await.unwrap(), "on its way");
        server.write_all(b"answer").await.unwrap();
        stage.sleep(secs(100)).await;
        stage.client.node().thaw();
        assert_eq!(client.read(100).await.unwrap(), "answer");
    });
}

#[test]
fn a_frozen_sender_neither_retransmits_nor_gives_up() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.partition();
        client.write_all(b"patience").await.unwrap();
        stage.sleep(secs(1)).await;
        stage.client.node().freeze();
        stage.sleep(secs(1)).await;
        stage.heal();
        stage.sleep(secs(5 * 3600)).await;
        let mut reading = {
            let at = stage.clone();
            stage.server_does(async move { server.read(100).await.map(|bytes| (bytes, at.now())) })
        };
        stage.sleep(secs(1)).await;
        assert!(reading.so_far().is_none());
        stage.client.node().thaw();
        let thawed = stage.now();
        let (bytes, at) = reading.done().await.unwrap();
        assert_eq!(bytes, "patience");
        assert!(at.since(thawed) < secs(2), "{:?}", at.since(thawed));
    });
}

#[test]
fn the_connections_of_a_process_that_was_killed_while_frozen_end_at_the_thaw() {
    play(|stage| async move {
        let mut client = with_reading_server(&stage).await;
        stage.server.node().freeze();
        stage.server.kill();
        let mut reading = stage.client_does(async move { client.read(1).await });
        stage.sleep(secs(60)).await;
        assert!(reading.so_far().is_none(), "a frozen machine sends no FIN");
        stage.server.node().thaw();
        assert!(reading.done().await.unwrap().is_empty());
    });
}
