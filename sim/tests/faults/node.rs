//! Faults of machines: power, processes, clocks, disks, and what only one system knows.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_protocol::TransportError;
use squall_sim::SimTime;
use squall_sim::clock::true_wall;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Phase, Target};
use squall_sim::trace::Keep;

use crate::stage::{BEGIN_MS, HEAL_MS, LAST_MS, Visitor, at_agent, at_server, fault, plan, play};

const END_MS: u64 = BEGIN_MS + LAST_MS;

#[test]
fn a_crashed_server_is_silent_and_comes_back_without_its_connections() {
    let played = play(&plan([fault(FaultKind::Crash, at_server())]), async |visitor| {
        let server = visitor.process.node().world().find("server").unwrap();
        server.disk().write("kept", b"1").unwrap();
        server.disk().sync("kept").unwrap();
        server.disk().write("lost", b"1").unwrap();
        visitor.get("/hello").await.unwrap();
        visitor.until_ms(2_000).await;
        let on_old_connection = visitor.get("/hello").await.unwrap_err();
        let back_at = visitor.now_ms();
        assert_eq!(server.disk().read("lost").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(server.disk().read("kept").is_ok());
        (on_old_connection, back_at, visitor.get("/hello").await.unwrap().status)
    });
    let (on_old_connection, back_at, after) = played.seen;
    assert_eq!(on_old_connection, TransportError::Reset);
    assert!((END_MS..END_MS + 10_000).contains(&back_at), "{back_at}");
    assert_eq!(after, 200);
    assert_eq!(played.ended.effects.of(0), 1, "one process was lost");
}

#[test]
fn two_crashes_at_once_end_with_the_longer() {
    let short = Fault { for_ms: 2_000, ..fault(FaultKind::Crash, at_server()) };
    let long = fault(FaultKind::Crash, at_server());
    let played = play(&plan([short, long]), async |visitor| {
        let server = visitor.process.node().world().find("server").unwrap();
        visitor.until_ms(END_MS - 1).await;
        let down = !server.is_up();
        visitor.until_ms(END_MS + 1).await;
        (down, server.is_up(), server.boots())
    });
    assert_eq!(played.seen, (true, true, 1));
    assert_eq!(played.effects(0) + played.effects(1), 1);
}

#[test]
fn a_killed_service_is_started_again_by_its_supervisor() {
    let kill = Fault { for_ms: 0, ..fault(FaultKind::Kill { service: "api".to_owned() }, at_server()) };
    let played = play(&plan([kill]), async |visitor| {
        visitor.until_ms(500).await;
        let under_way = visitor.get("/slow").await.unwrap_err();
        let broken_at = visitor.now_ms();
        let meanwhile = visitor.get("/hello").await.unwrap_err();
        visitor.until_ms(BEGIN_MS + 1_001).await;
        (under_way, (1_000..1_050).contains(&broken_at), meanwhile, visitor.get("/hello").await.unwrap().status)
    });
    assert_eq!(played.seen, (TransportError::ClosedEarly, true, TransportError::Refused, 200));
    assert_eq!(played.effects(0), 1);
}

#[test]
fn a_stopped_service_ends_in_order_and_starts_at_the_fault_s_end() {
    let stop = FaultKind::Stop { service: "api".to_owned(), grace_ms: 500 };
    let played = play(&plan([fault(stop, at_server())]), async |visitor| {
        let mut refused = 0;
        for second in 2..11 {
            visitor.until_ms(second * 1_000).await;
            refused += u32::from(visitor.get("/hello").await == Err(TransportError::Refused));
        }
        visitor.until_ms(END_MS + 1).await;
        (refused, visitor.get("/hello").await.unwrap().status)
    });
    assert_eq!(played.seen, (9, 200));
    assert_eq!(played.effects(0), 1);
}

#[test]
fn a_paused_server_answers_late_and_keeps_its_connections() {
    let played = play(&plan([fault(FaultKind::Pause, at_server())]), async |visitor| {
        visitor.get("/hello").await.unwrap();
        visitor.until_ms(2_000).await;
        let answer = visitor.get("/hello").await.unwrap();
        (answer.status, visitor.now_ms())
    });
    let (status, answered_at) = played.seen;
    assert_eq!(status, 200);
    assert!((END_MS..END_MS + 10_000).contains(&answered_at), "{answered_at}");
    assert_eq!(played.effects(0), 1);
}

#[test]
fn a_paused_agent_finds_its_timers_late() {
    let played = play(&plan([fault(FaultKind::Pause, at_agent())]), async |visitor| {
        let clock = visitor.process.clock();
        let (wall, mono) = (clock.wall(), clock.mono());
        clock.sleep(Duration::from_secs(3)).await;
        (clock.wall().duration_since(wall).as_secs(), clock.mono().since(mono), visitor.now_ms())
    });
    assert_eq!(played.seen, (11, Duration::from_secs(11), END_MS));
    assert_eq!(played.effects(0), 1);
}

#[test]
fn an_agent_that_fell_asleep_notices_nothing_but_the_wall_clock() {
    let played = play(&plan([fault(FaultKind::Suspend, at_agent())]), async |visitor| {
        let clock = visitor.process.clock();
        let (wall, mono) = (clock.wall(), clock.mono());
        clock.sleep(Duration::from_secs(3)).await;
        (clock.wall().duration_since(wall).as_secs(), clock.mono().since(mono), visitor.now_ms())
    });
    assert_eq!(played.seen, (13, Duration::from_secs(3), 13_000));
    assert_eq!(played.effects(0), 1);
}

/// How far the agent's wall clock is ahead, in milliseconds.
fn ahead_ms(visitor: &Visitor) -> i64 {
    let truth = true_wall(SimTime::from_millis(visitor.now_ms()));
    visitor.process.clock().wall().duration_since(truth).as_millis() as i64
}

#[test]
fn a_clock_step_moves_wall_time_and_back() {
    for by_ms in [90_000, -90_000] {
        let played = play(&plan([fault(FaultKind::ClockStep { by_ms }, at_agent())]), async |visitor| {
            let before = ahead_ms(&visitor);
            visitor.until_ms(2_000).await;
            let during = (ahead_ms(&visitor), visitor.process.clock().mono());
            assert_eq!(during.1.since_start(), Duration::from_secs(2), "monotonic time is as it was");
            visitor.until_ms(END_MS + 1).await;
            [before, during.0, ahead_ms(&visitor)]
        });
        assert_eq!(played.seen, [0, by_ms, 0]);
        assert_eq!(played.effects(0), 1, "one reading was wrong");
    }
}

#[test]
fn a_drifting_clock_sleeps_wrong_and_is_right_again_after_heal() {
    let drift = FaultKind::ClockDrift { ppm: 250_000 };
    let played = play(&plan([fault(drift, at_agent())]), async |visitor| {
        visitor.until_ms(2_000).await;
        visitor.process.clock().sleep(Duration::from_secs(5)).await;
        let slept_ms = visitor.now_ms() - 2_000;
        visitor.until_ms(END_MS + 1).await;
        let after = ahead_ms(&visitor);
        visitor.until_ms(HEAL_MS + 1).await;
        (slept_ms, after, ahead_ms(&visitor))
    });
    assert_eq!(played.seen, (4_000, 2_500, 0));
    assert_eq!(played.effects(0), 1);
}

#[test]
fn drifts_add_up_and_steps_that_last_until_heal_leave_no_trace() {
    let drift = |ppm, for_ms| Fault { for_ms, ..fault(FaultKind::ClockDrift { ppm }, at_agent()) };
    let step = Fault { for_ms: 2 * HEAL_MS, ..fault(FaultKind::ClockStep { by_ms: 7_000 }, at_agent()) };
    let played = play(&plan([drift(100_000, 10_000), drift(-300_000, 20_000), step]), async |visitor| {
        visitor.until_ms(2_000).await;
        let both = ahead_ms(&visitor);
        visitor.until_ms(12_000).await;
        let one = ahead_ms(&visitor);
        visitor.until_ms(HEAL_MS + 1).await;
        (both, one, ahead_ms(&visitor))
    });
    assert_eq!(played.seen, (7_000 - 200, 7_000 - 2_000 - 300, 0));
}

#[test]
fn a_full_disk_refuses_what_is_more_and_has_room_again_later() {
    let played = play(&plan([fault(FaultKind::DiskFull, at_agent())]), async |visitor| {
        let disk = visitor.process.disk();
        disk.write("state", b"12345").unwrap();
        visitor.until_ms(2_000).await;
        assert_eq!(disk.append("state", b"6").unwrap_err().kind(), ErrorKind::StorageFull);
        disk.write("state", b"54321").unwrap();
        visitor.until_ms(END_MS + 1).await;
        disk.append("state", b"6").unwrap();
        disk.read("state").unwrap()
    });
    assert_eq!(played.seen, "543216");
    assert_eq!(played.effects(0), 1);
}

#[test]
fn a_system_s_own_fault_goes_to_its_handler() {
    let own = |name: &str, amount| FaultKind::System { name: name.to_owned(), amount };
    let faults = vec![
        fault(own("starve", 3), at_agent()),
        Fault { at_ms: 5_000, for_ms: 90_000, ..fault(own("starve", 4), at_agent()) },
    ];
    let calls = Arc::new(Mutex::new(Vec::new()));
    let ended = squall_sim::run(1, Keep::Digest, SimTime::from_secs(90), |world| {
        world.node("agent");
        let (calls, at) = (calls.clone(), world.clone());
        world.on_system_fault("starve", move |fault| {
            assert_eq!(fault.target.node.as_deref(), Some("agent"));
            at.effects().count(fault.id);
            calls.lock().unwrap().push((at.now().as_millis(), fault.amount, fault.phase));
        });
        world.inject(&FaultPlan { faults, heal_at_ms: HEAL_MS }).unwrap();
    });
    let calls = calls.lock().unwrap();
    let expected =
        [(1_000, 3, Phase::Begins), (5_000, 4, Phase::Begins), (11_000, 3, Phase::Ends), (60_000, 4, Phase::Ends)];
    assert_eq!(*calls, expected);
    assert_eq!((ended.effects.of(0), ended.effects.of(1)), (2, 2));
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let nowhere = Target { node: Some("nowhere".to_owned()), ..Target::default() };
    let mut said = String::new();
    squall_sim::run(1, Keep::Digest, SimTime::from_secs(1), |world| {
        world.node("agent");
        said = world.inject(&plan([fault(FaultKind::Crash, nowhere)])).unwrap_err().to_string();
    });
    assert_eq!(said, "fault 0 (crash) acts on node \"nowhere\"; the nodes are agent");
}

#[test]
fn a_service_that_its_supervisor_gave_up_stays_down_through_a_stop() {
    struct Never;
    impl squall_protocol::Supervise for Never {
        fn ended(&mut self, _: squall_protocol::supervise::Exit, _: Duration) -> squall_protocol::Restart {
            squall_protocol::Restart::Never
        }
    }
    let stop = fault(FaultKind::Stop { service: "runner".to_owned(), grace_ms: 0 }, at_agent());
    let counted = Arc::new(Mutex::new(0));
    let ended = squall_sim::run(1, Keep::Digest, SimTime::from_secs(90), |world| {
        let counted = counted.clone();
        world.node("agent").service(
            "runner",
            "agent",
            || Never,
            move |_| {
                *counted.lock().unwrap() += 1;
                async { 3 }
            },
        );
        world.inject(&plan([stop])).unwrap();
    });
    assert_eq!((*counted.lock().unwrap(), ended.effects.of(0)), (1, 0));
}
