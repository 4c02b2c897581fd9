#![allow(missing_docs, clippy::disallowed_methods)]
use squall_sim::{
    SimTime,
    invariant::{History, judge},
    scenario::Scenario,
    trace::Keep,
};
use std::collections::BTreeMap;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (variant, from, n) = (&a[1], a[2].parse::<u64>().unwrap(), a[3].parse::<u64>().unwrap());
    let plain = a.get(4).is_some_and(|x| x == "plain");
    let s = squall::actions_idle_runner::ActionsIdleRunner;
    let start = std::time::Instant::now();
    let mut counts: BTreeMap<String, (u64, Vec<u64>)> = BTreeMap::new();
    let mut ex = 0;
    let mut subjects: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut fam, mut fame): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
    for seed in from..from + n {
        let mut case = s.generate(seed, variant);
        if plain {
            case.plan.faults.clear();
        }
        let t = std::time::Instant::now();
        let ended = squall_sim::run(
            seed,
            if n == 1 { Keep::Events } else { Keep::Digest },
            SimTime::from_millis(case.end_ms),
            |w| {
                s.furnish(&case, w).unwrap();
                w.inject(&case.plan).unwrap();
            },
        );
        let took = t.elapsed();
        ex += ended.exchanges;
        for (i, f) in case.plan.faults.iter().enumerate() {
            *fam.entry(f.kind.family().to_string()).or_default() += 1;
            if ended.effects.of(i) > 0 {
                *fame.entry(f.kind.family().to_string()).or_default() += 1;
            }
        }
        let j = judge(
            &s.invariants(&case),
            &History { journal: &ended.journal, heal_at: SimTime::from_millis(case.plan.heal_at_ms), end: ended.at },
        );
        for t in &j.tallies {
            *subjects.entry(t.invariant).or_default() += t.subjects;
        }
        if !matches!(ended.halt, squall_sim::Halt::End) {
            println!("seed {seed}: {:?} at {}", ended.halt, ended.at);
            counts.entry(format!("{:?}", ended.halt)).or_default().0 += 1;
        }
        for f in j.verdict.findings.iter() {
            let c = counts.entry(f.fingerprint()).or_default();
            c.0 += 1;
            if c.1.last() != Some(&seed) && c.1.len() < 8 {
                c.1.push(seed);
            }
        }
        if n == 1 {
            println!("{}", serde_json::to_string_pretty(&case.parameters).unwrap());
            for (i, f) in case.plan.faults.iter().enumerate() {
                println!("{i} {} effect {}", serde_json::to_string(f).unwrap(), ended.effects.of(i));
            }
            let node = |n: squall_sim::trace::NodeId| ended.nodes[n.0 as usize].clone();
            for e in &ended.events {
                if !matches!(e.what, squall_sim::trace::What::Arrived { .. }) {
                    println!("{} {} {}", e.at, node(e.node), serde_json::to_string(&e.what).unwrap());
                }
            }
            for f in &j.verdict.findings {
                println!("{:?}", f);
            }
            println!(
                "{took:?} {} exchanges {} events {} facts",
                ended.exchanges,
                ended.events.len(),
                ended.journal.len()
            );
        }
    }
    println!("{:?} per seed, {} exchanges per seed", start.elapsed() / n as u32, ex / n);
    println!("{counts:#?}");
    println!("{subjects:?}");
    println!("{fam:?}\n{fame:?}");
}
