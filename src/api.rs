//! Who may look: the listeners and what they answer.

use std::{net::SocketAddr, num::NonZeroU32};

use schemars::JsonSchema;
use serde::Deserialize;

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port of the HTTP API and `/metrics`; port 0 takes any free one.
    #[schemars(with = "String")]
    pub http: SocketAddr,
    /// Address and port of the gRPC health service; port 0 takes any free one.
    #[schemars(with = "String")]
    pub grpc: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 8500)),
            grpc: SocketAddr::from(([127, 0, 0, 1], 8502)),
        }
    }
}

/// Limits of the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections open at once on each listener; further ones wait to be accepted.
    pub max_connections: NonZeroU32,
    /// Requests a second one client address may make on average; more are answered with 429.
    pub requests_per_second: NonZeroU32,
    /// Requests one client address may make at once before the average applies.
    pub request_burst: NonZeroU32,
}

const fn nonzero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("written out above zero")
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: nonzero(1024),
            requests_per_second: nonzero(1000),
            request_burst: nonzero(2000),
        }
    }
}
