//! The executor, time and clocks of a world.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures_util::FutureExt;
use futures_util::future::{join, select};
use http::{Request, Version};
use squall_protocol::facts::Fact;
use squall_protocol::http::empty;
use squall_protocol::supervise::Always;
use squall_protocol::{Clock, Workers};
use squall_sim::clock::true_wall;
use squall_sim::http::serve;
use squall_sim::net::Net;
use squall_sim::trace::Keep;
use squall_sim::{Ended, Halt, Process, SimTime, World, run};
use tower::ServiceExt;

const END: SimTime = SimTime::from_secs(24 * 3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn world(build: impl FnOnce(&World)) -> Ended {
    run(1, Keep::Digest, END, build)
}

/// What tasks tell, in order.
type Told<T> = Arc<Mutex<Vec<T>>>;

fn tell<T>(told: &Told<T>, what: T) {
    told.lock().unwrap().push(what);
}

fn take<T>(told: &Told<T>) -> Vec<T> {
    std::mem::take(&mut told.lock().unwrap())
}

mod loops {
    use super::*;

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
}

mod panics {
    use super::*;

    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("within a drop");
        }
    }

    #[test]
    fn a_panic_ends_the_world_and_says_who_what_and_where() {
        let ended = world(|world| {
            world.node("node").start("careless", |process| async move {
                process.clock().sleep(secs(5)).await;
                panic!("no such {}", "thing");
            });
        });
        let Halt::Panic { task, message } = ended.halt else { panic!("{:?}", ended.halt) };
        assert_eq!(task, "careless");
        assert!(message.starts_with("no such thing (sim/tests/kernel.rs:"), "{message}");
        assert_eq!(ended.at, SimTime::from_secs(5));
    }

    #[test]
    fn a_panic_in_the_drop_of_a_task_that_has_ended_is_told() {
        let ended = world(|world| {
            world.node("node").start("careless", |_| {
                let guard = PanicsInDrop;
                // Kept by the closure of the future and not by its body: it is dropped after the end.
                std::future::ready(()).inspect(move |()| {
                    let _ = &guard;
                })
            });
        });
        assert!(matches!(ended.halt, Halt::Panic { .. }), "{:?}", ended.halt);
    }

    #[test]
    fn a_panic_while_the_world_is_torn_down_changes_nothing() {
        let ended = world(|world| {
            world.spawn("careless", async move {
                let _guard = PanicsInDrop;
                pending::<()>().await;
            });
        });
        assert_eq!(ended.halt, Halt::Idle);
    }
}

mod tasks {
    use super::*;

    #[test]
    fn killing_a_process_drops_its_tasks_where_they_stand() {
        let (token, told) = (Arc::new(()), Told::default());
        let (held, telling) = (token.clone(), told.clone());
        world(|world| {
            let process = world.node("node").start("main", |process| async move {
                process.clock().sleep(secs(100)).await;
                tell(&telling, "slept");
                drop(held);
            });
            let (world, telling, token) = (world.clone(), told.clone(), Arc::downgrade(&token));
            world.clone().spawn("killer", async move {
                world.sleep(secs(10)).await;
                assert_eq!(token.strong_count(), 2);
                assert!(process.kill());
                assert_eq!(token.strong_count(), 1);
                assert!(!process.is_alive() && !process.kill());
                process.spawn("late", async move { tell(&telling, "spawned in a dead process") });
            });
        });
        assert_eq!(take(&told), [""; 0]);
    }

    #[test]
    fn a_process_that_kills_itself_runs_to_its_next_wait_and_no_further() {
        let told = Told::default();
        let telling = told.clone();
        world(|world| {
            world.node("node").start("main", |process| async move {
                process.kill();
                tell(&telling, "still here");
                process.clock().sleep(Duration::ZERO).await;
                tell(&telling, "gone");
            });
        });
        assert_eq!(take(&told), ["still here"]);
    }

    #[test]
    fn a_process_on_a_machine_that_is_down_never_runs() {
        let told = Told::default();
        let telling = told.clone();
        world(|world| {
            let node = world.node("node");
            node.crash();
            let process = node.start("main", |_| async move { tell(&telling, "ran") });
            assert!(!process.is_alive());
            node.boot();
        });
        assert_eq!(take(&told), [""; 0]);
    }

