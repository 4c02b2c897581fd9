//! Orderly ends.

use std::io::ErrorKind;

use crate::stage::{LATENCY, idle_process, millis, play, read_to_end, secs};

#[test]
fn what_is_written_arrives_without_a_flush() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        let sent = stage.now();
        client.write_all(b"unflushed").await.unwrap();
        assert_eq!(server.read(100).await.unwrap(), "unflushed");
        assert_eq!(stage.now().since(sent), LATENCY);
    });
}

#[test]
fn a_finished_writer_is_read_to_its_end_and_can_still_read() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        client.write_all(b"question").await.unwrap();
        client.finish();
        assert_eq!(client.write_all(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(read_to_end(&mut server).await.unwrap(), b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(read_to_end(&mut client).await.unwrap(), b"answer");
    });
}

#[test]
fn finishing_twice_is_finishing_once() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        client.finish();
        client.finish();
        assert!(server.read(1).await.unwrap().is_empty());
        assert!(server.read(1).await.unwrap().is_empty());
    });
}

#[test]
fn a_killed_process_ends_its_connections_with_a_fin() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        let process = idle_process(stage.server.node());
        process.spawn("holder", async move {
            let mut server = server;
            server.write_all(b"last words").await.unwrap();
            std::future::pending::<()>().await;
        });
        stage.sleep(millis(1)).await;
        process.kill();
        assert_eq!(read_to_end(&mut client).await.unwrap(), b"last words");
    });
}

#[test]
fn a_killed_process_that_left_data_unread_resets_its_connections() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        let process = idle_process(stage.server.node());
        process.spawn("holder", async move {
            let _held = server;
            std::future::pending::<()>().await;
        });
        client.write_all(b"nobody reads this").await.unwrap();
        stage.sleep(secs(1)).await;
        process.kill();
        assert_eq!(client.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_for_unread_data_does_not_overtake_what_was_sent_before() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        client.write_all(b"long request").await.unwrap();
        stage.sleep(secs(1)).await;
        server.write_all(b"early answer").await.unwrap();
        drop(server);
        assert_eq!(client.read(100).await.unwrap(), "early answer");
        assert_eq!(client.read(100).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn writing_to_a_peer_that_has_closed_works_once_and_then_breaks() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        drop(server);
        assert!(client.read(1).await.unwrap().is_empty());
        client.write_all(b"are you there?").await.unwrap();
        stage.sleep(secs(1)).await;
        assert_eq!(client.write_all(b"hello?").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(client.read(1).await.unwrap().is_empty(), "the end was there before the reset");
    });
}

#[test]
fn a_connection_is_forgotten_when_both_ends_are_closed() {
    play(|stage| async move {
        for order in 0..4 {
            let (mut client, mut server) = stage.pair().await;
            assert_eq!(stage.connections(), 1);
            client.write_all(b"unread").await.unwrap();
            match order {
                0 => drop((client, server)),
                1 => {
                    drop(client);
                    stage.sleep(secs(1)).await;
                    drop(server);
                }
                2 => {
                    server.finish();
                    stage.sleep(secs(1)).await;
                    drop(server);
                    drop(client);
                }
                _ => {
                    server.reset();
                    drop(client);
                }
            }
            stage.sleep(secs(1)).await;
            assert_eq!(stage.connections(), 0, "in order {order}");
        }
    });
}
