//! Loops in which time does not pass are torn apart.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use http::Request;
use squall_protocol::Clock;
use squall_protocol::http::empty;
use squall_sim::{Halt, Process};
use tower::ServiceExt;

use crate::{secs, world};

fn halt_of<F: Future<Output = ()> + Send + 'static>(main: impl FnOnce(Process) -> F) -> Halt {
    world(|world| drop(world.node("node").start("looper", main))).halt
}

fn no_progress() -> Halt {
    Halt::NoProgress { task: "looper".to_owned() }
}

#[test]
fn a_loop_that_only_reads_the_clock_makes_no_progress() {
    let halt = halt_of(|process| async move {
        let clock = process.clock();
        let deadline = clock.mono() + secs(1);
        while clock.mono() < deadline {}
    });
    assert_eq!(halt, no_progress());
}

#[test]
fn a_loop_of_sleeps_of_zero_makes_no_progress() {
    let halt = halt_of(|process| async move {
        loop {
            process.clock().sleep(Duration::ZERO).await;
        }
    });
    assert_eq!(halt, no_progress());
}

#[test]
fn a_loop_of_requests_that_fail_at_once_makes_no_progress() {
    let halt = halt_of(|process| async move {
        loop {
            let request = Request::get("http://nowhere/").body(empty()).unwrap();
            process.http().oneshot(request).await.unwrap_err();
        }
    });
    assert_eq!(halt, no_progress());
}

#[test]
fn a_loop_that_reads_an_ended_stream_makes_no_progress() {
    let halt = halt_of(|process| async move {
        let mut listener = process.listen(80).unwrap();
        let net = process.node().world().net();
        let connecting = net.connect(process.node().id(), "node", 80, squall_sim::net::Alpn::H1);
        let (near, mut far) = join(connecting, listener.accept()).await;
        drop(near);
        loop {
            far.read(1).await.unwrap();
        }
    });
    assert_eq!(halt, no_progress());
}

#[test]
fn two_tasks_that_wake_each_other_for_ever_make_no_progress() {
    let halt = halt_of(|process| async move {
        let (ping, pong) = (Arc::new(event_listener::Event::new()), Arc::new(event_listener::Event::new()));
        for (own, other) in [(ping.clone(), pong.clone()), (pong, ping)] {
            process.spawn("looper", async move {
                loop {
                    let woken = own.listen();
                    other.notify(1);
                    woken.await;
                }
            });
        }
        pending::<()>().await;
    });
    assert_eq!(halt, no_progress());
}

#[test]
fn who_reads_the_clock_while_it_is_torn_out_of_its_loop_does_no_harm() {
    struct Stopwatch(Arc<dyn Clock>);
    impl Drop for Stopwatch {
        fn drop(&mut self) {
            self.0.mono();
        }
    }
    let halt = halt_of(|process| async move {
        let watch = Stopwatch(process.clock());
        loop {
            watch.0.wall();
        }
    });
    assert_eq!(halt, no_progress());
}

#[test]
fn a_busy_world_in_which_time_passes_makes_progress() {
    let halt = halt_of(|process| async move {
        for _ in 0..300_000 {
            process.clock().mono();
            process.clock().sleep(Duration::from_nanos(1)).await;
        }
    });
    assert_eq!(halt, Halt::Idle);
}
