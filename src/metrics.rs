//! What is counted, and how it is shown.
//!
//! Two kinds of series, for two rates of change. What happens at every probe is written into flat
//! slots ([`Slot`] for a check, [`ClassSlot`] for a check definition) with plain atomic stores, no
//! label look-up and no lock, and turned into text at scrape time. What the daemon counts of
//! itself ([`Daemon`]) goes through the `prometheus` crate; what the store counts of itself is asked
//! of it at scrape time. The one table of names, types, labels and help texts for all of them is
//! [`catalogue`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod catalogue;
mod daemon;
mod doubt;
mod process;
mod slot;
pub mod text;

pub use daemon::{Daemon, Skip};
pub use doubt::{Doubts, Void};
pub use slot::{ClassSlot, ClassTotals, DURATION_BUCKETS, Facts, Glance, Kept, Slot};

/// What `/metrics` shows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Series for every target: `full` (nine each), `state` (health and state changes only), `off`.
    pub per_target: PerTarget,
    /// Most series a family may have; those beyond it are left out, counted in
    /// `rollcall_series_dropped_total` and alerted on.
    pub max_series: u64,
    /// Keys of instance metadata shown as labels of `rollcall_target_info`. None by default, since
    /// every value is a label value in every scrape.
    pub metadata_labels: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { per_target: PerTarget::Full, max_series: 1_000_000, metadata_labels: Vec::new() }
    }
}

/// How much is shown of every target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PerTarget {
    /// All per-target families.
    #[default]
    Full,
    /// Health and state changes only.
    State,
    /// None.
    Off,
}