    #[test]
    fn a_frozen_process_wakes_late_and_its_sleep_takes_as_long_as_its_clock_says() {
        let told = Told::default();
        let telling = told.clone();
        world(|world| {
            let node = world.node("node");
            let seen = world.clone();
            node.start("main", |process| async move {
                process.clock().sleep(secs(10)).await;
                tell(&telling, seen.now());
            });
            let world = world.clone();
            world.clone().spawn("freezer", async move {
                world.sleep(secs(4)).await;
                assert_eq!(node.freeze(), 1);
                world.sleep(secs(60)).await;
                node.thaw();
            });
        });
        assert_eq!(take(&told), [SimTime::from_secs(70)]);
    }

    #[test]
    fn a_process_that_starts_on_a_frozen_machine_runs_from_the_thaw_on() {
        let told = Told::default();
        let telling = told.clone();
        world(|world| {
            let node = world.node("node");
            node.freeze();
            let seen = world.clone();
            node.start("main", |_| async move { tell(&telling, seen.now()) });
            let world = world.clone();
            world.clone().spawn("thaw", async move {
                world.sleep(secs(3)).await;
                node.thaw();
            });
        });
        assert_eq!(take(&told), [SimTime::from_secs(3)]);
    }

    #[test]
    fn a_sleep_of_zero_gives_every_other_task_a_turn() {
        let told = Told::default();
        world(|world| {
            let node = world.node("node");
            for name in ["a", "b"] {
                let telling = told.clone();
                node.start(name, |process| async move {
                    for _ in 0..5 {
                        tell(&telling, name);
                        process.clock().sleep(Duration::ZERO).await;
                    }
                });
            }
        });
        for turn in take(&told).chunks(2) {
            assert_ne!(turn[0], turn[1]);
        }
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_to_wait_for() {
        let ended = world(|world| {
            world.node("node").start("main", |process| async move {
                for _ in 0..10_000 {
                    select(process.clock().sleep(secs(3600)), process.clock().sleep(Duration::from_millis(1))).await;
                }
            });
        });
        assert_eq!((ended.halt, ended.at), (Halt::Idle, SimTime::from_secs(10)));
    }

    #[test]
    fn a_world_ends_at_its_end_or_when_it_is_stopped() {
        let endless = |world: &World| {
            world.node("node").start("main", |process| async move {
                loop {
                    process.clock().sleep(secs(7)).await;
                }
            });
        };
        let ended = world(endless);
        assert_eq!((ended.halt, ended.at), (Halt::End, END));
        let ended = world(|world| {
            endless(world);
            let world = world.clone();
            world.clone().spawn("stop", async move {
                world.sleep(secs(10)).await;
                world.stop();
            });
        });
        assert_eq!((ended.halt, ended.at), (Halt::End, SimTime::from_secs(10)));
    }
}

mod order {
    use super::*;

