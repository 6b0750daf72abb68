//! Tests of the whole crate from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod braked;
mod config;
mod daemon;
mod dial;
mod dns;
mod doubt;
mod explain;
mod hostile;
mod lock;
mod registry;
mod support;
mod tidy;
