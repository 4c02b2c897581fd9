//! Where a policy's randomness comes from.

use std::time::Duration;

use rand::RngCore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::distributed_task::dotnet::DotnetRandom;
use crate::random::Random;

/// Where jitter comes from. All but the first are of real projects, and all but the first two are wounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Generator {
    /// Each client has a generator of its own.
    #[default]
    Own,
    /// Each client has a generator of its own, and each of its calls gets a clone of it, so that they draw the same (tower
    /// 0.5, `backoff.rs`).
    OwnCloned,
    /// Every client's generator starts with the same seed, as one that was made in a template.
    SameSeed,
    /// Every call of every client gets a clone of one generator, so it draws the same each time.
    Cloned,
    /// A new generator for each wait, seeded with the last one (actions/runner, `BackoffTimerHelper.cs`).
    LastWait,
}

/// The seed of generators that should not have it in common.
const COMMON_SEED: i32 = 42;

/// The generator of one client.
#[derive(Clone, Debug)]
pub(super) struct Source {
    kind: Generator,
    common: DotnetRandom,
    /// What the clones of a client's own generator start with, once it was drawn.
    own_seed: Option<i32>,
    last: Duration,
}

impl Source {
    pub(super) fn new(kind: Generator) -> Self {
        Self { kind, common: DotnetRandom::new(COMMON_SEED), own_seed: None, last: Duration::ZERO }
    }

    /// A call begins.
    pub(super) fn call_begins(&mut self) {
        match (self.kind, self.own_seed) {
            (Generator::Cloned, _) => self.common = DotnetRandom::new(COMMON_SEED),
            (Generator::OwnCloned, Some(seed)) => self.common = DotnetRandom::new(seed),
            _ => {}
        }
    }

    /// Draws a wait.
    pub(super) fn draw(&mut self, own: &mut Random, draw: impl FnOnce(&mut dyn RngCore) -> Duration) -> Duration {
        match self.kind {
            Generator::Own => draw(&mut **own),
            Generator::OwnCloned => {
                if self.own_seed.is_none() {
                    let seed = own.next_u32() as i32;
                    (self.own_seed, self.common) = (Some(seed), DotnetRandom::new(seed));
                }
                draw(&mut Words(&mut self.common))
            }
            Generator::SameSeed | Generator::Cloned => draw(&mut Words(&mut self.common)),
            Generator::LastWait => {
                let seed = self.last.as_millis() as i32;
                self.last = draw(&mut Words(&mut DotnetRandom::new(seed)));
                self.last
            }
        }
    }
}

/// .NET's generator, word by word.
struct Words<'a>(&'a mut DotnetRandom);

impl RngCore for Words<'_> {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        // A sample has 31 bits.
        (0..3).fold(0, |word, _| (word << 31) ^ u64::from(self.0.sample().unsigned_abs()) << 2)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::uniform;
    use crate::retry::testing::random;

    fn draws(kind: Generator, seed: u64, calls: u32) -> Vec<Vec<Duration>> {
        let (mut source, mut own) = (Source::new(kind), random(seed));
        let minute = Duration::ZERO..Duration::from_secs(60);
        let mut call = || {
            source.call_begins();
            (0..3).map(|_| source.draw(&mut own, |random| uniform(random, minute.clone()))).collect()
        };
        (0..calls).map(|_| call()).collect()
    }

    #[test]
    fn clients_part_only_with_generators_of_their_own() {
        for kind in [Generator::Own, Generator::OwnCloned] {
            assert_ne!(draws(kind, 1, 2), draws(kind, 2, 2), "{kind:?}");
        }
        for kind in [Generator::SameSeed, Generator::Cloned, Generator::LastWait] {
            assert_eq!(draws(kind, 1, 2), draws(kind, 2, 2), "{kind:?}");
        }
    }

    #[test]
    fn a_clone_draws_the_same_in_every_call() {
        for kind in [Generator::Cloned, Generator::OwnCloned] {
            let [first, second] = &draws(kind, 1, 2)[..] else { panic!("two calls") };
            assert_eq!(first, second, "{kind:?}");
        }
        let [first, second] = &draws(Generator::SameSeed, 1, 2)[..] else { panic!("two calls") };
        assert_ne!(first, second);
    }
}