    /// In which order tasks of these names run, first as they start and then as one timer instant wakes them all.
    fn order(seed: u64, names: &[&'static str]) -> Vec<&'static str> {
        let told = Told::default();
        run(seed, Keep::Digest, END, |world| {
            for name in names.iter().copied() {
                let (telling, world) = (told.clone(), world.clone());
                world.clone().spawn(name, async move {
                    tell(&telling, name);
                    for _ in 0..3 {
                        world.sleep(secs(1)).await;
                        tell(&telling, name);
                    }
                });
            }
        });
        take(&told)
    }

    #[test]
    fn the_order_of_one_instant_is_drawn_from_the_seed() {
        let names = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(order(1, &names), order(1, &names));
        let firsts: std::collections::BTreeSet<_> = (0..50).map(|seed| order(seed, &names)[0]).collect();
        assert_eq!(firsts.len(), names.len(), "each of them is first in some world");
        let rounds: std::collections::BTreeSet<_> = order(1, &names).chunks(6).map(<[_]>::to_vec).collect();
        assert!(rounds.len() > 1, "each instant has an order of its own");
    }

    #[test]
    fn one_more_task_never_changes_the_order_of_the_others() {
        for seed in 0..20 {
            let mut with = order(seed, &["x", "a", "b", "y", "c", "d"]);
            with.retain(|name| !["x", "y"].contains(name));
            assert_eq!(with, order(seed, &["a", "b", "c", "d"]));
        }
    }

    #[test]
    fn equal_seeds_have_equal_digests_and_others_have_others() {
        let digest = |seed| {
            run(seed, Keep::Digest, END, |world| {
                let server = world.node("server");
                let router = Router::new().route("/", get(|| async { "hello" }));
                server.start("main", |process| async move { serve(process, 80, router).await.unwrap() });
                world.node("client").start("main", |process| async move {
                    let request = Request::get("http://server/").body(empty()).unwrap();
                    process.http().oneshot(request).await.unwrap();
                });
            })
            .digest
        };
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }
}

mod clocks {
    use super::*;

    fn on_a_node<F: Future<Output = ()> + Send + 'static>(main: impl FnOnce(World, squall_sim::Node) -> F) {
        let ended = world(|world| {
            let node = world.node("node");
            world.spawn("main", main(world.clone(), node));
        });
        assert_eq!(ended.halt, Halt::Idle);
    }

    #[test]
    fn a_clock_is_exact_until_somebody_disturbs_it() {
        on_a_node(|world, node| async move {
            world.sleep(secs(5)).await;
            assert_eq!(node.clock().wall(), true_wall(world.now()));
            assert_eq!(node.clock().mono().since_start(), secs(5));
        });
    }

    #[test]
    fn a_step_moves_wall_time_and_leaves_monotonic_time_alone() {
        on_a_node(|world, node| async move {
            for step in [3_600_000_000_000, -7_200_000_000_000] {
                let (wall, mono) = (node.clock().wall(), node.clock().mono());
                node.node_clock().step_wall(step);
                assert_eq!((node.clock().wall() - wall).total(jiff::Unit::Nanosecond).unwrap(), step as f64);
                assert_eq!(node.clock().mono(), mono);
            }
            let before = world.now();
            node.sleep(secs(10)).await;
            assert_eq!(world.now().since(before), secs(10));
        });
    }

    #[test]
    fn a_fast_clock_gains_and_its_sleeps_are_short() {
        on_a_node(|world, node| async move {
            node.node_clock().set_drift_ppm(250_000);
            node.sleep(secs(10)).await;
            assert_eq!(world.now().since_start(), secs(8));
            assert_eq!(node.clock().mono().since_start(), secs(10));
            assert_eq!(node.node_clock().wall_ahead_nanos(), 2_000_000_000);
            node.node_clock().set_drift_ppm(0);
            world.sleep(secs(100)).await;
            assert_eq!(node.node_clock().wall_ahead_nanos(), 2_000_000_000, "what was gained is not lost");
        });
    }

    #[test]
    fn a_slow_clock_loses_and_its_sleeps_are_long() {
        on_a_node(|world, node| async move {
            node.node_clock().set_drift_ppm(-500_000);
            node.sleep(secs(10)).await;
            assert_eq!(world.now().since_start(), secs(20));
        });
    }

    #[test]
    fn a_sleep_that_a_clock_slows_down_under_takes_longer() {
        on_a_node(|world, node| async move {
            let slowing = (world.clone(), node.clone());
            world.spawn("slow", async move {
                slowing.0.sleep(secs(5)).await;
                slowing.1.node_clock().set_drift_ppm(-500_000);
            });
            node.sleep(secs(10)).await;
            assert_eq!(world.now().since_start(), secs(15));
        });
    }

    #[test]
    fn a_suspended_machine_s_wall_time_goes_on_and_its_monotonic_time_does_not() {
        on_a_node(|world, node| async move {
            world.sleep(secs(1)).await;
            node.freeze();
            world.sleep(secs(100)).await;
            assert_eq!(node.clock().mono().since_start(), secs(1));
            node.thaw();
            assert_eq!(node.clock().wall(), true_wall(world.now()));
            world.sleep(secs(1)).await;
            assert_eq!(node.clock().mono().since_start(), secs(2));
        });
    }

    #[test]
    fn a_clock_that_can_hardly_move_is_no_division_by_zero() {
        on_a_node(|world, node| async move {
            node.node_clock().set_drift_ppm(-2_000_000);
            let sleeping = node.sleep(secs(1));
            select(Box::pin(sleeping), Box::pin(world.sleep(secs(60)))).await;
            assert!(node.clock().mono().since_start() < secs(1));
        });
    }
}

mod tear_down {
    use super::*;

