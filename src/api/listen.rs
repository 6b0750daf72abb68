//! Where the daemon listens.

use std::{borrow::Cow, fmt, net::SocketAddr, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

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
    /// Address and port of DNS, by UDP and TCP; port 0 takes one that is free for both; `off`: none.
    pub dns: Binding,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([127, 0, 0, 1], 8500)),
            grpc: SocketAddr::from(([127, 0, 0, 1], 8502)),
            dns: Binding::At(SocketAddr::from(([127, 0, 0, 1], 8600))),
        }
    }
}

/// Where something listens that need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// A text that is neither an address with a port nor `off`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is neither an address with a port, such as `127.0.0.1:8600`, nor `off`")]
pub struct BindingError;

impl Binding {
    const OFF: &str = "off";

    /// The address, if it listens.
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(address),
            Self::Off => None,
        }
    }
}

impl FromStr for Binding {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Self, BindingError> {
        if text == Self::OFF {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| BindingError)
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str(Self::OFF),
        }
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Binding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Binding {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Binding".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
