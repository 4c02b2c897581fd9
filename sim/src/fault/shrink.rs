//! Making a plan smaller: fewer faults first, then shorter and milder ones.

use proptest::strategy::ValueTree;

use super::{Fault, FaultKind, FaultPlan};

/// A plan and the smaller ones to be tried in its place, as proptest wants it. Any plan can be shrunk, however it came
/// about.
#[derive(Clone, Debug)]
pub struct PlanTree {
    /// The smallest plan known to do what the first one did.
    plan: FaultPlan,
    /// What is being tried.
    candidate: Option<FaultPlan>,
    next: Attempt,
}

/// Which smaller plan is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Without `chunk` faults from place `from` on. `again`: something was removed since the first place.
    Remove { chunk: usize, from: usize, again: bool },
    /// With a smaller number in one place; `too_small` is known to be.
    Lessen { fault: usize, number: usize, too_small: Option<u64> },
    /// Nothing is left to try.
    Done,
}

impl PlanTree {
    /// The tree over a plan.
    pub fn of(plan: FaultPlan) -> Self {
        let next = Attempt::Remove { chunk: plan.faults.len(), from: 0, again: false };
        Self { plan, candidate: None, next }
    }

    /// Sets up the next candidate, if there is one.
    fn attempt(&mut self) -> bool {
        while self.candidate.is_none() && self.next != Attempt::Done {
            self.candidate = self.proposed();
            if self.candidate.is_none() {
                self.next = self.beyond();
            }
        }
        self.candidate.is_some()
    }

    /// The plan that the next attempt is about; `None` when there is no such attempt.
    fn proposed(&self) -> Option<FaultPlan> {
        let mut plan = self.plan.clone();
        match self.next {
            Attempt::Remove { chunk, from, .. } => {
                let to = (from + chunk).min(plan.faults.len());
                (from < to).then(|| plan.faults.drain(from..to).count())?;
            }
            Attempt::Lessen { fault, number, too_small } => {
                let mut numbers = numbers(plan.faults.get_mut(fault)?);
                let found = numbers.get_mut(number)?;
                let size = found.size();
                let smaller = match too_small {
                    None => 0,
                    Some(low) => between(low, size)?,
                };
                (smaller < size).then(|| found.set_size(smaller))?;
            }
            Attempt::Done => return None,
        }
        Some(plan)
    }

    /// Where to go on when an attempt has nothing to propose.
    fn beyond(&self) -> Attempt {
        match self.next {
            Attempt::Remove { chunk: 1, again: true, .. } => Attempt::Remove { chunk: 1, from: 0, again: false },
            Attempt::Remove { chunk: 0 | 1, .. } => Attempt::Lessen { fault: 0, number: 0, too_small: None },
            Attempt::Remove { chunk, .. } => Attempt::Remove { chunk: chunk / 2, from: 0, again: false },
            Attempt::Lessen { fault, .. } if fault >= self.plan.faults.len() => Attempt::Done,
            Attempt::Lessen { fault, number, .. } if number < NUMBERS_MAX => {
                Attempt::Lessen { fault, number: number + 1, too_small: None }
            }
            Attempt::Lessen { fault, .. } => Attempt::Lessen { fault: fault + 1, number: 0, too_small: None },
            Attempt::Done => Attempt::Done,
        }
    }

    /// The candidate did what the first plan did.
    fn accept(&mut self, candidate: FaultPlan) {
        self.plan = candidate;
        if let Attempt::Remove { again, .. } = &mut self.next {
            *again = true;
        }
    }

    /// The candidate did not.
    fn reject(&mut self, candidate: &FaultPlan) {
        match &mut self.next {
            Attempt::Remove { chunk, from, .. } => *from += *chunk,
            Attempt::Lessen { fault, number, too_small } => {
                *too_small = numbers(&mut candidate.faults[*fault].clone()).get(*number).map(Number::size);
            }
            Attempt::Done => {}
        }
    }
}

impl ValueTree for PlanTree {
    type Value = FaultPlan;

