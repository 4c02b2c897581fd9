//! State of a world, which lives on one thread.

use std::cell::{RefCell, RefMut};

use fragile::Fragile;

/// State that only the thread which made it ever touches; another one panics.
///
/// Agents and servers are `Send`, as real runtimes want them, so what they refer to has to be. A world itself never
/// leaves its thread. A mutex that nobody ever waits for would cost two locked instructions each time, dozens of times an
/// exchange.
#[derive(Debug)]
pub(crate) struct OneThread<T: 'static>(Fragile<RefCell<T>>);

impl<T> OneThread<T> {
    pub(crate) fn new(state: T) -> Self {
        Self(Fragile::new(RefCell::new(state)))
    }

    /// The state, which nobody else may hold at this moment.
    pub(crate) fn borrow_mut(&self) -> RefMut<'_, T> {
        self.0.get().borrow_mut()
    }
}

impl<T: Default> Default for OneThread<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
