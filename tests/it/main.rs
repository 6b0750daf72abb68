//! Tests of the whole crate from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod config;
mod daemon;
mod dns;
mod hostile;
mod lock;
mod registry;
mod support;
mod tidy;
