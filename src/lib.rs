//! `rollcall` calls the roll: it knows who is registered, asks each of them on time whether it is
//! well, judges the answers, and tells whoever must know.
//!
//! **List** who exists → **schedule** when to ask → **probe** → **judge** the answer → **tell**.
//!
//! ```text
//!  files ──▶ config ─┐
//!                    ├─Registration─▶ agent ──rows──▶ store ──deltas, topics──▶ api · dns
//!  API ───▶ consul ──┘   (who is in)   │ ▲                (what consumers are told)
//!                                      │ └──────────── news ◀──────────────────────┐
//!                                      ▼                                           │
//!                                   registry ──Order──▶ scheduler ──▶ probe ──▶ monitor ── judge
//!                                     (whom)            (when)        (how)        │  (what it means)
//!                                                                                  ▼
//!                                                     api ◀── registry · metrics · event
//!                                                     (what is observed)
//! ```
//!
//! What is registered stands in the store before it is asked, and consumers are told what stands in
//! the store; what is observed is shown beside it.
//!
//! The modules below stand in the order of their layers: each uses only those above it.

pub mod build;
pub mod clock;
pub mod compact;
pub mod duration;
pub mod model;
pub mod share;
pub mod spelling;
pub mod tasks;

pub mod doubt;
pub mod event;
pub mod judge;
pub mod probe;
pub mod telemetry;

pub mod metrics;
pub mod publish;
pub mod store;

pub mod leases;
pub mod registry;

pub mod consul;
pub mod monitor;

pub mod agent;
pub mod vantage;

pub mod api;
pub mod dns;
pub mod scheduler;

pub mod config;
pub mod daemon;

pub mod cli;
