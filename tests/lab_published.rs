//! What others have published about retries comes out here too, in shape and order.

use squall::lab::published::{Contention, contention, work_per_call};
use squall_protocol::retry::{Policy, Reset, named};

/// Names of the strategies as AWS calls them, and the expressions that have its constants: base 5, cap 2000, in
/// milliseconds.
const STRATEGIES: [(&str, &str); 5] = [
    ("none", "none"),
    ("exponential", "exp(base=5ms,cap=2s)"),
    ("equal jitter", "exp(base=5ms,cap=2s,jitter=equal)"),
    ("full jitter", "exp(base=5ms,cap=2s,jitter=full)"),
    ("decorrelated", "decorrelated(base=5ms,cap=2s)"),
];
const TRIALS: u64 = 20;

/// The mean over some trials.
fn mean(policy: &Policy, clients: usize) -> Contention {
    let all: Vec<Contention> = (0..TRIALS).map(|seed| contention(policy, clients, seed)).collect();
    let sum = |pick: fn(&Contention) -> u64| all.iter().map(pick).sum::<u64>() / TRIALS;
    Contention { calls: sum(|one| one.calls), done_ms: sum(|one| one.done_ms) }
}

#[test]
fn competing_clients_are_as_aws_found_them() {
    println!(
        "published (AWS, Exponential Backoff And Jitter): jitter cuts the calls of 100 clients by more than half;"
    );
    println!("exponential back-off without jitter is the loser, equal jitter does more work than full jitter.");
    println!("{:>8} {:>14} {:>9} {:>9}", "clients", "strategy", "calls", "ms");
    let mut at_100 = Vec::new();
    for clients in [10, 40, 70, 100, 130, 160, 190] {
        let results = STRATEGIES.map(|(name, text)| (name, mean(&named(text).expect("a policy"), clients)));
        for (name, Contention { calls, done_ms }) in &results {
            println!("{clients:>8} {name:>14} {calls:>9} {done_ms:>9}");
        }
        if clients == 100 {
            at_100 = results.to_vec();
        }
        let [_, plain, equal, full, decorrelated] = results.map(|(_, result)| result);
        if clients >= 40 {
            // Without jitter the clients stay in step, and waiting longer saves them hardly a call.
            assert!(plain.calls > equal.calls, "{clients} clients");
            // The two come close to each other when many clients compete.
            assert!(equal.calls * 102 > full.calls * 100, "{clients} clients: {} and {}", equal.calls, full.calls);
            assert!(plain.done_ms > full.done_ms && plain.done_ms > decorrelated.done_ms, "{clients} clients");
        }
    }
    let calls = |strategy: usize| at_100[strategy].1.calls;
    assert!(calls(3) * 2 < calls(1), "full jitter {} and none {}", calls(3), calls(1));
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
