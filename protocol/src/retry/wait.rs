//! How long to wait: the shape of a back-off and its jitter.

use std::time::Duration;

use rand::RngCore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::generator::Source;
use super::span::Span;
use crate::distributed_task::dotnet;
use crate::distributed_task::http_retry::{self, MIN_BACKOFF};
use crate::random::{Random, uniform};

/// How long to wait before retry `n`, counted from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wait {
    /// Not at all.
    None,
    /// Always as long.
    Fixed {
        /// As long as this.
        wait: Span,
    },
    /// `step * (n + 1)`, at most `cap`.
    Linear {
        /// What is added each time.
        step: Span,
        /// The longest wait.
        #[serde(default = "endless")]
        cap: Span,
    },
    /// `base * factor^n`, at most `cap`, with jitter.
    Exponential(Exponential),
    /// `min(cap, U[base, 3 * last))`, where the last wait is `base` at first (AWS, `backoff_simulator.py`).
    Decorrelated {
        /// The shortest wait.
        base: Span,
        /// The longest wait.
        cap: Span,
    },
    /// One after another, a number of waits from a range each; the last range goes on for ever.
    Stages(Vec<Stage>),
    /// `min(shortest + (2^n - 1) * U[0.8, 1.2) s, 10 min)` with n from 1 (`VssHttpRetryOptions.cs`).
    Vss {
        /// 10 s, and twice that for calls of low priority.
        #[serde(default = "vss_shortest")]
        shortest: Span,
    },
    /// 15 to 30 s after each of the first five errors, then 30 to 60 s, from .NET's generator seeded with the last wait
    /// (actions/runner, `MessageListener.cs`): the same chain on every machine of the world.
    RunnerPoll,
}

fn endless() -> Span {
    Span::ENDLESS
}

fn vss_shortest() -> Span {
    Span(MIN_BACKOFF)
}

/// The parts of an exponential back-off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exponential {
    /// The first wait.
    pub base: Span,
    /// What each wait is multiplied with.
    #[serde(default = "doubling")]
    pub factor: f64,
    /// The longest wait, before or after jitter.
    #[serde(default = "endless")]
    pub cap: Span,
    /// What is drawn.
    #[serde(default)]
    pub jitter: Jitter,
    /// What the cap caps.
    #[serde(default)]
    pub caps: Caps,
    /// What happens when the power no longer fits.
    #[serde(default)]
    pub overflow: Overflow,
    /// Once, before the first retry, up to so much more (elastic-agent#13874).
    #[serde(default)]
    pub first_extra: Span,
}

fn doubling() -> f64 {
    2.0
}

impl Exponential {
    /// Doubling from `base` to `cap`, without jitter.
    pub const fn doubling(base: Span, cap: Span) -> Self {
        Self {
            base,
            factor: 2.0,
            cap,
            jitter: Jitter::None,
            caps: Caps::BeforeJitter,
            overflow: Overflow::Saturates,
            first_extra: Span::ZERO,
        }
    }

    /// The same with jitter.
    pub const fn jittered(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }
}

/// What is drawn around a wait of `v`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Jitter {
    /// Nothing: `v`.
    #[default]
    None,
    /// `v/2 + U[0, v/2)`.
    Equal,
    /// `U[0, v)`.
    Full,
    /// `v/2 + U[0, v)` (elastic-agent).
    Around,
    /// `v + U[0, share * v)`.
    Add(f64),
}

/// Whether the cap holds before or after jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Caps {
    /// The wait is capped, then jitter is drawn around it.
    #[default]
    BeforeJitter,
    /// The sum is capped. At the cap all waits are equal (fleet#53357).
    AfterJitter,
}

/// What happens when a power of two no longer fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// It stays at the cap.
    #[default]
    Saturates,
    /// It wraps around, as milliseconds in 32 bits do, and what comes out negative is no wait at all.
    Wraps,
}

/// So many waits from a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// How many.
    pub times: u32,
    /// The shortest.
    pub from: Span,
    /// The longest, exclusive.
    pub to: Span,
}

/// The waits of one client.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    wait: Wait,
    source: Source,
    last: Duration,
}

/// Errors in a row before the runner's listener waits longer.
const RUNNER_SHORT_ERRORS: u32 = 5;

impl Waits {
    pub(super) fn new(wait: Wait, source: Source) -> Self {
        Self { wait, source, last: Duration::ZERO }
    }

    pub(super) fn call_begins(&mut self) {
        self.source.call_begins();
    }

