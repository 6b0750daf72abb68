//! Which version of HTTP a check speaks.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::de;

/// Which version of HTTP a check speaks: `1.1`, `2` or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: agreed on in the TLS handshake (ALPN), without TLS with prior knowledge (h2c).
    Http2,
    /// Over TLS the target chooses between both; without TLS it is HTTP/1.1.
    Auto,
}

/// A text that is not a [`Version`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the version of HTTP is 1.1, 2 or auto")]
pub struct VersionError;

impl Version {
    /// What a TLS handshake offers (RFC 7301), the dearest first; nothing where there is no choice
    /// and servers expect none.
    pub(super) fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[],
            Self::Http2 => &[b"h2"],
            Self::Auto => &[b"h2", b"http/1.1"],
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        match text {
            "1.1" => Ok(Self::Http1),
            "2" | "2.0" => Ok(Self::Http2),
            "auto" => Ok(Self::Auto),
            _ => Err(VersionError),
        }
    }
}

impl<'de> de::Deserialize<'de> for Version {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

/// To YAML `1.1` and `2` are numbers.
struct NumberOrText;

impl de::Visitor<'_> for NumberOrText {
    type Value = Version;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1.1, 2 or auto")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Version, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Version, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Version, E> {
        self.visit_str(&number.to_string())
    }
}

impl schemars::JsonSchema for Version {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": [1.1, 2, "auto"] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_version_is_a_number_or_a_word() {
        for (written, version) in [
            (json!(1.1), Version::Http1),
            (json!("1.1"), Version::Http1),
            (json!(2), Version::Http2),
            (json!(2.0), Version::Http2),
            (json!("2"), Version::Http2),
            (json!("auto"), Version::Auto),
        ] {
            assert_eq!(from_value::<Version>(written).unwrap(), version);
        }
        for wrong in [json!(1), json!(1.0), json!(3), json!(-2), json!("h2"), json!("")] {
            let error = from_value::<Version>(wrong).unwrap_err().to_string();
            assert_eq!(error, "the version of HTTP is 1.1, 2 or auto");
        }
    }
}
