//! Measures: what a record says about a policy, as a number each.

use std::time::Duration;

use squall_sim::SimTime;

use super::fleet::Fleet;
use super::record::{BUCKET, Record};
use super::run::{MINUTE, Observed};
use super::synchrony::synchrony;

/// Buckets of a minute.
const BUCKETS_PER_MINUTE: usize = (MINUTE.as_nanos() / BUCKET.as_nanos()) as usize;
/// Buckets of a second.
const BUCKETS_PER_SECOND: usize = 10;

/// A number that is taken from a run. The larger, the worse.
#[derive(Clone, Copy)]
pub struct Measure {
    /// Its name in JSON, CSV and on the command line.
    pub name: &'static str,
    /// Its column in a table.
    pub short: &'static str,
    /// What it tells.
    pub summary: &'static str,
    take: fn(&Observed) -> f64,
    /// It is about what comes after heal.
    after_heal: bool,
}

impl Measure {
    /// Takes it. What comes after heal cannot be measured in a run that was cut short before: that is no number
    /// ([`f64::NAN`]), so that the worst of policies does not look like the best.
    pub fn of(&self, seen: &Observed) -> f64 {
        let healed = seen.record.end > seen.record.from;
        if self.after_heal && !healed { f64::NAN } else { (self.take)(seen) }
    }
}

impl std::fmt::Debug for Measure {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(self.name)
    }
}

/// Every measure, in the order in which they are printed.
pub const MEASURES: [Measure; 13] = [
    measure("attempts_per_success", "attempts", "requests sent for each call that was answered", |seen| {
        seen.record.attempts as f64 / (seen.record.successes.max(1)) as f64
    }),
    after_heal(
        "load_over_capacity",
        "load",
        "requests of the busiest second of the minute after heal, over capacity",
        load_over_capacity,
    ),
    after_heal("peak_per_100ms", "peak", "requests of the busiest 100 ms of the minute after heal", |seen| {
        f64::from(minute(&seen.record).iter().copied().max().unwrap_or(0))
    }),
    after_heal("peak_to_mean", "peak/mean", "the same over the mean of that minute", |seen| peak_to_mean(&seen.record)),
    after_heal("recovery_ms_p50", "50 % ms", "time from heal until half of the agents are answered", |seen| {
        recovery_ms(seen, 50)
    }),
    after_heal("recovery_ms_p99", "99 % ms", "until 99 in a hundred are", |seen| recovery_ms(seen, 99)),
    after_heal("recovery_ms_max", "100 % ms", "until all are, or the end of the run", |seen| recovery_ms(seen, 100)),
    measure("leases_lost", "leases", "leases that ran out", |seen| seen.record.leases_lost as f64),
    measure("orphan_ms", "orphan ms", "time that agents worked without a lease", |seen| millis(seen.record.orphaned)),
    measure("late_requests", "late", "requests sent after nobody waited for their call", |seen| {
        seen.record.late as f64
    }),
    measure("budget_exhausted", "refused", "attempts and retries that budgets refused", |seen| {
        seen.record.refused as f64
    }),
    after_heal("wait_max_over_median", "max/median", "the longest recovery over the median one", unfairness),
    after_heal(
        "synchrony",
        "synchrony",
        "how much agents keep coming at the same moments: the largest autocorrelation of arrivals in the minute after heal, without their trend, 0 to 1",
        |seen| synchrony(minute(&seen.record)),
    ),
];

const fn measure(
    name: &'static str,
    short: &'static str,
    summary: &'static str,
    take: fn(&Observed) -> f64,
) -> Measure {
    Measure { name, short, summary, take, after_heal: false }
}

const fn after_heal(
    name: &'static str,
    short: &'static str,
    summary: &'static str,
    take: fn(&Observed) -> f64,
) -> Measure {
    Measure { after_heal: true, ..measure(name, short, summary, take) }
}

/// The measure of this name.
pub fn named(name: &str) -> Option<Measure> {
    MEASURES.into_iter().find(|measure| measure.name == name)
}

/// Requests in each bucket of the minute from which on recovery is measured.
pub fn minute(record: &Record) -> &[u32] {
    let first = (record.from.as_nanos() / BUCKET.as_nanos() as u64) as usize;
    let last = (first + BUCKETS_PER_MINUTE).min(record.sent.len());
    record.sent.get(first.min(last)..last).unwrap_or_default()
}

/// How long each agent waited for its first answer, by length; those that are not back waited to the end.
pub fn waits(record: &Record) -> Vec<Duration> {
    let wait = |back: &Option<SimTime>| back.unwrap_or(record.end).since(record.from);
    let mut waits: Vec<Duration> = record.back.iter().map(wait).collect();
    waits.sort_unstable();
    waits
}

/// How many agents were never answered again.
pub fn unrecovered(record: &Record) -> usize {
    record.back.iter().filter(|back| back.is_none()).count()
}

fn recovery_ms(seen: &Observed, percent: usize) -> f64 {
    let waits = waits(&seen.record);
    let rank = (waits.len() * percent).div_ceil(100).max(1);
    waits.get(rank - 1).map_or(0.0, |wait| millis(*wait))
}

fn unfairness(seen: &Observed) -> f64 {
    let waits = waits(&seen.record);
    let (Some(longest), Some(median)) = (waits.last(), waits.get(waits.len() / 2)) else { return 0.0 };
    longest.as_secs_f64() / median.as_secs_f64().max(0.001)
}

fn load_over_capacity(seen: &Observed) -> f64 {
    let seconds = minute(&seen.record).chunks(BUCKETS_PER_SECOND).map(|second| second.iter().sum::<u32>());
    f64::from(seconds.max().unwrap_or(0)) / capacity_per_s(&seen.fleet)
}

/// Renewals a second that a fleet's server can do.
pub fn capacity_per_s(fleet: &Fleet) -> f64 {
    fleet.capacity_milli_per_s() as f64 / 1_000.0
}

fn peak_to_mean(record: &Record) -> f64 {
    let buckets = minute(record);
    let sum: u64 = buckets.iter().map(|sent| u64::from(*sent)).sum();
    let peak = f64::from(buckets.iter().copied().max().unwrap_or(0));
    if sum == 0 { 0.0 } else { peak * BUCKETS_PER_MINUTE as f64 / sum as f64 }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_minute(sent: impl Fn(usize) -> u32) -> Record {
        Record { sent: (0..BUCKETS_PER_MINUTE).map(sent).collect(), ..Record::default() }
    }

    #[test]
    fn a_peak_is_measured_against_its_minute() {
        assert!((peak_to_mean(&of_minute(|_| 5)) - 1.0).abs() < 1e-9);
        assert!((peak_to_mean(&of_minute(|bucket| u32::from(bucket == 7))) - 600.0).abs() < 1e-9);
        assert_eq!(peak_to_mean(&Record::default()), 0.0);
    }

    #[test]
    fn who_is_not_back_waits_to_the_end() {
        let at = SimTime::from_secs;
        let record =
            Record { from: at(10), end: at(70), back: vec![Some(at(12)), None, Some(at(11))], ..Record::default() };
        assert_eq!(waits(&record).iter().map(Duration::as_secs).collect::<Vec<_>>(), [1, 2, 60]);
        assert_eq!(unrecovered(&record), 1);
    }
}
