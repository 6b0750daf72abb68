//! Single values with a spelling or a range of their own.

use std::{borrow::Cow, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};

use crate::{
    model::{CheckId, IdError, InstanceId, MAX_ID_LEN, ServiceName},
    probe::{Host, HostError},
    share,
};

/// An id or name of the model, as a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id<T>(T);

impl<T> Id<T> {
    /// The id itself.
    pub const fn get(&self) -> &T {
        &self.0
    }
}

impl<'de, T: FromStr<Err = IdError>> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|error| D::Error::custom(format_args!("this id cannot be used: {error}")))
    }
}

impl<T> JsonSchema for Id<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_ID_LEN })
    }
}

/// The id of a check.
pub type CheckIdText = Id<CheckId>;
/// The id of an instance.
pub type InstanceIdText = Id<InstanceId>;
/// The name of a service.
pub type ServiceNameText = Id<ServiceName>;

/// An address or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Host);

impl Address {
    /// The host.
    pub const fn get(&self) -> &Host {
        &self.0
    }
}

impl FromStr for Address {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Address {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

macro_rules! share {
    ($(#[$doc:meta])* $name:ident, $range:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name(f64);

        impl $name {
            /// The share as a fraction of one.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = deserializer.deserialize_any(share::Spelling)?;
                let fits: fn(f64) -> bool = $range;
                if fits(value) { Ok(Self(value)) } else { Err(D::Error::custom($rule)) }
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["number", "string"], "pattern": r"^[0-9.]+ *%$" })
            }
        }
    };
}

share! {
    /// How far a probe may move from its place, as a share of the interval.
    Jitter, |share| (0.0..=0.5).contains(&share), "the jitter must be between 0% and 50%"
}

share! {
    /// The share of probes that should succeed.
    Objective, |share| share > 0.0 && share < 1.0,
    "the objective must be above 0 and below 1 (99% is 0.99)"
}
