//! Seams that tests hold in their hands.

mod files;

pub use files::Files;
