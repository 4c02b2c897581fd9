//! Making a plan smaller: fewer faults first, then shorter and milder ones.

use std::ops::Range;

use super::{Fault, FaultKind, FaultPlan};
use crate::shrink::tree::{Part, Shape, Tree};

/// A plan and the smaller ones to be tried in its place.
pub type PlanTree = Tree<FaultPlan>;

impl Shape for FaultPlan {
    fn part(&self, place: usize) -> Option<Part> {
        match place.checked_sub(1) {
            None => Some(Part::List { len: self.faults.len() }),
            Some(number) => self.number(number).map(|size| Part::Smaller { size }),
        }
    }

    fn remove(&mut self, _: usize, elements: Range<usize>) {
        self.faults.drain(elements);
    }

    fn resize(&mut self, place: usize, size: u64) {
        if let Some(number) = place.checked_sub(1) {
            self.set_number(number, size);
        }
    }
}

impl FaultPlan {
    /// How many numbers the faults have.
    pub(crate) fn numbers(&self) -> usize {
        self.faults.clone().iter_mut().map(|fault| numbers(fault).len()).sum()
    }

    /// The size of a number of the faults, counted through: the farther from zero, the longer a fault lasts or the harder
    /// it strikes.
    pub(crate) fn number(&self, place: usize) -> Option<u64> {
        let mut faults = self.faults.clone();
        let number = faults.iter_mut().flat_map(numbers).nth(place)?;
        Some(number.size())
    }

    /// Gives a number of the faults another size.
    pub(crate) fn set_number(&mut self, place: usize, size: u64) {
        if let Some(mut number) = self.faults.iter_mut().flat_map(numbers).nth(place) {
            number.set_size(size);
        }
    }
}

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
        | FaultKind::Late { by_ms: number, .. }
        | FaultKind::Stop { grace_ms: number, .. } => numbers.push(Number::Unsigned(number)),
        FaultKind::ClockStep { by_ms: number } | FaultKind::System { amount: number, .. } => {
            numbers.push(Number::Signed(number));
        }
        FaultKind::ClockDrift { ppm } => numbers.push(Number::Short(ppm)),
        _ => {}
    }
    numbers
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;

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
    fn a_late_request_gets_as_early_as_still_fails() {
        let late = |by_ms| FaultKind::Late { by_ms, percent: 100 };
        let (left, _) = shrunk(vec![fault(late(120_000), 1_000)], |plan| {
            plan.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Late { by_ms: 31_000.., .. }))
        });
        let [Fault { kind: FaultKind::Late { by_ms: 31_000..=32_000, .. }, for_ms: 0, .. }] = left[..] else {
            panic!("{left:?}")
        };
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