    /// The wait before retry `n`, from 0.
    pub(super) fn wait(&mut self, n: u32, own: &mut Random) -> Duration {
        let Self { wait, source, last } = self;
        let seconds = Duration::from_secs;
        *last = match wait {
            Wait::None => Duration::ZERO,
            Wait::Fixed { wait } => wait.0,
            Wait::Linear { step, cap } => step.0.saturating_mul(n.saturating_add(1)).min(cap.0),
            Wait::Exponential(shape) => source.draw(own, |random| shape.draw(n, random)),
            Wait::Decorrelated { base, cap } => {
                let before = if n == 0 { base.0 } else { *last };
                let range = base.0..before.saturating_mul(3);
                source.draw(own, |random| uniform(random, range)).min(cap.0)
            }
            Wait::Stages(stages) => {
                let Stage { from, to, .. } = stage(stages, n);
                source.draw(own, |random| uniform(random, from.0..to.0))
            }
            Wait::Vss { shortest } => {
                source.draw(own, |random| http_retry::exponential_backoff(n.saturating_add(1), shortest.0, random))
            }
            Wait::RunnerPoll if n < RUNNER_SHORT_ERRORS => dotnet::random_backoff(seconds(15), seconds(30), *last),
            Wait::RunnerPoll => dotnet::random_backoff(seconds(30), seconds(60), *last),
        };
        *last
    }
}

fn stage(stages: &[Stage], n: u32) -> Stage {
    let mut before = 0u32;
    let found = stages.iter().find(|stage| {
        before = before.saturating_add(stage.times);
        n < before
    });
    *found.or(stages.last()).expect("checked: there is a stage")
}

impl Exponential {
    fn draw(&self, n: u32, random: &mut dyn RngCore) -> Duration {
        let extra = if n == 0 { uniform(random, Duration::ZERO..self.first_extra.0) } else { Duration::ZERO };
        let grown = self.grown(n);
        let wait = match self.caps {
            Caps::BeforeJitter => self.jitter.around(grown.min(self.cap.0), random),
            Caps::AfterJitter => self.jitter.around(grown, random).min(self.cap.0),
        };
        extra + wait
    }

    /// `base * factor^n`.
    fn grown(&self, n: u32) -> Duration {
        if self.overflow == Overflow::Wraps {
            let millis = self.base.0.as_millis() as i32;
            return Duration::from_millis(millis.wrapping_mul(1i32.checked_shl(n).unwrap_or(0)).max(0) as u64);
        }
        let (mut nanos, thousandths) = (u128::from(self.base.nanos()), thousandths(self.factor));
        for _ in 0..n {
            let next = nanos * thousandths / 1_000;
            if next == nanos {
                break;
            }
            nanos = next;
            if nanos >= u128::from(u64::MAX) {
                return Duration::from_nanos(u64::MAX);
            }
        }
        Duration::from_nanos(nanos as u64)
    }
}

impl Jitter {
    fn around(self, wait: Duration, random: &mut dyn RngCore) -> Duration {
        let up_to = |most: Duration, random: &mut dyn RngCore| uniform(random, Duration::ZERO..most);
        match self {
            Jitter::None => wait,
            Jitter::Equal => wait / 2 + up_to(wait / 2, random),
            Jitter::Full => up_to(wait, random),
            Jitter::Around => wait / 2 + up_to(wait, random),
            Jitter::Add(share) => {
                let most = wait.as_nanos().saturating_mul(thousandths(share)) / 1_000;
                wait.saturating_add(up_to(Duration::from_nanos(u64::try_from(most).unwrap_or(u64::MAX)), random))
            }
        }
    }
}

/// A factor in whole thousandths, so that every machine computes the same.
fn thousandths(factor: f64) -> u128 {
    (factor * 1_000.0).round() as u128
}

#[cfg(test)]
mod tests {
    use super::super::generator::Generator;
    use super::super::testing::random;
    use super::*;

    fn first(wait: Wait, count: u32, seed: u64) -> Vec<u64> {
        let (mut waits, mut own) = (Waits::new(wait, Source::new(Generator::Own)), random(seed));
        (0..count).map(|n| waits.wait(n, &mut own).as_millis() as u64).collect()
    }

