//! The controller of listeners: when it makes a new pod in place of one that has ended, and when it takes one away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::choices::{PodRecreation, SpecChange};
use crate::supervise::{Exit, Restart, Supervise};

/// From the end of a pod to the start of the next one, if nobody waits on purpose (ARC#4656, #3351).
pub const RECREATION: Duration = Duration::from_secs(3);
/// `terminationGracePeriodSeconds` of the listener's pod (`resourcebuilder.go:408`).
pub const GRACE: Duration = Duration::from_secs(60);
/// The first and the longest pause of the repaired controller, as the kubelet has them for containers.
pub const BACKOFF: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];
/// A pod that ran as long as this begins with the first pause again, as with the kubelet.
pub const SETTLED: Duration = Duration::from_secs(600);

/// How often the real controller looks whether the runners of a set whose spec has changed are gone
/// (`autoscalingrunnerset_controller.go:294-305`).
pub const DRAINED: Duration = Duration::from_secs(1);

impl SpecChange {
    /// May a set whose spec has changed have a listener while it has so many runners?
    pub fn lets_listen(self, runners: usize) -> bool {
        match self {
            Self::WaitsForDrain => runners == 0,
            Self::KeepsListening => true,
        }
    }
}

/// The controller of one listener.
#[derive(Clone, Debug)]
pub struct PodController {
    recreation: PodRecreation,
    ended_in_a_row: u32,
    evicted: Eviction,
}

/// Whether the pod that ends was evicted by its node. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Eviction(Arc<AtomicBool>);

impl Eviction {
    /// The node evicts the pod: it is about to be killed.
    pub fn happens(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl PodController {
    /// A controller that has made no pod yet.
    pub fn new(recreation: PodRecreation, evicted: Eviction) -> Self {
        Self { recreation, ended_in_a_row: 0, evicted }
    }
}

impl Supervise for PodController {
    fn ended(&mut self, _: Exit, up: Duration) -> Restart {
        let evicted = self.evicted.take();
        self.ended_in_a_row = if up >= SETTLED { 1 } else { self.ended_in_a_row.saturating_add(1) };
        match self.recreation {
            PodRecreation::NotWhenEvicted if evicted => Restart::Never,
            PodRecreation::AtOnce | PodRecreation::NotWhenEvicted => Restart::After(RECREATION),
            PodRecreation::BacksOff => {
                let [first, longest] = BACKOFF;
                let steps = 2u32.saturating_pow(self.ended_in_a_row - 1);
                Restart::After(first.saturating_mul(steps).min(longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(recreation: PodRecreation, ups: &[u64]) -> Vec<Restart> {
        let mut controller = PodController::new(recreation, Eviction::default());
        ups.iter().map(|up| controller.ended(Exit::Code(1), Duration::from_secs(*up))).collect()
    }

    fn after(seconds: u64) -> Restart {
        Restart::After(Duration::from_secs(seconds))
    }

    #[test]
    fn only_the_real_one_takes_the_listener_away_while_there_are_runners() {
        assert_eq!([0, 1, 2].map(|runners| SpecChange::WaitsForDrain.lets_listen(runners)), [true, false, false]);
        assert_eq!([0, 1, 2].map(|runners| SpecChange::KeepsListening.lets_listen(runners)), [true; 3]);
    }

    #[test]
    fn the_real_one_never_waits() {
        assert_eq!(waits(PodRecreation::AtOnce, &[1; 20]), [after(3); 20]);
    }

    #[test]
    fn the_repaired_one_slows_down_until_a_pod_has_settled() {
        let expected = [10, 20, 40, 80, 160, 300, 300, 10].map(after);
        assert_eq!(waits(PodRecreation::BacksOff, &[1, 1, 1, 1, 1, 1, 1, 600]), expected);
    }

    #[test]
    fn an_evicted_pod_was_once_not_made_again() {
        let evicted = Eviction::default();
        let mut controller = PodController::new(PodRecreation::NotWhenEvicted, evicted.clone());
        assert_eq!(controller.ended(Exit::Killed, SETTLED), after(3));
        evicted.happens();
        assert_eq!(controller.ended(Exit::Killed, SETTLED), Restart::Never);
    }
}
