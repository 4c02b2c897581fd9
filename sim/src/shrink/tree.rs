//! The search for something smaller, as proptest wants it: what is tried follows from what was accepted and rejected,
//! and from nothing else.

use std::ops::Range;

use proptest::strategy::ValueTree;

/// Something that consists of lists and numbers which can be made smaller one by one.
pub trait Shape: Clone {
    /// What is at a place, in the order in which places are to become smaller; `None` beyond the last. What happens to
    /// one place never moves an earlier one.
    fn part(&self, place: usize) -> Option<Part>;

    /// Takes elements out of the list at a place.
    fn remove(&mut self, place: usize, elements: Range<usize>);

    /// Gives the number at a place this size. It keeps its sign.
    fn resize(&mut self, place: usize, size: u64);
}

/// What is at a place of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A list that may lose elements.
    List {
        /// How many elements it has.
        len: usize,
    },
    /// A number that may come closer to zero.
    Smaller {
        /// How far it is from zero.
        size: u64,
    },
    /// A number that may only become rounder.
    Rounder {
        /// How far it is from zero.
        size: u64,
    },
}

/// A value and the smaller ones to be tried in its place. Any value can be shrunk, however it came about.
#[derive(Clone, Debug)]
pub struct Tree<S> {
    /// The smallest known to do what the first one did.
    smallest: S,
    /// What is being tried.
    candidate: Option<S>,
    /// The place that is being made smaller.
    place: usize,
    /// What is tried there next.
    next: Attempt,
}

/// What is tried at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Whatever its part allows.
    First,
    /// Without `chunk` elements from `from` on. `again`: something was removed since the first element.
    Remove { chunk: usize, from: usize, again: bool },
    /// A smaller number; `too_small` is known to be.
    Lessen { too_small: Option<u64> },
    /// A multiple of the unit of this index.
    Round { unit: usize },
    /// Nothing.
    Last,
}

/// What a rounder number is a multiple of: hours, minutes and seconds in milliseconds, or decimals.
const UNITS: [u64; 8] = [3_600_000, 600_000, 60_000, 10_000, 1_000, 100, 50, 10];

impl<S: Shape> Tree<S> {
    /// The tree over a value.
    pub fn of(value: S) -> Self {
        Self { smallest: value, candidate: None, place: 0, next: Attempt::First }
    }

    /// The smallest value that was accepted.
    pub fn smallest(&self) -> &S {
        &self.smallest
    }

    /// Puts something still smaller in the place of the candidate.
    pub fn mend(&mut self, candidate: S) {
        self.candidate = Some(candidate);
    }

    /// Sets up the next candidate, if there is one.
    fn attempt(&mut self) -> bool {
        while let Some(part) = self.smallest.part(self.place) {
            self.candidate = self.proposed(part);
            if self.candidate.is_some() {
                return true;
            }
            self.next = beyond(self.next, part);
            if self.next == Attempt::Last {
                (self.place, self.next) = (self.place + 1, Attempt::First);
            }
        }
        false
    }

    /// What the next attempt is about; `None` when there is no such attempt.
    fn proposed(&self, part: Part) -> Option<S> {
        let mut proposed = self.smallest.clone();
        match (self.next, part) {
            (Attempt::Remove { chunk, from, .. }, Part::List { len }) => {
                let to = from.saturating_add(chunk).min(len);
                (from < to).then(|| proposed.remove(self.place, from..to))?;
            }
            (Attempt::Lessen { too_small }, Part::Smaller { size }) => {
                let smaller = too_small.map_or(Some(0), |low| between(low, size))?;
                (smaller < size).then(|| proposed.resize(self.place, smaller))?;
            }
            (Attempt::Round { unit }, Part::Rounder { size }) => {
                let rounder = size - size % UNITS.get(unit)?;
                (rounder > 0 && rounder < size).then(|| proposed.resize(self.place, rounder))?;
            }
            _ => return None,
        }
        Some(proposed)
    }

    /// The candidate did what the first value did.
    fn accept(&mut self, candidate: S) {
        self.smallest = candidate;
        match &mut self.next {
            Attempt::Remove { again, .. } => *again = true,
            // Units go from coarse to fine.
            Attempt::Round { unit } => *unit = UNITS.len(),
            _ => {}
        }
    }

    /// The candidate did not.
    fn reject(&mut self, candidate: &S) {
        match &mut self.next {
            Attempt::Remove { chunk, from, .. } => *from += *chunk,
            Attempt::Lessen { too_small } => {
                match candidate.part(self.place) {
                    Some(Part::Smaller { size }) => *too_small = Some(size),
                    // It was mended, and its places are others now.
                    _ => self.next = Attempt::Last,
                }
            }
            Attempt::Round { unit } => *unit += 1,
            Attempt::First | Attempt::Last => {}
        }
    }
}

