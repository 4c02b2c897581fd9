//! Services under supervisors, and worker processes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_protocol::facts::{Fact, Outcome};
use squall_protocol::supervise::Exit;
use squall_protocol::workers::WorkerError;
use squall_protocol::{Restart, Supervise, Worker};
use squall_sim::trace::Keep;
use squall_sim::{Ended, Execution, Halt, Node, Process, Service, SimTime, World, run};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Runs a world for 1000 s with one machine and a play on it.
fn play<F: Future<Output = ()> + Send + 'static>(play: impl FnOnce(World, Node) -> F) -> Ended {
    let ended = run(1, Keep::Digest, SimTime::from_secs(1000), |world| {
        let node = world.node("node");
        world.spawn("play", play(world.clone(), node));
    });
    assert!(matches!(ended.halt, Halt::End | Halt::Idle), "{:?} at {}", ended.halt, ended.at);
    ended
}

/// When the agent went up and down, in seconds, and how.
fn history(ended: &Ended) -> Vec<String> {
    let told = ended.journal.iter().filter_map(|entry| {
        let at = entry.at.since_start().as_secs_f64();
        match &entry.fact {
            Fact::AgentUp { .. } => Some(format!("{at} up")),
            Fact::AgentDown { code: Some(code), .. } => Some(format!("{at} down {code}")),
            Fact::AgentDown { code: None, .. } => Some(format!("{at} killed")),
            Fact::AgentStopped { .. } => Some(format!("{at} given up")),
            _ => None,
        }
    });
    told.collect()
}

/// Restarts after two seconds, but gives up after so many ends in one go.
struct GivesUpAfter(u32);

impl Supervise for GivesUpAfter {
    fn ended(&mut self, _: Exit, _: Duration) -> Restart {
        self.0 -= 1;
        if self.0 == 0 { Restart::Never } else { Restart::After(secs(2)) }
    }
}

/// A service that runs for so long and then ends with code 3, unless it is asked to stop; that takes it one second.
fn service(node: &Node, life: Duration, policy: impl FnMut() -> GivesUpAfter + Send + 'static) -> Service {
    node.service("agent", "agent", policy, move |process: Process| async move {
        let shutdown = process.shutdown();
        let clock = process.clock();
        let (life, asked) = (clock.sleep(life), Box::pin(shutdown.requested()));
        match futures_util::future::select(life, asked).await {
            futures_util::future::Either::Left(_) => 3,
            futures_util::future::Either::Right(_) => {
                clock.sleep(secs(1)).await;
                0
            }
        }
    })
}

#[test]
fn a_service_that_ends_starts_again_as_the_policy_says_until_it_gives_up() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(10), || GivesUpAfter(3));
        world.sleep(secs(5)).await;
        assert!(service.is_running());
        world.sleep(secs(100)).await;
        assert!(!service.is_running());
    });
    let expected = ["0 up", "10 down 3", "12 up", "22 down 3", "24 up", "34 down 3", "34 given up"];
    assert_eq!(history(&ended), expected);
}

#[test]
fn the_policy_is_told_how_it_ended_and_how_long_it_ran() {
    struct Telling(Arc<Mutex<Vec<(Exit, Duration)>>>);
    impl Supervise for Telling {
        fn ended(&mut self, exit: Exit, up: Duration) -> Restart {
            self.0.lock().unwrap().push((exit, up));
            Restart::After(Duration::ZERO)
        }
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    play(|world, node| async move {
        let policy = move || Telling(telling.clone());
        let service = node.service("agent", "agent", policy, |process: Process| async move {
            process.clock().sleep(secs(7)).await;
            process.incarnation() as i32
        });
        world.sleep(secs(10)).await;
        assert!(service.kill());
        world.sleep(secs(1)).await;
        service.stop(Duration::ZERO);
    });
    assert_eq!(*told.lock().unwrap(), [(Exit::Code(1), secs(7)), (Exit::Killed, secs(3))]);
}

#[test]
fn a_service_that_was_given_up_starts_by_hand_or_when_the_machine_boots() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(10), || GivesUpAfter(1));
        world.sleep(secs(50)).await;
        service.start();
        world.sleep(secs(50)).await;
        node.crash();
        node.boot();
    });
    let expected = [
        "0 up",
        "10 down 3",
        "10 given up",
        "50 up",
        "60 down 3",
        "60 given up",
        "100 up",
        "110 down 3",
        "110 given up",
    ];
    assert_eq!(history(&ended), expected);
}

