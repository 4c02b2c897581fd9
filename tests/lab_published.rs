//! What others have published about retries comes out here too, in shape and order.

use squall::lab::published::{Contention, contention, work_per_call};
use squall_protocol::retry::{Policy, Reset, named};

/// Names of the strategies as AWS calls them, and the expressions that have its constants: base 5, cap 2000, in
/// milliseconds. The published program counts an attempt before it computes a wait, so its first exponential wait is
/// twice the base.
const STRATEGIES: [(&str, &str); 5] = [
    ("none", "none"),
    ("exponential", "exp(base=10ms,cap=2s)"),
    ("equal jitter", "exp(base=10ms,cap=2s,jitter=equal)"),
    ("full jitter", "exp(base=10ms,cap=2s,jitter=full)"),
    ("decorrelated", "decorrelated(base=5ms,cap=2s)"),
];
/// As many as the published program has for each number of clients.
const TRIALS: u64 = 100;

/// Both draw from generators of their own: their means of 100 trials are that near, in percent.
const NEAR_PERCENT: u64 = 8;

/// What the published program comes to: `backoff_simulator.py`, transcribed line by line to C and run with 100 trials.
/// Clients, and for each strategy calls and milliseconds.
const PUBLISHED: [(usize, [(u64, u64); 5]); 7] = [
    (10, [(51, 383), (51, 3_493), (42, 707), (39, 469), (38, 442)]),
    (40, [(466, 961), (438, 29_749), (263, 3_650), (250, 2_264), (272, 1_695)]),
    (70, [(1_260, 1_496), (1_057, 47_724), (527, 5_396), (509, 3_745), (604, 3_291)]),
    (100, [(2_425, 2_030), (1_850, 63_003), (813, 6_660), (796, 4_881), (1_002, 4_667)]),
    (130, [(3_936, 2_533), (2_837, 77_490), (1_114, 7_625), (1_103, 5_851), (1_443, 5_848)]),
    (160, [(5_800, 3_048), (3_944, 89_892), (1_431, 8_528), (1_429, 6_756), (1_926, 6_886)]),
    (190, [(8_009, 3_540), (5_154, 100_824), (1_762, 9_457), (1_772, 7_350), (2_425, 7_783)]),
];

/// The mean over some trials.
fn mean(policy: &Policy, clients: usize) -> Contention {
    let all: Vec<Contention> = (0..TRIALS).map(|seed| contention(policy, clients, seed)).collect();
    let sum = |pick: fn(&Contention) -> u64| all.iter().map(pick).sum::<u64>() / TRIALS;
    Contention { calls: sum(|one| one.calls), done_ms: sum(|one| one.done_ms) }
}

#[test]
fn competing_clients_are_as_aws_found_them() {
    println!(
        "AWS, Exponential Backoff And Jitter: jitter cuts the calls of 100 clients by more than half; exponential"
    );
    println!("back-off without jitter is the loser; equal jitter does slightly more work than full jitter.");
    println!("{:>8} {:>14} {:>9} {:>9} {:>9} {:>9}", "clients", "strategy", "calls", "published", "ms", "published");
    for (clients, published) in PUBLISHED {
        let results = STRATEGIES.map(|(_, text)| mean(&named(text).expect("a policy"), clients));
        for (((name, _), Contention { calls, done_ms }), (there, there_ms)) in
            STRATEGIES.iter().zip(results).zip(published)
        {
            println!("{clients:>8} {name:>14} {calls:>9} {there:>9} {done_ms:>9} {there_ms:>9}");
            let near = |here: u64, there: u64| here.abs_diff(there) * 100 <= there * NEAR_PERCENT;
            assert!(near(calls, there), "{name}, {clients} clients: {calls} calls, published {there}");
            assert!(near(done_ms, there_ms), "{name}, {clients} clients: {done_ms} ms, published {there_ms}");
        }
        let [none, plain, equal, full, decorrelated] = results;
        assert!(plain.calls > equal.calls, "{clients} clients: {} and {}", plain.calls, equal.calls);
        // Ten clients hardly meet: there, waiting saves no calls in the published program either.
        let meet = clients > 10;
        assert!(!meet || none.calls > plain.calls, "{clients} clients: {} and {}", none.calls, plain.calls);
        // From 160 clients on the published program makes them equal to within one in a hundred, either way.
        let differ = clients < 160;
        assert!(!differ || equal.calls > full.calls, "{clients} clients: {} and {}", equal.calls, full.calls);
        assert!(plain.done_ms > full.done_ms && plain.done_ms > decorrelated.done_ms, "{clients} clients");
        assert!(equal.done_ms > full.done_ms, "{clients} clients: equal jitter takes longer");
        if clients == 100 {
            assert!(full.calls * 2 < plain.calls, "full jitter {} and none {}", full.calls, plain.calls);
        }
    }
}

#[test]
fn work_grows_with_failures_as_brooker_found_it() {
    let three = Policy { retries: Some(3), reset: Reset::EachCall, ..named("none").expect("a policy") };
    let bucket = Policy { budget: named("none+token-bucket").expect("a policy").budget, ..three.clone() };
    let breaker = Policy { breaker: named("none+breaker").expect("a policy").breaker, ..three.clone() };
    println!(
        "published (Brooker 2022): N retries make 1+N requests of a call at 100 % failures; a token bucket is like"
    );
    println!("them while few fail and adds its ratio when all do; many small clients with breakers hardly retry.");
    println!("{:>8} {:>9} {:>13} {:>9}", "failing", "3 retries", "token bucket", "breaker");
    let mut rows = Vec::new();
    for failing in [0, 2, 5, 10, 20, 40, 60, 80, 100] {
        let work = |policy: &Policy| work_per_call(policy, 100, 20_000, failing, 1);
        let row = (work(&three), work(&bucket), work(&breaker));
        println!("{failing:>7}% {:>9.3} {:>13.3} {:>9.3}", row.0, row.1, row.2);
        rows.push(row);
    }
    let (first, last) = (rows[0], *rows.last().expect("rows"));
    assert_eq!(first, (1.0, 1.0, 1.0));
    assert!((last.0 - 4.0).abs() < 1e-9 && last.1 < 1.15 && last.2 < 1.02, "{last:?}");
    // Below its ratio the bucket pays for every retry.
    let low = rows[2];
    assert!((low.0 - low.1).abs() < 0.01, "{low:?}");
    let middle = rows[5];
    assert!(middle.1 < middle.0 && middle.1 > middle.2, "{middle:?}");
}
