//! Whole plans: faults do not disturb each other, and a plan always runs the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use squall_sim::fault::families::families;
use squall_sim::fault::{Fault, FaultKind, FaultPlan, Swarm, Target, When};
use squall_sim::trace::Keep;
use squall_sim::{Ended, Halt, SimTime};

use crate::stage::{HEAL_MS, Visitor, at_server, fault, furnish, plan, play};

/// The statuses of forty requests on one route.
async fn forty(visitor: Visitor, path: &str) -> Vec<u16> {
    visitor.until_ms(2_000).await;
    let mut seen = Vec::new();
    for _ in 0..40 {
        seen.push(visitor.get(path).await.map_or(0, |answer| answer.status));
    }
    seen
}

fn statuses(faults: impl Into<Vec<Fault>>) -> Vec<u16> {
    play(&plan(faults), async |visitor| forty(visitor, "/hello").await).seen
}

fn busy(status: u16, route: Option<&str>) -> Fault {
    let kind = FaultKind::Status { status, when: When::BeforeCommit, retry_after: None, percent: 50 };
    fault(kind, Target { route: route.map(str::to_owned), ..at_server() })
}

#[test]
fn one_fault_less_leaves_the_decisions_of_the_others() {
    let alone = statuses([busy(503, None)]);
    let hit = alone.iter().filter(|status| **status == 503).count();
    assert!((10..30).contains(&hit), "{alone:?}");
    assert_eq!(alone.iter().filter(|status| **status == 200).count(), 40 - hit);
    let delay = fault(FaultKind::Delay { by_ms: 5, percent: 50 }, at_server());
    assert_eq!(statuses([delay.clone(), busy(503, None)]), alone);
    // What one does not hit is left to the other, and nothing else changes.
    let both = statuses([busy(500, Some("hello")), delay, busy(503, None)]);
    for (alone, both) in alone.iter().zip(&both) {
        assert!(both == alone || *both == 500, "{alone} became {both}");
    }
    assert!(both.contains(&503) && both.contains(&500), "{both:?}");
}

#[test]
fn a_fault_that_becomes_shorter_or_milder_hits_the_same_requests() {
    let alone = statuses([busy(503, None)]);
    assert_eq!(statuses([Fault { for_ms: 5_000, ..busy(503, None) }]), alone);
    let kind = FaultKind::Status { status: 503, when: When::BeforeCommit, retry_after: None, percent: 20 };
    let milder = statuses([Fault { kind, ..busy(503, None) }]);
    for (alone, milder) in alone.iter().zip(&milder) {
        assert!(milder == alone || *milder == 200, "{alone} became {milder}");
    }
}

#[test]
fn another_caller_does_not_shift_what_this_one_meets() {
    let alone = statuses([busy(503, None)]);
    let plan = plan([busy(503, None)]);
    let beside = play(&plan, async |visitor| {
        let other = visitor.process.node().world().node("other-agent");
        other.start("visit", async |process| {
            forty(Visitor { process, version: Version::HTTP_11 }, "/hello").await;
        });
        forty(visitor, "/hello").await
    });
    assert_eq!(beside.seen, alone);
    assert!(beside.effects(0) > alone.iter().filter(|status| **status == 503).count() as u64);
}

/// A world under a drawn plan: two agents that work on through everything.
fn stormy(seed: u64, keep: Keep) -> (FaultPlan, Ended) {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let swarm = Swarm {
        nodes: names(&["agent", "server"]),
        peers: names(&["server"]),
        services: vec![("server".to_owned(), "api".to_owned())],
        routes: ["/hello", "/big"].map(|route| ("server".to_owned(), route.to_owned())).to_vec(),
        families: families().map(str::to_owned).collect(),
        begin_ms: 500..50_000,
        heal_at_ms: HEAL_MS,
        faults_max: 8,
        ..Swarm::default()
    };
    let plan = FaultPlan::generate(&swarm, seed);
    let ended = squall_sim::run(seed, keep, SimTime::from_millis(HEAL_MS + 30_000), |world| {
        furnish(world, Arc::default());
        let agent = world.node("agent");
        let always = || squall_protocol::supervise::Always { delay: Duration::from_secs(1) };
        agent.service("runner", "agent", always, |process| async move {
            let mut turn = 0;
            loop {
                let visitor =
                    Visitor { process: process.clone(), version: [Version::HTTP_11, Version::HTTP_2][turn % 2] };
                let path = ["/hello", "/big", "/slow", "/chunked"][turn % 4];
                let answered = visitor.within_ms(8_000, visitor.get(path)).await;
                let wrote_at = process.clock().wall();
                // Written without a sync: lost by a crash, refused by a full disk.
                let _ = process.disk().write("turn", format!("{wrote_at} {turn} {answered:?}").as_bytes());
                process.clock().sleep(Duration::from_millis(100)).await;
                turn += 1;
            }
        });
        world.inject(&plan).expect("drawn for this world");
    });
    (plan, ended)
}

#[test]
fn a_plan_always_runs_the_same_way() {
    let mut digests = BTreeSet::new();
    for seed in 0..60 {
        let (plan, first) = stormy(seed, Keep::Digest);
        let (_, again) = stormy(seed, Keep::Events);
        assert_eq!(first.halt, Halt::End, "{plan:?}");
        assert_eq!((&first.digest, first.exchanges), (&again.digest, again.exchanges), "{plan:?}");
        digests.insert(first.digest);
    }
    assert_eq!(digests.len(), 60);
}

#[test]
fn every_family_has_an_effect_in_some_plan() {
    let mut effective = BTreeMap::<String, (u32, u32)>::new();
    for seed in 0..120 {
        let (plan, ended) = stormy(seed, Keep::Digest);
        for (fault, planned) in plan.faults.iter().enumerate() {
            let (with_effect, all) = effective.entry(planned.kind.family().to_owned()).or_default();
            *with_effect += u32::from(ended.effects.of(fault) > 0);
            *all += 1;
        }
    }
    assert_eq!(effective.len(), families().count());
    for (family, (with_effect, all)) in effective {
        assert!(with_effect > 0, "none of {all} faults of {family} changed anything");
    }
}