/// Where to go on when an attempt has nothing to propose.
fn beyond(attempt: Attempt, part: Part) -> Attempt {
    match (attempt, part) {
        (Attempt::First, Part::List { len }) => Attempt::Remove { chunk: len, from: 0, again: false },
        (Attempt::First, Part::Smaller { .. }) => Attempt::Lessen { too_small: None },
        (Attempt::First, Part::Rounder { .. }) => Attempt::Round { unit: 0 },
        (Attempt::Remove { chunk: 1, again: true, .. }, _) => Attempt::Remove { chunk: 1, from: 0, again: false },
        (Attempt::Remove { chunk: 0 | 1, .. }, _) => Attempt::Last,
        (Attempt::Remove { chunk, .. }, _) => Attempt::Remove { chunk: chunk / 2, from: 0, again: false },
        (Attempt::Round { unit }, Part::Rounder { size }) if UNITS.get(unit).is_some_and(|unit| size % unit != 0) => {
            Attempt::Round { unit: unit + 1 }
        }
        (Attempt::Round { .. } | Attempt::Lessen { .. } | Attempt::Last, _) => Attempt::Last,
    }
}

/// A round number about half way between two; `None` when they are close to each other.
fn between(low: u64, high: u64) -> Option<u64> {
    let middle = low + (high - low) / 2;
    // Two significant digits are enough for a reader.
    let mut unit = 1;
    while middle / unit >= 100 {
        unit *= 10;
    }
    let round = middle / unit * unit;
    (round > low && round < high).then_some(round)
}

impl<S: Shape + std::fmt::Debug> ValueTree for Tree<S> {
    type Value = S;

    fn current(&self) -> S {
        self.candidate.as_ref().unwrap_or(&self.smallest).clone()
    }

    fn simplify(&mut self) -> bool {
        if let Some(candidate) = self.candidate.take() {
            self.accept(candidate);
        }
        self.attempt()
    }

    fn complicate(&mut self) -> bool {
        let Some(candidate) = self.candidate.take() else { return false };
        self.reject(&candidate);
        self.attempt()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A list of numbers, a number and a round number.
    #[derive(Clone, Debug, PartialEq)]
    struct Toy {
        list: Vec<u64>,
        small: u64,
        round: u64,
    }

    impl Shape for Toy {
        fn part(&self, place: usize) -> Option<Part> {
            match place {
                0 => Some(Part::List { len: self.list.len() }),
                1 => Some(Part::Smaller { size: self.small }),
                2 => Some(Part::Rounder { size: self.round }),
                _ => None,
            }
        }

        fn remove(&mut self, _: usize, elements: Range<usize>) {
            self.list.drain(elements);
        }

        fn resize(&mut self, place: usize, size: u64) {
            *(if place == 1 { &mut self.small } else { &mut self.round }) = size;
        }
    }

    fn shrunk(from: Toy, fails: impl Fn(&Toy) -> bool) -> (Toy, usize) {
        let (mut tree, mut tried) = (Tree::of(from), 0);
        let mut goes_on = tree.simplify();
        while goes_on {
            tried += 1;
            assert!(tried < 10_000, "it goes on for ever at {tree:?}");
            goes_on = if fails(&tree.current()) { tree.simplify() } else { tree.complicate() };
        }
        (tree.smallest().clone(), tried)
    }

    #[test]
    fn numbers_become_as_round_as_they_may() {
        let round = |round: u64, least: u64| {
            shrunk(Toy { list: Vec::new(), small: 0, round }, |toy| toy.round >= least).0.round
        };
        assert_eq!(round(5_025_017, 0), 3_600_000);
        assert_eq!(round(5_025_017, 4_000_000), 4_800_000);
        assert_eq!(round(5_025_017, 5_000_000), 5_020_000, "ten seconds");
        assert_eq!(round(347, 0), 300);
        assert_eq!(round(347, 310), 340);
        assert_eq!(round(347, 345), 347, "rounder would be too small");
        assert_eq!(round(7, 0), 7);
    }

    proptest! {
        #[test]
        fn what_matters_is_left_and_nothing_else(
            list in prop::collection::vec(0..50_u64, 0..30),
            needed in prop::collection::btree_set(0..50_u64, 0..4),
            small in 0..u64::MAX,
            least in 0..100_000_u64,
        ) {
            let has = |toy: &Toy| needed.iter().filter(|it| list.contains(it)).all(|it| toy.list.contains(it));
            let first = Toy { list: list.clone(), small, round: small };
            let (left, _) = shrunk(first, |toy| has(toy) && toy.small >= least.min(small));
            let kept = needed.iter().filter(|it| list.contains(it)).count();
            prop_assert_eq!(left.list.len(), kept, "{:?}", left);
            prop_assert!(has(&left) && left.small >= least.min(small));
            prop_assert!(left.small <= least + least / 9 + 1, "{} for {}", left.small, least);
        }
    }
}
