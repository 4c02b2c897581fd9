//! .NET's seeded `System.Random`, and the back-off that both agents draw from it.
//!
//! `BackoffTimerHelper.GetRandomBackoff(min, max, previous)` seeds a new generator with the previous wait, and the
//! listeners pass a field that starts at zero. So the "random" waits are one fixed chain, the same on every machine of
//! the world: after a mass disconnect all agents come back in step.

use std::time::Duration;

/// .NET's `System.Random` with an explicit seed: Knuth's subtractive generator, kept by .NET for compatibility.
#[derive(Clone, Debug)]
pub struct DotnetRandom {
    table: [i32; 56],
    next: usize,
    behind: usize,
}

/// Constants of the subtractive generator, as .NET has them (`Random.Net5CompatSeedImpl`).
const MODULUS: i32 = i32::MAX;
const SEED_BASE: i32 = 161_803_398;
const LAG: usize = 21;

impl DotnetRandom {
    /// `new Random(seed)`.
    pub fn new(seed: i32) -> Self {
        let mut table = [0; 56];
        let mut last = SEED_BASE - if seed == i32::MIN { i32::MAX } else { seed.abs() };
        table[55] = last;
        let (mut drawn, mut slot) = (1, 0);
        for _ in 1..55 {
            slot = (slot + 21) % 55;
            table[slot] = drawn;
            drawn = wrap(last - drawn);
            last = table[slot];
        }
        for _ in 1..5 {
            for at in 1..56 {
                let other = (at + 30) % 55;
                table[at] = wrap(table[at].wrapping_sub(table[1 + other]));
            }
        }
        Self { table, next: 0, behind: LAG }
    }

    /// The next raw sample, in `0..i32::MAX`.
    pub fn sample(&mut self) -> i32 {
        self.next = if self.next >= 55 { 1 } else { self.next + 1 };
        self.behind = if self.behind >= 55 { 1 } else { self.behind + 1 };
        let mut drawn = self.table[self.next].wrapping_sub(self.table[self.behind]);
        if drawn == MODULUS {
            drawn -= 1;
        }
        drawn = wrap(drawn);
        self.table[self.next] = drawn;
        drawn
    }

    /// `Next(low, high)`: a number in `low..high`.
    pub fn next(&mut self, low: i32, high: i32) -> i32 {
        let share = f64::from(self.sample()) * (1.0 / f64::from(MODULUS));
        (share * (f64::from(high) - f64::from(low))) as i32 + low
    }
}

/// `BackoffTimerHelper.GetRandomBackoff(low, high, previous)`: a wait that follows from the previous one alone.
pub fn random_backoff(low: Duration, high: Duration, previous: Duration) -> Duration {
    let mut random = DotnetRandom::new(previous.as_millis() as i32);
    Duration::from_millis(random.next(low.as_millis() as i32, high.as_millis() as i32) as u64)
}

fn wrap(number: i32) -> i32 {
    if number < 0 { number.wrapping_add(MODULUS) } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(low: u64, high: u64, mut previous: u64, length: usize) -> Vec<u64> {
        let mut waits = Vec::new();
        for _ in 0..length {
            let wait =
                random_backoff(Duration::from_secs(low), Duration::from_secs(high), Duration::from_millis(previous));
            previous = wait.as_millis() as u64;
            waits.push(previous);
        }
        waits
    }

    #[test]
    fn first_samples_are_those_of_dotnet() {
        assert_eq!(DotnetRandom::new(0).sample(), 1_559_595_546);
        assert_eq!(DotnetRandom::new(1).sample(), 534_011_718);
    }

    #[test]
    fn poll_errors_wait_the_same_everywhere() {
        let first = chain(15, 30, 0, 5);
        assert_eq!(first, [25_893, 28_273, 18_857, 16_505, 20_340]);
        assert_eq!(chain(30, 60, 20_340, 4), [55_714, 33_905, 46_695, 41_288]);
    }

    #[test]
    fn empty_polls_of_azure_fall_into_a_cycle_of_nineteen() {
        let waits = chain(5, 15, 0, 65 + 2 * 19);
        assert_eq!(waits[..6], [12_262, 12_054, 5_409, 10_247, 5_184, 14_790]);
        let cycle = [
            9_927, 13_423, 7_412, 14_426, 7_338, 7_831, 13_388, 14_563, 13_060, 11_008, 10_841, 8_390, 13_746, 14_846,
            11_524, 6_555, 7_241, 11_079, 11_762,
        ];
        assert_eq!(waits[64..83], cycle);
        assert_eq!(waits[83..102], cycle);
        assert!(!cycle.contains(&waits[63]));
    }
}
