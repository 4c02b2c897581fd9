//! Seams that tests hold in their hands.

mod files;
pub mod garbage;

pub use files::Files;
