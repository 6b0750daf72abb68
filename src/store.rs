//! The embedded registry store.

pub mod log;