#[test]
fn a_service_that_is_stopped_ends_in_order_and_stays_down_until_it_is_started() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(500), || GivesUpAfter(9));
        world.sleep(secs(10)).await;
        assert!(service.stop(secs(5)));
        world.sleep(secs(100)).await;
        assert!(!service.stop(secs(5)), "it does not run");
        service.start();
        world.sleep(secs(10)).await;
        service.stop(Duration::from_millis(500));
    });
    assert_eq!(history(&ended), ["0 up", "11 down 0", "110 up", "120.5 killed"]);
}

#[test]
fn a_stopped_service_stays_down_through_a_boot() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(10), || GivesUpAfter(1));
        world.sleep(secs(5)).await;
        service.stop(secs(5));
        world.sleep(secs(5)).await;
        node.crash();
        node.boot();
        world.sleep(secs(50)).await;
        service.start();
        world.sleep(secs(50)).await;
        service.stop(secs(1));
        node.crash();
        node.boot();
    });
    assert_eq!(history(&ended), ["0 up", "6 down 0", "60 up", "70 down 3", "70 given up"]);
}

#[test]
fn a_service_that_is_stopped_while_it_waits_to_start_again_does_not() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(10), || GivesUpAfter(9));
        world.sleep(secs(11)).await;
        assert!(!service.stop(secs(5)));
        world.sleep(secs(100)).await;
        service.start();
        world.sleep(secs(5)).await;
        service.stop(Duration::ZERO);
    });
    assert_eq!(history(&ended), ["0 up", "10 down 3", "111 up", "116 killed"]);
}

#[test]
fn a_killed_service_starts_again() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(500), || GivesUpAfter(2));
        world.sleep(secs(10)).await;
        assert!(service.kill());
        world.sleep(secs(1)).await;
        assert!(!service.kill(), "it waits to start again");
        world.sleep(secs(10)).await;
        service.kill();
    });
    assert_eq!(history(&ended), ["0 up", "10 killed", "12 up", "21 killed", "21 given up"]);
}

#[test]
fn a_crash_takes_the_service_and_the_boot_brings_it_back_with_a_fresh_policy() {
    let ended = play(|world, node| async move {
        service(&node, secs(10), || GivesUpAfter(2));
        world.sleep(secs(15)).await;
        assert_eq!(node.crash(), 1);
        assert_eq!(node.crash(), 0, "it is down already");
        world.sleep(secs(15)).await;
        node.boot();
        assert_eq!(node.boots(), 1);
    });
    let expected =
        ["0 up", "10 down 3", "12 up", "15 killed", "30 up", "40 down 3", "42 up", "52 down 3", "52 given up"];
    assert_eq!(history(&ended), expected);
}

#[test]
fn a_crash_while_the_supervisor_waits_is_over_with_the_boot() {
    struct Slowly;
    impl Supervise for Slowly {
        fn ended(&mut self, _: Exit, _: Duration) -> Restart {
            Restart::After(secs(300))
        }
    }
    let ended = play(|world, node| async move {
        let service = node.service(
            "agent",
            "agent",
            || Slowly,
            |process: Process| async move {
                process.clock().sleep(secs(10)).await;
                1
            },
        );
        world.sleep(secs(20)).await;
        node.crash();
        world.sleep(secs(20)).await;
        node.boot();
        world.sleep(secs(15)).await;
        service.stop(Duration::ZERO);
    });
    assert_eq!(history(&ended), ["0 up", "10 down 1", "40 up", "50 down 1"]);
}

#[test]
fn a_service_of_a_frozen_machine_starts_again_after_the_thaw() {
    let ended = play(|world, node| async move {
        let service = service(&node, secs(500), || GivesUpAfter(9));
        world.sleep(secs(10)).await;
        node.freeze();
        service.kill();
        world.sleep(secs(50)).await;
        node.thaw();
        world.sleep(secs(10)).await;
        service.stop(Duration::ZERO);
    });
    assert_eq!(history(&ended), ["0 up", "10 killed", "60 up", "70 killed"]);
}

mod workers {
    use super::*;

    type Told = Arc<Mutex<Vec<String>>>;

    /// A worker that tells what it receives, and works for ten seconds more after its pipe is closed.
    async fn listen_and_work(
        process: Process,
        mut parent: Box<dyn squall_protocol::workers::Parent>,
        told: Told,
    ) -> i32 {
        while let Some(message) = parent.receive().await {
            told.lock().unwrap().push(String::from_utf8_lossy(&message).into_owned());
        }
        process.clock().sleep(secs(10)).await;
        told.lock().unwrap().push(format!("done at {}", process.node().world().now()));
        5
    }

