//! Order, bandwidth and windows.

use std::io::ErrorKind;

use squall_sim::net::{Condition, LinkProfile, RETRANSMIT_LIMIT, WINDOW_BYTES};
use squall_sim::trace::Keep;
use squall_sim::{Halt, SimTime, run};

use crate::stage::{LATENCY, ROUND_TRIP, millis, play, play_with_seed, read_exactly, secs};

#[test]
fn segments_keep_their_order_whatever_latencies_are_drawn() {
    for seed in 0..20 {
        play_with_seed(seed, |stage| async move {
            stage.world.links(LinkProfile { latency: millis(1)..millis(500), bandwidth: None });
            let (mut client, mut server) = stage.pair().await;
            let numbers: Vec<u8> = (0..200).collect();
            let sent = numbers.clone();
            let pausing = stage.clone();
            let writing = stage.client_does(async move {
                for number in sent {
                    client.write_all(&[number]).await.unwrap();
                    pausing.sleep(millis(3)).await;
                }
                client
            });
            assert_eq!(read_exactly(&mut server, 200).await, numbers);
            writing.done().await;
        });
    }
}

#[test]
fn latency_is_added_by_a_slow_link() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_out(Condition::Slow(secs(2)));
        let sent = stage.now();
        client.write_all(b"slowly").await.unwrap();
        assert_eq!(server.read(10).await.unwrap(), "slowly");
        assert_eq!(stage.now().since(sent), LATENCY + secs(2));
    });
}

#[test]
fn a_narrow_link_passes_so_many_bytes_a_second() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_out(Condition::Narrow(50_000));
        let began = stage.now();
        let writing = stage.client_does(async move {
            client.write_all(&[0; 500_000]).await.unwrap();
            client
        });
        read_exactly(&mut server, 250_000).await;
        let half = stage.now().since(began);
        read_exactly(&mut server, 250_000).await;
        let whole = stage.now().since(began);
        assert!(half >= secs(5) && half < millis(5_200), "{half:?}");
        assert!(whole >= secs(10) && whole < millis(10_400), "{whole:?}");
        writing.done().await;
    });
}

#[test]
fn what_waits_for_a_narrow_link_goes_on_at_once_when_it_is_wide_again() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        stage.impose_out(Condition::Narrow(1_000));
        let sent: Vec<u8> = (0..60_000_u32).map(|place| (place / 256) as u8).collect();
        let writing = stage.client_does({
            let sent = sent.clone();
            async move {
                client.write_all(&sent).await.unwrap();
                client.write_all(b"after").await.unwrap();
                client
            }
        });
        let first = read_exactly(&mut server, 10_000).await;
        stage.heal();
        let lifted = stage.now();
        let rest = read_exactly(&mut server, 50_000).await;
        assert_eq!(stage.now().since(lifted), LATENCY);
        assert_eq!([first, rest].concat(), sent);
        assert_eq!(server.read(5).await.unwrap(), "after");
        writing.done().await;
    });
}

#[test]
fn what_waits_for_a_link_waits_longer_when_it_becomes_narrower() {
    play(|stage| async move {
        let profile = LinkProfile { latency: LATENCY..LATENCY, bandwidth: Some(10_000) };
        stage.world.link(stage.client.node(), stage.server.node(), &profile);
        let (mut client, mut server) = stage.pair().await;
        let began = stage.now();
        let writing = stage.client_does(async move {
            client.write_all(&[0; 60_000]).await.unwrap();
            client
        });
        stage.sleep(secs(3)).await;
        stage.impose_out(Condition::Narrow(1_000));
        read_exactly(&mut server, 60_000).await;
        assert_eq!(stage.now().since(began), secs(3) + secs(30) + LATENCY);
        writing.done().await;
    });
}

#[test]
fn packets_without_data_do_not_wait_for_a_narrow_link() {
    play(|stage| async move {
        let mut listener = stage.listen();
        let (mut client, mut server) = (stage.connect().await.unwrap(), listener.accept().await);
        stage.impose_out(Condition::Narrow(100));
        client.write_all(&[0; 10_000]).await.unwrap();
        let began = stage.now();
        let another = stage.connect().await.unwrap();
        assert_eq!(stage.now().since(began), ROUND_TRIP);
        // Its end comes after its data all the same.
        client.finish();
        assert_eq!(read_exactly(&mut server, 10_000).await.len(), 10_000);
        assert_eq!(server.read(1).await.unwrap(), "");
        assert_eq!(stage.now().since(began), secs(100) + LATENCY);
        drop(another);
    });
}

