//! Published simulations of retry policies, run again with the policies of this program.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use http::StatusCode;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_protocol::Random;
use squall_protocol::clock::Mono;
use squall_protocol::random::uniform;
use squall_protocol::retry::{Admission, Attempt, Decision, Outcome, Policy, RetryPolicy};

const BUSY: Outcome<'static> = Outcome::Status { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: None };

/// What competing clients came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Contention {
    /// Writes that were tried.
    pub calls: u64,
    /// Milliseconds until the last client was done.
    pub done_ms: u64,
}

/// What arrives at the server: when in microseconds, in which order, from whom, and the version that a write is based on.
type Due = (u64, usize, usize, Option<u64>);

/// AWS's simulation of competing clients (`backoff_simulator.py`): each reads a row and writes it back, and only the
/// first that writes after a change succeeds; the others wait and try again. Messages take 10 ms, give or take two. It
/// ends when the last client knows of its success.
///
/// That program counts a client's attempts before it computes a wait, so its first exponential wait is twice the base.
pub fn contention(policy: &Policy, clients: usize, seed: u64) -> Contention {
    let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(seed));
    let mut policies: Vec<Box<dyn RetryPolicy>> = (0..clients).map(|_| policy.start()).collect();
    let mut numbers = vec![0u32; clients];
    let (mut version, mut now, mut result) = (0u64, 0u64, Contention::default());
    let mut due: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    let mut order = 0;
    let mut send = |due: &mut BinaryHeap<_>, at: u64, client: usize, read: Option<u64>| {
        order += 1;
        due.push(Reverse((at, order, client, read)));
    };
    for client in 0..clients {
        send(&mut due, message_us(&mut random), client, None);
    }
    while let Some(Reverse((at, _, client, read))) = due.pop() {
        now = now.max(at);
        // The server answers, the answer travels, and what follows from it travels back.
        let back = |random: &mut Random| message_us(random) + message_us(random);
        let Some(read) = read else {
            let seen = version;
            send(&mut due, at + back(&mut random), client, Some(seen));
            continue;
        };
        result.calls += 1;
        if read == version {
            version += 1;
            result.done_ms = result.done_ms.max((at + message_us(&mut random)) / 1_000);
            continue;
        }
        numbers[client] += 1;
        let failed = Attempt { number: numbers[client], outcome: BUSY, elapsed: Duration::ZERO };
        if let Decision::Retry(wait) = policies[client].decide(&failed, &mut random) {
            let again = at + back(&mut random) + wait.as_micros() as u64;
            send(&mut due, again, client, None);
        }
    }
    result
}

/// How long a message takes, in microseconds: 10 ms, with a standard deviation of 2 ms.
fn message_us(random: &mut Random) -> u64 {
    // The sum of three uniform draws is near enough to the normal distribution of the original. A draw from a range of
    // twice 2 ms has a variance of a third of 2 ms squared, so that of the sum is 2 ms squared.
    let third = || Duration::from_micros(3_333 - 2_000)..Duration::from_micros(3_333 + 2_000);
    (0..3).map(|_| uniform(&mut **random, third()).as_micros() as u64).sum()
}

/// Requests for each call against a service that fails so many in a hundred requests (Marc Brooker, `retry_sim.py`):
/// `clients` clients share `calls` calls.
pub fn work_per_call(policy: &Policy, clients: usize, calls: usize, failing_percent: u32, seed: u64) -> f64 {
    let mut random: Random = Box::new(ChaCha8Rng::seed_from_u64(seed));
    let mut policies: Vec<Box<dyn RetryPolicy>> = (0..clients).map(|_| policy.start()).collect();
    let mut sent = 0u64;
    for call in 0..calls {
        let policy = &mut policies[call % clients];
        // A call of each client a second.
        policy.passes(Mono::from_start(Duration::from_secs((call / clients) as u64)));
        for number in 1.. {
            if policy.admit(number, &mut random) == Admission::Refuse {
                break;
            }
            sent += 1;
            if random.next_u64() % 100 >= u64::from(failing_percent) {
                policy.succeeded(number);
                break;
            }
            let failed = Attempt { number, outcome: BUSY, elapsed: Duration::ZERO };
            if policy.decide(&failed, &mut random) == Decision::GiveUp {
                break;
            }
        }
    }
    sent as f64 / calls as f64
}