    fn with_worker<F: Future<Output = ()> + Send + 'static>(
        main: impl FnOnce(World, Process, Box<dyn Worker>) -> F + Send + 'static,
    ) -> Vec<String> {
        let told = Told::default();
        let telling = told.clone();
        play(|world, node| async move {
            let parent = node.start("parent", |_| std::future::pending());
            let workers = parent.workers(move |process, end| listen_and_work(process, end, telling.clone()));
            let worker = workers.start().await.unwrap();
            main(world, parent, worker).await;
        });
        std::mem::take(&mut told.lock().unwrap())
    }

    #[test]
    fn a_worker_takes_messages_and_ends_with_its_code() {
        let told = with_worker(|_, _, mut worker| async move {
            worker.send("one".into()).await.unwrap();
            worker.send("two".into()).await.unwrap();
            drop(worker);
        });
        assert_eq!(told, ["one", "two", "done at 0:00:10.000"]);
    }

    #[test]
    fn a_worker_outlives_its_parent_and_sees_the_pipe_close() {
        let told = with_worker(|world, parent, mut worker| async move {
            parent.spawn("parent", async move {
                worker.send("work".into()).await.unwrap();
                worker.ended().await;
            });
            world.sleep(secs(100)).await;
            assert_eq!(parent.node().processes(), 2);
            parent.kill();
            world.sleep(secs(1)).await;
            assert_eq!(parent.node().processes(), 1);
        });
        assert_eq!(told, ["work", "done at 0:01:50.000"]);
    }

    #[test]
    fn a_killed_worker_breaks_its_pipe_and_says_so_as_often_as_it_is_asked() {
        let told = with_worker(|_, _, mut worker| async move {
            worker.send("work".into()).await.unwrap();
            worker.kill();
            assert_eq!(worker.ended().await, Exit::Killed);
            assert_eq!(worker.ended().await, Exit::Killed);
            assert_eq!(worker.send("more".into()).await, Err(WorkerError::BrokenPipe));
        });
        assert_eq!(told, ["work"]);
    }

    #[test]
    fn a_message_that_the_worker_did_not_take_before_its_end_is_an_error() {
        play(|world, node| async move {
            let parent = node.start("parent", |_| std::future::pending());
            let deaf = parent.workers(|process, pipe| async move {
                process.clock().sleep(secs(5)).await;
                drop(pipe);
                process.clock().sleep(secs(5)).await;
                9
            });
            let mut worker = deaf.start().await.unwrap();
            assert_eq!(worker.send("lost".into()).await, Err(WorkerError::BrokenPipe));
            assert_eq!(world.now(), SimTime::from_secs(5));
            assert_eq!(worker.send("lost".into()).await, Err(WorkerError::BrokenPipe), "it runs, and listens no more");
            assert_eq!(worker.ended().await, Exit::Code(9));
        });
    }

    #[test]
    fn the_journal_has_how_each_worker_ended() {
        let ended = play(|world, node| async move {
            let parent = node.start("parent", |_| std::future::pending());
            let workers = parent.workers(|process, mut pipe| async move {
                let running = Execution::start(&process, "job", 1);
                let told = pipe.receive().await;
                running.end(Outcome::Succeeded);
                told.map_or(1, |code| i32::from(code[0]))
            });
            let mut exits = workers.start().await.unwrap();
            exits.send(vec![102].into()).await.unwrap();
            exits.ended().await;
            let mut killed = workers.start().await.unwrap();
            world.sleep(secs(1)).await;
            killed.kill();
            let _lost = workers.start().await.unwrap();
            world.sleep(secs(1)).await;
            node.crash();
        });
        let of_workers = ended.journal.iter().filter_map(|entry| match &entry.fact {
            Fact::JobStopped { worker, outcome, .. } => Some(format!("{worker} {outcome:?}")),
            Fact::WorkerExited { worker, code } => Some(format!("{worker} {code:?}")),
            _ => None,
        });
        assert_eq!(
            of_workers.collect::<Vec<_>>(),
            [
                "node/worker#2 Succeeded",
                "node/worker#2 Some(102)",
                "node/worker#3 Abandoned",
                "node/worker#3 None",
                "node/worker#4 Abandoned",
                "node/worker#4 None"
            ]
        );
    }

    #[test]
    fn a_frozen_machine_s_worker_takes_nothing_until_the_thaw() {
        with_worker(|world, parent, mut worker| async move {
            parent.node().freeze();
            let node = parent.node().clone();
            let thawing = world.clone();
            world.spawn("thaw", async move {
                thawing.sleep(secs(30)).await;
                node.thaw();
            });
            worker.send("late".into()).await.unwrap();
            assert_eq!(world.now(), SimTime::from_secs(30));
        });
    }

    #[test]
    fn a_crash_takes_the_workers_too() {
        let told = with_worker(|world, parent, mut worker| async move {
            assert_eq!(parent.node().crash(), 2);
            assert_eq!(worker.ended().await, Exit::Killed);
            assert_eq!(world.now(), SimTime::ZERO);
        });
        assert_eq!(told, [""; 0]);
    }
}