#[test]
fn a_link_has_the_bandwidth_of_its_profile_and_connections_share_it() {
    play(|stage| async move {
        let profile = LinkProfile { latency: LATENCY..LATENCY, bandwidth: Some(50_000) };
        stage.world.link(stage.client.node(), stage.server.node(), &profile);
        let mut listener = stage.listen();
        let began = stage.now();
        let mut reading = Vec::new();
        for _ in 0..2 {
            let mut client = stage.connect().await.unwrap();
            stage.client.spawn("writer", async move {
                client.write_all(&[0; 100_000]).await.unwrap();
                std::future::pending::<()>().await;
            });
            let mut server = listener.accept().await;
            reading.push(stage.server_does(async move { read_exactly(&mut server, 100_000).await.len() }));
        }
        for done in reading {
            assert_eq!(done.done().await, 100_000);
        }
        let took = stage.now().since(began);
        assert!(took >= secs(4) && took < millis(4_400), "{took:?}");
    });
}

#[test]
fn a_writer_waits_when_the_reader_does_not_read() {
    play(|stage| async move {
        let (mut client, mut server) = stage.pair().await;
        let mut writing = stage.client_does(async move {
            client.write_all(&[0; WINDOW_BYTES + 1]).await.unwrap();
            client
        });
        stage.sleep(secs(3600)).await;
        assert!(writing.so_far().is_none());
        let read = stage.now();
        assert_eq!(server.read(1).await.unwrap().len(), 1);
        let client = writing.done().await;
        assert_eq!(stage.now(), read);
        assert_eq!(read_exactly(&mut server, WINDOW_BYTES).await.len(), WINDOW_BYTES);
        assert_eq!(stage.now().since(read), LATENCY);
        drop(client);
    });
}

#[test]
fn a_writer_that_waits_for_room_on_a_dead_host_times_out() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        stage.server.spawn("holder", async move {
            let _held = server;
            std::future::pending::<()>().await;
        });
        let writing = stage.client_does(async move { client.write_all(&[0; 2 * WINDOW_BYTES]).await });
        stage.sleep(secs(600)).await;
        stage.server.node().crash();
        let died = stage.now();
        assert_eq!(writing.done().await.unwrap_err().kind(), ErrorKind::TimedOut);
        let took = stage.now().since(died);
        assert!(took >= RETRANSMIT_LIMIT && took < RETRANSMIT_LIMIT + secs(240), "{took:?}");
    });
}

#[test]
fn a_writer_that_waits_for_room_learns_of_a_boot_from_its_probe() {
    play(|stage| async move {
        let (mut client, server) = stage.pair().await;
        stage.server.spawn("holder", async move {
            let _held = server;
            std::future::pending::<()>().await;
        });
        let writing = stage.client_does(async move { client.write_all(&[0; 2 * WINDOW_BYTES]).await });
        stage.sleep(secs(10)).await;
        stage.server.node().crash();
        stage.server.node().boot();
        assert_eq!(writing.done().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(stage.now().since_start() < secs(60));
    });
}

#[test]
fn an_idle_hour_costs_nothing() {
    // A step budget for one instant is far below what an hour of polling would take, and idle time takes no steps.
    let ended = run(1, Keep::Events, SimTime::from_secs(1000 * 3600), |world| {
        let (client, server) = (world.node("client"), world.node("server"));
        let net = world.net().clone();
        server.start("server", |process| async move {
            let mut listener = process.listen(80).unwrap();
            let _served = listener.accept().await;
            std::future::pending::<()>().await;
        });
        let from = client.id();
        client.start("client", move |_| async move {
            let _open = net.connect(from, "server", 80, squall_sim::net::Alpn::H1).await.unwrap();
            std::future::pending::<()>().await;
        });
    });
    assert_eq!(ended.halt, Halt::Idle, "nothing is left to happen once the connection is open");
    assert!(ended.at < SimTime::from_secs(1));
}