    /// Everything that a world can hold, each with a token.
    fn furnish(world: &World, token: &Arc<()>) {
        let server = world.node("server");
        let held = token.clone();
        let router = Router::new().route(
            "/",
            get(move || {
                let held = held.clone();
                async move {
                    let _held = held;
                    pending::<&'static str>().await
                }
            }),
        );
        server.start("main", |process| async move { serve(process, 80, router).await.unwrap() });
        let agent = world.node("agent");
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let held = token.clone();
            agent.start("client", move |process| async move {
                let _held = held;
                let request = Request::get("http://server/").version(version).body(empty()).unwrap();
                let _answer = process.http().oneshot(request).await;
            });
        }
        let held = token.clone();
        let parent = agent.start("parent", |process| {
            let in_worker = held.clone();
            let workers: Arc<dyn Workers> = process.workers(move |_, mut parent| {
                let held = in_worker.clone();
                async move {
                    let _held = held;
                    while parent.receive().await.is_some() {}
                    0
                }
            });
            async move {
                let _held = held;
                let mut worker = workers.start().await.unwrap();
                worker.send("work".into()).await.unwrap();
                worker.ended().await;
            }
        });
        let held = (token.clone(), parent);
        world.spawn("holder of a handle", async move {
            let _held = held;
            pending::<()>().await;
        });
        let held = token.clone();
        agent.service(
            "service",
            "agent",
            || Always { delay: secs(1) },
            move |process| {
                let held = held.clone();
                async move {
                    process.clock().sleep(secs(10)).await;
                    drop(held);
                    1
                }
            },
        );
    }

    fn leaves_nothing(expected: impl Fn(&Halt) -> bool, disturb: impl FnOnce(&World)) {
        let token = Arc::new(());
        let mut net: Option<std::sync::Weak<Net>> = None;
        let ended = run(1, Keep::Digest, SimTime::from_secs(100), |world| {
            furnish(world, &token);
            disturb(world);
            net = Some(Arc::downgrade(world.net()));
        });
        assert!(expected(&ended.halt), "{:?}", ended.halt);
        assert!(ended.journal.iter().any(|entry| matches!(entry.fact, Fact::AgentUp { .. })));
        assert_eq!(Arc::strong_count(&token), 1, "something still holds a token");
        assert_eq!(net.unwrap().strong_count(), 0, "something still holds the network");
    }

    #[test]
    fn nothing_outlives_a_world_that_reached_its_end() {
        leaves_nothing(|halt| *halt == Halt::End, |_| {});
    }

    #[test]
    fn nothing_outlives_a_world_with_crashed_and_frozen_machines() {
        leaves_nothing(
            |halt| *halt == Halt::End,
            |world| {
                let world = world.clone();
                world.clone().spawn("disturb", async move {
                    world.sleep(secs(5)).await;
                    world.find("server").unwrap().crash();
                    world.find("agent").unwrap().freeze();
                    world.sleep(secs(1000)).await;
                });
            },
        );
    }

    #[test]
    fn nothing_outlives_a_world_that_panicked_or_made_no_progress() {
        leaves_nothing(
            |halt| matches!(halt, Halt::Panic { .. }),
            |world| {
                let world = world.clone();
                world.clone().spawn("panic", async move {
                    let _held = world.node("held");
                    world.sleep(secs(50)).await;
                    panic!("on purpose");
                });
            },
        );
        leaves_nothing(
            |halt| matches!(halt, Halt::NoProgress { .. }),
            |world| {
                let (world, node) = (world.clone(), world.node("looper"));
                world.clone().spawn("loop", async move {
                    world.sleep(secs(50)).await;
                    loop {
                        node.clock().wall();
                    }
                });
            },
        );
    }
}
