//! Partitions under an open connection.

use std::io::ErrorKind;
use std::time::Duration;

use squall_sim::net::{Condition, RETRANSMIT_LIMIT, Stream};

use crate::stage::{LATENCY, Stage, millis, play, secs};

/// When the eleventh copy is sent, counted from the first: 200 ms doubled ten times up to 102.4 s, and then 120 s.
const ELEVENTH_RETRANSMISSION: Duration = Duration::from_millis(204_600 + 120_000);

async fn arrives_after(stage: &Stage, server: &mut Stream, partition: Duration) -> Duration {
    let sent = stage.now();
    let healing = stage.clone();
    stage.world.spawn("heal", async move {
        healing.sleep(partition).await;
        healing.heal();
    });
    assert_eq!(server.read(100).await.unwrap(), "through");
    stage.now().since(sent)
}

#[test]
fn data_sent_into_a_five_minute_partition_arrives_with_the_next_retransmission() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.partition();
        client.write_all(b"through").await.unwrap();
        let took = arrives_after(&stage, &mut server, secs(300)).await;
        assert_eq!(took, LATENCY + ELEVENTH_RETRANSMISSION);
    });
}

#[test]
fn data_sent_into_a_short_partition_arrives_after_the_doubling_pauses() {
    for (partition, copies_sent_after) in [(100, 200), (500, 600), (1000, 1400), (2000, 3000)] {
        play(move |stage| async move {
            let (mut client, mut server) = stage.pair().await;
            stage.partition();
            client.write_all(b"through").await.unwrap();
            let took = arrives_after(&stage, &mut server, millis(partition)).await;
            assert_eq!(took, LATENCY + millis(copies_sent_after));
        });
    }
}

#[test]
fn what_is_written_after_the_heal_waits_for_the_retransmission_of_what_was_lost() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.partition();
        let sent = stage.now();
        client.write_all(b"first ").await.unwrap();
        stage.sleep(millis(650)).await;
        stage.heal();
        client.write_all(b"second").await.unwrap();
        let mut got = Vec::new();
        while got.len() < 12 {
            got.extend_from_slice(&server.read(100).await.unwrap());
            assert_eq!(stage.now().since(sent), LATENCY + millis(1400));
        }
        assert_eq!(got, b"first second");
    });
}

#[test]
fn a_partition_that_outlasts_retransmission_times_the_writer_out() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.partition();
        let sent = stage.now();
        client.write_all(b"lost").await.unwrap();
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::TimedOut);
        let took = stage.now().since(sent);
        assert!(took >= RETRANSMIT_LIMIT && took < RETRANSMIT_LIMIT + secs(2), "{took:?}");
        stage.heal();
        server.write_all(b"anybody?").await.unwrap();
        assert_eq!(server.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset, "the peer was half-open");
    });
}

#[test]
fn a_connection_on_which_nothing_is_sent_survives_any_partition() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.partition();
        stage.sleep(secs(5 * 3600)).await;
        stage.heal();
        client.write_all(b"good morning").await.unwrap();
        assert_eq!(server.read(100).await.unwrap(), "good morning");
    });
}

#[test]
fn data_arrives_through_a_one_way_partition_whose_acknowledgements_are_lost() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_back(Condition::Cut);
        let sent = stage.now();
        client.write_all(b"one way").await.unwrap();
        assert_eq!(server.read(100).await.unwrap(), "one way");
        assert_eq!(stage.now().since(sent), LATENCY);
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::TimedOut, "its sender hears nothing of it");
        assert!(stage.now().since(sent) >= RETRANSMIT_LIMIT);
    });
}

#[test]
fn a_one_way_partition_that_heals_in_time_harms_nobody() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_back(Condition::Cut);
        client.write_all(b"question").await.unwrap();
        assert_eq!(server.read(100).await.unwrap(), "question");
        server.write_all(b"answer").await.unwrap();
        stage.sleep(secs(60)).await;
        stage.heal();
        assert_eq!(client.read(100).await.unwrap(), "answer");
        stage.sleep(secs(3600)).await;
        client.write_all(b"thanks").await.unwrap();
        assert_eq!(server.read(100).await.unwrap(), "thanks");
    });
}

#[test]
fn a_writer_without_acknowledgements_has_to_wait_for_room() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_back(Condition::Cut);
        let mut writing = stage.client_does(async move {
            client.write_all(&[1; 200_000]).await.unwrap();
            client
        });
        stage.server_does(async move { while !server.read(16 * 1024).await.unwrap().is_empty() {} });
        stage.sleep(secs(30)).await;
        assert!(writing.so_far().is_none());
        stage.heal();
        writing.done().await;
        assert!(stage.now().since_start() < secs(60));
    });
}

#[test]
fn a_fin_is_retransmitted_too() {
    play(|stage| async move {
        let (client, mut server) = stage.pair().await;
        stage.partition();
        drop(client);
        stage.sleep(secs(10)).await;
        stage.heal();
        assert!(server.read(1).await.unwrap().is_empty());
        drop(server);
        stage.sleep(secs(1)).await;
        assert_eq!(stage.connections(), 0);
    });
}

#[test]
fn the_end_of_a_process_behind_a_partition_is_forgotten_after_the_limit() {
    play(|stage| async move {
        let (client, server) = stage.pair().await;
        stage.partition();
        drop(client);
        drop(server);
        stage.sleep(secs(60)).await;
        assert_eq!(stage.connections(), 1, "both machines still send their FIN");
        stage.sleep(RETRANSMIT_LIMIT + secs(60)).await;
        assert_eq!(stage.connections(), 0);
    });
}
