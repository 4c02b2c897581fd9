//! How a case goes: for how long there is trouble, and how much there is to do.

use rand::RngCore;

/// One of the three kinds of cases.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// How many agents there are.
    pub agents: RangeOf,
    heal_min: u64,
    end_min: u64,
    jobs: RangeOf,
    jobs_after: RangeOf,
}

/// The least and the most of something.
pub type RangeOf = (u64, u64);

const MINUTE_MS: u64 = 60_000;
/// The last job is queued so long after the heal.
const QUEUED_AFTER_MS: u64 = 12 * MINUTE_MS;

impl Course {
    /// Trouble and work close together.
    const SHIFT: Self = Self { agents: (2, 4), heal_min: 26, end_min: 96, jobs: (4, 10), jobs_after: (2, 6) };
    /// Trouble far apart, as tokens and counters grow old.
    const HOURS: Self = Self { agents: (2, 3), heal_min: 110, end_min: 180, jobs: (4, 12), jobs_after: (2, 6) };
    /// So many agents that they can be in each other's way.
    const FLEET: Self = Self { agents: (12, 16), heal_min: 12, end_min: 45, jobs: (0, 4), jobs_after: (0, 2) };

    /// One of twelve is a fleet, three are long.
    pub fn draw(random: &mut impl RngCore) -> Self {
        match random.next_u64() % 12 {
            0..=7 => Self::SHIFT,
            8..=10 => Self::HOURS,
            _ => Self::FLEET,
        }
    }

    /// Are there so many agents that they show whether they act in step?
    pub fn is_fleet(&self) -> bool {
        self.agents == Self::FLEET.agents
    }

    /// From here on no fault acts.
    pub fn heal_ms(&self) -> u64 {
        self.heal_min * MINUTE_MS
    }

    /// Everything has to have come right by then.
    pub fn end_ms(&self) -> u64 {
        self.end_min * MINUTE_MS
    }

    /// When jobs are queued, in order: before the heal and after it, half of them close to another.
    pub fn queued_at_ms(&self, random: &mut impl RngCore) -> Vec<u64> {
        let heal_ms = self.heal_ms();
        let mut queued: Vec<u64> = Vec::new();
        for (count, span) in [(self.jobs, 0..heal_ms), (self.jobs_after, heal_ms..heal_ms + QUEUED_AFTER_MS)] {
            for _ in 0..between(random, count) {
                let near = queued.last().copied().filter(|_| random.next_u64().is_multiple_of(2));
                queued.push(match near {
                    Some(near_ms) => near_ms + random.next_u64() % 10 * 1_000,
                    None => span.start + random.next_u64() % (span.end - span.start) / 1_000 * 1_000,
                });
            }
        }
        queued.sort_unstable();
        queued
    }
}

/// One number of a range, both ends included.
pub fn between(random: &mut impl RngCore, (least, most): RangeOf) -> u64 {
    least + random.next_u64() % (most - least + 1)
}
