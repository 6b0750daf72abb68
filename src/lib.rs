//! `rollcall` calls the roll: it knows who is registered, asks each of them on time whether it is
//! well, judges the answers, and tells whoever must know.
//!
//! **List** who exists → **schedule** when to ask → **probe** → **judge** the answer → **tell**.

pub mod clock;
pub mod duration;
pub mod model;

pub mod judge;
pub mod metrics;
pub mod probe;

pub mod registry;

pub mod api;
pub mod scheduler;

pub mod cli;
pub mod config;
pub mod telemetry;
