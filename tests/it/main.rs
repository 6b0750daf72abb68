//! Tests of the whole crate from outside.

mod config;
mod tidy;
