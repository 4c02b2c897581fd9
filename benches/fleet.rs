//! What fleets cost: an exchange among a thousand agents beside one among five, and the memory of an idle agent.

#[expect(dead_code, reason = "only the clock is of use here")]
#[path = "support/elsewhere.rs"]
mod elsewhere;
#[path = "support/piped.rs"]
mod piped;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use squall_sim::trace::Keep;
use squall_sim::{SimTime, World};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{HOLD, POLLS};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Exchanges of one measurement: one world of a thousand agents, or many worlds of fewer.
const EXCHANGES: usize = MANY * POLLS;
const FEW: usize = 5;
const MANY: usize = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("fleet");
    group.sample_size(10).throughput(Throughput::Elements(EXCHANGES as u64));
    for agents in [FEW, 50, 200, MANY] {
        group.bench_with_input(BenchmarkId::from_parameter(agents), &agents, |bench, agents| {
            bench.iter(|| fleet(*agents));
        });
    }
    group.finish();
    criterion.final_summary();
    support::print_ratio("fleet_cost_growth", || fleet(MANY), || fleet(FEW));
    // What hyper and axum do by themselves when a thousand connections take turns in the processor's caches.
    support::print_ratio("fleet_cost_growth_of_piped", || piped_fleet(MANY), || piped_fleet(FEW));
    println!("ratio fleet_kib_per_idle_agent {:.1}", kib_per_idle_agent());
}

fn fleet(agents: usize) {
    for seed in 0..EXCHANGES / POLLS / agents {
        support::world(seed as u64, agents, POLLS, HOLD);
    }
}

fn piped_fleet(agents: usize) {
    for _ in 0..EXCHANGES / POLLS / agents {
        piped::world(agents, POLLS, HOLD);
    }
}

/// Memory in use while every agent of a fleet waits in a poll, less that of a world without agents, for each agent.
fn kib_per_idle_agent() -> f64 {
    let (with, without) = (bytes_in_use(MANY), bytes_in_use(0));
    (with - without) as f64 / MANY as f64 / 1024.0
}

fn bytes_in_use(agents: usize) -> usize {
    let seen = Arc::new(AtomicUsize::new(0));
    let before = allocated();
    squall_sim::run(1, Keep::Digest, SimTime::from_secs(60), |world: &World| {
        support::start_server(world, Duration::from_secs(50));
        for n in 0..agents {
            world.node(&format!("agent-{n}")).start("agent", |process| async move {
                support::agent(process.http(), process.clock(), usize::MAX).await;
            });
        }
        let (world, seen) = (world.clone(), seen.clone());
        world.clone().spawn("scales", async move {
            world.sleep_until(SimTime::from_secs(30)).await;
            seen.store(allocated(), Ordering::Relaxed);
            world.stop();
        });
    });
    seen.load(Ordering::Relaxed) - before
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
