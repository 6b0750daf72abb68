//! `rollcall` calls the roll: it knows who is registered, asks each of them on time whether it is
//! well, judges the answers, and tells whoever must know.
//!
//! **List** who exists → **schedule** when to ask → **probe** → **judge** the answer → **tell**.
//!
//! ```text
//!  config ──Registration──▶ registry ──Order──▶ scheduler ──▶ probe
//!   (what is written)        (who)               (when)        (how)
//!                              ▲                   ▲             │
//!                              │ reads             └─Observation─┘
//!                              │                   │
//!                              │                   ▼
//!                              │                 monitor ── judge   (what it means, pure)
//!                              │                   │ Transition
//!                              │         ┌─────────┼──────────┐
//!                              │         ▼         ▼          ▼
//!                              │      metrics    event     registry's version
//!                              │         └────┬────┘          │
//!                              └─────────  api · dns  ────────┘   (who is told)
//! ```
//!
//! The modules below stand in the order of their layers: each uses only those above it.

pub mod build;
pub mod clock;
pub mod duration;
pub mod model;
pub mod tasks;

pub mod event;
pub mod judge;
pub mod metrics;
pub mod probe;
pub mod store;
pub mod telemetry;

pub mod leases;
pub mod registry;

pub mod consul;
pub mod monitor;

pub mod agent;

pub mod api;
pub mod dns;
pub mod scheduler;

pub mod config;
pub mod daemon;

pub mod cli;