    fn current(&self) -> FaultPlan {
        self.candidate.as_ref().unwrap_or(&self.plan).clone()
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

/// No fault has more numbers than this.
const NUMBERS_MAX: usize = 2;

/// A number of a fault that makes it last longer or strike harder the farther it is from zero.
enum Number<'a> {
    Unsigned(&'a mut u64),
    Signed(&'a mut i64),
    Short(&'a mut i32),
}

impl Number<'_> {
    fn size(&self) -> u64 {
        match self {
            Number::Unsigned(number) => **number,
            Number::Signed(number) => number.unsigned_abs(),
            Number::Short(number) => u64::from(number.unsigned_abs()),
        }
    }

    /// Keeps the sign.
    fn set_size(&mut self, size: u64) {
        match self {
            Number::Unsigned(number) => **number = size,
            Number::Signed(number) => {
                **number = number.signum().saturating_mul(i64::try_from(size).unwrap_or(i64::MAX))
            }
            Number::Short(number) => **number = number.signum().saturating_mul(i32::try_from(size).unwrap_or(i32::MAX)),
        }
    }
}

fn numbers(fault: &mut Fault) -> Vec<Number<'_>> {
    let mut numbers = vec![Number::Unsigned(&mut fault.for_ms)];
    match &mut fault.kind {
        FaultKind::Latency { add_ms: number, .. }
        | FaultKind::Delay { by_ms: number, .. }
        | FaultKind::Stop { grace_ms: number, .. } => numbers.push(Number::Unsigned(number)),
        FaultKind::ClockStep { by_ms: number } | FaultKind::System { amount: number, .. } => {
            numbers.push(Number::Signed(number));
        }
        FaultKind::ClockDrift { ppm } => numbers.push(Number::Short(ppm)),
        _ => {}
    }
    numbers
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Target;

    fn fault(kind: FaultKind, for_ms: u64) -> Fault {
        Fault { kind, target: Target::default(), at_ms: 500, for_ms }
    }

    /// Shrinks as proptest does; returns what is left and how many plans were tried.
    fn shrunk(faults: Vec<Fault>, fails: impl Fn(&FaultPlan) -> bool) -> (Vec<Fault>, usize) {
        let mut tree = PlanTree::of(FaultPlan { faults, heal_at_ms: 60_000 });
        let (mut smallest, mut failing, mut tried) = (tree.current(), true, 0);
        while if failing { tree.simplify() } else { tree.complicate() } {
            let plan = tree.current();
            tried += 1;
            failing = fails(&plan);
            if failing {
                smallest = plan;
            }
        }
        (smallest.faults, tried)
    }

    #[test]
    fn faults_that_do_not_matter_go_and_the_others_get_short() {
        let mut faults: Vec<Fault> =
            (1..=20).map(|n| fault(FaultKind::Latency { add_ms: n, direction: Default::default() }, 1_000)).collect();
        faults[7] = fault(FaultKind::Crash, 60_000);
        faults[12] = fault(FaultKind::ClockStep { by_ms: -90_000 }, 45_000);
        let lasts = |plan: &FaultPlan, kind: fn(&FaultKind) -> bool| {
            plan.faults.iter().find(|fault| kind(&fault.kind)).map_or(0, |fault| fault.for_ms)
        };
        let (left, tried) = shrunk(faults, |plan| {
            let stepped =
                plan.faults.iter().any(|f| matches!(f.kind, FaultKind::ClockStep { by_ms } if by_ms <= -30_000));
            lasts(plan, |kind| matches!(kind, FaultKind::Crash)) >= 10_000 && stepped
        });
        let [crash, step] = &left[..] else { panic!("{left:?}") };
        assert!((10_000..=11_000).contains(&crash.for_ms), "{crash:?}");
        assert_eq!(step.for_ms, 0);
        assert!(matches!(step.kind, FaultKind::ClockStep { by_ms: -31_000..=-30_000 }), "{step:?}");
        assert!(tried < 80, "{tried} plans tried");
    }

    #[test]
    fn a_failure_that_needs_no_fault_is_left_without_any() {
        let (left, tried) = shrunk(vec![fault(FaultKind::Crash, 1_000); 9], |_| true);
        assert_eq!((left.len(), tried), (0, 1));
    }

    #[test]
    fn what_cannot_be_smaller_stays() {
        let (left, _) = shrunk(vec![fault(FaultKind::Refuse, 1_000)], |plan| {
            plan.faults.first().is_some_and(|fault| fault.for_ms == 1_000)
        });
        assert_eq!(left, [fault(FaultKind::Refuse, 1_000)]);
    }
}
