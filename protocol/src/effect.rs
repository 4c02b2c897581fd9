//! Telling that something imposed on a server changed what it does.

use std::fmt;
use std::sync::Arc;

/// Called for each thing that was changed. Clones tell the same.
#[derive(Clone)]
pub struct OnEffect(Arc<dyn Fn() + Send + Sync>);

impl OnEffect {
    /// Calls `told` each time.
    pub fn new(told: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Tells nobody.
    pub fn untold() -> Self {
        Self::new(|| ())
    }

    /// One more thing was changed.
    pub fn tell(&self) {
        (self.0)();
    }
}

impl fmt::Debug for OnEffect {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("OnEffect")
    }
}

/// One that counts, and how often it was told.
#[cfg(test)]
pub(crate) fn counted() -> (impl Fn() -> u64, OnEffect) {
    use std::sync::atomic::{AtomicU64, Ordering};

    let count = Arc::new(AtomicU64::new(0));
    let told = count.clone();
    (move || count.load(Ordering::Relaxed), OnEffect::new(move || _ = told.fetch_add(1, Ordering::Relaxed)))
}
