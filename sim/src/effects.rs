//! What each fault of a plan really did.

use std::sync::{Arc, Mutex};

use crate::mutex::lock;

/// Names a fault of a plan by its place in it.
pub type FaultId = usize;

/// Counts, for each fault, how many bytes, requests, timers or processes it changed. Handles share the counts.
#[derive(Clone, Debug, Default)]
pub struct Effects(Arc<Mutex<Vec<u64>>>);

impl Effects {
    /// Fault `fault` changed one more thing.
    pub fn count(&self, fault: FaultId) {
        self.add(fault, 1);
    }

    /// Fault `fault` changed so many more things.
    pub fn add(&self, fault: FaultId, things: u64) {
        let mut counts = lock(&self.0);
        if counts.len() <= fault {
            counts.resize(fault + 1, 0);
        }
        counts[fault] += things;
    }

    /// How many things a fault changed.
    pub fn of(&self, fault: FaultId) -> u64 {
        lock(&self.0).get(fault).copied().unwrap_or(0)
    }
}
