//! When to ask.

use std::num::{NonZeroU32, NonZeroUsize};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::duration::Period;

mod plan;
mod wheel;

/// How probes are scheduled.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Threads that probe; checks are dealt among them by the hash of their ids. One thread makes
    /// tens of thousands of probes a second.
    pub threads: NonZeroUsize,
    /// Checks due within one tick start together. A longer tick costs less CPU, a shorter one
    /// starts probes closer to their time; 1ms to 100ms.
    pub tick: Period,
    /// Most probes under way at once over all targets. Default: half of the open-files limit.
    pub max_in_flight: Option<NonZeroU32>,
    /// Most probes under way at once to one host, so that a host that has gone dark, or holds very
    /// many instances, is not flooded.
    pub max_in_flight_per_host: NonZeroU32,
}

const DEFAULT_PER_HOST: NonZeroU32 = NonZeroU32::new(64).expect("not zero");

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
            tick: Period::from_millis(5),
            max_in_flight: None,
            max_in_flight_per_host: DEFAULT_PER_HOST,
        }
    }
}
