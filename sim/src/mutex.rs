//! Locking, where a panic has its own verdict.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks without minding that a panic went through: a panic ends its world anyway.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