    /// The smallest and the largest of many draws of retry `n`.
    fn range(jitter: Jitter, caps: Caps, n: u32) -> (u64, u64) {
        let shape = Exponential { caps, ..Exponential::doubling(Span::secs(1), Span::secs(60)).jittered(jitter) };
        let all = (0..2_000).map(|seed| shape.draw(n, &mut *random(seed)).as_millis() as u64);
        all.fold((u64::MAX, 0), |(least, most), wait| (least.min(wait), most.max(wait)))
    }

    fn near((least, most): (u64, u64), low: u64, high: u64) {
        let slack = (high - low) / 100;
        assert!((low..=low + slack).contains(&least) && (high - slack..=high).contains(&most), "{least}..{most}");
    }

    #[test]
    fn plain_shapes_are_their_formulas() {
        let second = Span::secs(1);
        assert_eq!(first(Wait::None, 3, 0), [0, 0, 0]);
        assert_eq!(first(Wait::Fixed { wait: second }, 3, 0), [1_000; 3]);
        assert_eq!(first(Wait::Linear { step: second, cap: Span::millis(2_500) }, 4, 0), [1_000, 2_000, 2_500, 2_500]);
        let doubling = Exponential::doubling(second, Span::secs(60));
        assert_eq!(
            first(Wait::Exponential(doubling.clone()), 7, 0),
            [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]
        );
        let by_half = Exponential { factor: 1.5, ..doubling };
        assert_eq!(first(Wait::Exponential(by_half), 4, 0), [1_000, 1_500, 2_250, 3_375]);
    }

    #[test]
    fn jitter_has_the_range_of_its_formula() {
        near(range(Jitter::Equal, Caps::BeforeJitter, 3), 4_000, 8_000);
        near(range(Jitter::Full, Caps::BeforeJitter, 3), 0, 8_000);
        near(range(Jitter::Around, Caps::BeforeJitter, 3), 4_000, 12_000);
        near(range(Jitter::Add(0.1), Caps::BeforeJitter, 3), 8_000, 8_800);
        near(range(Jitter::Add(1.0), Caps::BeforeJitter, 9), 60_000, 120_000);
    }

    #[test]
    fn a_cap_after_jitter_takes_the_jitter_away() {
        assert_eq!(range(Jitter::Add(0.1), Caps::AfterJitter, 9), (60_000, 60_000));
    }

    #[test]
    fn decorrelated_waits_lie_between_base_and_three_times_the_last() {
        for seed in 0..200 {
            let waits = first(Wait::Decorrelated { base: Span::millis(5), cap: Span::millis(2_000) }, 30, seed);
            let mut last = 5;
            for wait in waits {
                assert!(wait >= 5 && wait <= (3 * (last + 1)).min(2_000), "{wait} after {last}");
                last = wait;
            }
        }
    }

    #[test]
    fn stages_come_one_after_another() {
        let stage = |times, from, to| Stage { times, from: Span::secs(from), to: Span::secs(to) };
        let waits = first(Wait::Stages(vec![stage(2, 1, 2), stage(1, 10, 11), stage(1, 60, 61)]), 5, 3);
        assert_eq!(waits.iter().map(|wait| wait / 1_000).collect::<Vec<_>>(), [1, 1, 10, 60, 60]);
    }

    #[test]
    fn the_runner_waits_the_same_everywhere() {
        let chain = [25_893, 28_273, 18_857, 16_505, 20_340, 55_714, 33_905];
        assert_eq!(first(Wait::RunnerPoll, 7, 1), chain);
        assert_eq!(first(Wait::RunnerPoll, 7, 2), chain);
    }

    #[test]
    fn a_power_that_wraps_is_no_wait() {
        let shape =
            Exponential { overflow: Overflow::Wraps, ..Exponential::doubling(Span::millis(100), Span::secs(10)) };
        assert_eq!(shape.grown(3), Duration::from_millis(800));
        assert_eq!(shape.grown(30), Duration::ZERO);
        let sound = Exponential { overflow: Overflow::Saturates, ..shape };
        assert_eq!(sound.draw(u32::MAX, &mut *random(0)), Duration::from_secs(10));
    }

    #[test]
    fn the_first_wait_alone_may_be_longer() {
        let shape = Exponential { first_extra: Span::secs(120), ..Exponential::doubling(Span::secs(1), Span::secs(1)) };
        let longest = (0..500).map(|seed| shape.draw(0, &mut *random(seed))).max().expect("some");
        assert!(longest > Duration::from_secs(119) && longest < Duration::from_secs(121), "{longest:?}");
        assert_eq!(shape.draw(1, &mut *random(0)), Duration::from_secs(1));
    }
}
