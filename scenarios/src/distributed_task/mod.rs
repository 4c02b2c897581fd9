//! What the scenarios of the two distributed-task systems have in common.

pub(crate) mod bounds;
pub(crate) mod course;
pub(crate) mod faults;
pub(crate) mod fronts;
pub(crate) mod keys;
pub(crate) mod power;
pub(crate) mod served;
