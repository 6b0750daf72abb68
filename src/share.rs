//! Shares as people write them: `15%` or `0.15`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// A part of a whole: from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// So many parts of a hundred; the whole, if they are more.
    pub const fn percent(parts: u8) -> Self {
        if parts < 100 { Self(parts as f64 / 100.0) } else { Self(1.0) }
    }

    /// How many of so many whole things the share is, rounded down.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of a count that fits into memory is one, too"
    )]
    pub fn of(self, count: usize) -> usize {
        // 29 % of 100 are 29, and not 28.999999999999996.
        (self.0 * count as f64 + 1e-9).floor() as usize
    }
}

/// In percent: `15%`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the digits that only the binary form has.
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_any(Spelling)?;
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(D::Error::custom("the share must be between 0% and 100%"))
        }
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"], "pattern": r"^[0-9.]+ *%$" })
    }
}

/// Reads a share written as `5%` or as 0.05, whatever its size.
#[derive(Debug)]
pub struct Spelling;

impl Visitor<'_> for Spelling {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share such as 5% or 0.05")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        i32::try_from(value).map(f64::from).map_err(|_| E::custom("expected a share"))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        u32::try_from(value).map(f64::from).map_err(|_| E::custom("expected a share"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        text.strip_suffix('%')
            .and_then(|number| number.trim_end().parse::<f64>().ok())
            .filter(|number| number.is_finite())
            .map(|percent| percent / 100.0)
            .ok_or_else(|| E::custom("expected a share such as 5% or 0.05"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_and_written_in_percent_and_rounds_down() {
        let read = |text: &str| serde_json::from_str::<Share>(text);
        assert_eq!(read("\"15%\"").unwrap(), Share::percent(15));
        assert_eq!(read("0.5").unwrap(), Share::percent(50));
        assert_eq!(Share::percent(29).of(100), 29);
        assert_eq!((Share::percent(15).of(13), Share::percent(50).of(3)), (1, 1));
        assert_eq!(Share::percent(29).to_string(), "29%");
        assert_eq!(read("0.125").unwrap().to_string(), "12.5%");
        for wrong in ["\"101%\"", "-0.1", "2", "\"half\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
