//! Our own log: where it goes, in which form, how much of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The daemon's own log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The form of the lines: `auto` writes text to a terminal and JSON anywhere else.
    pub format: Format,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a list of
    /// `module=level` as tracing's `EnvFilter` reads it.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info".to_owned() }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON anywhere else.
    #[default]
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}
