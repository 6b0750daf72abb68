//! Durations as people write them: `250ms`, `5s`, `1m30s`, `1.5h`, `1d`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// A duration in the spelling of configuration files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A number without a unit.
    #[error("`{0}` has no unit; write `{0}s` for seconds or `{0}ms` for milliseconds")]
    NoUnit(String),
    /// A unit that is not known.
    #[error("`{0}` is not a unit of time; use ms, s, m, h or d")]
    Unit(String),
    /// Not a number where one is needed.
    #[error("invalid duration `{0}`; write for example `250ms`, `5s` or `1m30s`")]
    Malformed(String),
    /// More than can be held.
    #[error("`{0}` is too long")]
    TooLong(String),
}

impl Period {
    /// A period of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A period of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Spelling)
    }
}

/// Reads a [`Period`] from a text; of a bare number it can say what is missing.
struct Spelling;

impl Visitor<'_> for Spelling {
    type Value = Period;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as `250ms`, `5s` or `1m30s`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Period, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Period, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Period, E> {
        self.visit_str(&number.to_string())
    }
}

/// The shortest spelling, so that defaults show in the JSON Schema.
impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Period {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let malformed = || ParseError::Malformed(text.to_owned());
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(malformed());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let value: f64 = number.parse().map_err(|_| malformed())?;
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let part = seconds_of(unit.trim(), number)? * value;
            let part = Duration::try_from_secs_f64(part)
                .map_err(|_| ParseError::TooLong(text.to_owned()))?;
            total = total.checked_add(part).ok_or_else(|| ParseError::TooLong(text.to_owned()))?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

fn seconds_of(unit: &str, number: &str) -> Result<f64, ParseError> {
    match unit {
        "" => Err(ParseError::NoUnit(number.to_owned())),
        "ns" => Ok(1e-9),
        "us" | "µs" => Ok(1e-6),
        "ms" => Ok(1e-3),
        "s" => Ok(1.0),
        "m" => Ok(60.0),
        "h" => Ok(3600.0),
        "d" => Ok(86400.0),
        other => Err(ParseError::Unit(other.to_owned())),
    }
}

/// The shortest spelling: `1m30s`, `250ms`.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0.as_secs();
        for (unit, size) in [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        match self.0.subsec_nanos() {
            0 => Ok(()),
            nanos if nanos % 1_000_000 == 0 => write!(f, "{}ms", nanos / 1_000_000),
            nanos if nanos % 1000 == 0 => write!(f, "{}us", nanos / 1000),
            nanos => write!(f, "{nanos}ns"),
        }
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: numbers with the units ms, s, m, h or d, such as 250ms or 1m30s.",
            // Not the `duration` of JSON Schema, which is that of ISO 8601.
            "pattern": "^(0|( *[0-9.]+ *(ns|us|µs|ms|s|m|h|d) *)+)$",
            "examples": ["250ms", "5s", "1m30s"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, millis: u64) {
        assert_eq!(text.parse::<Period>(), Ok(Period::from_millis(millis)), "{text}");
    }

    #[test]
    fn the_usual_spellings_are_read() {
        check("250ms", 250);
        check("5s", 5000);
        check("1m30s", 90_000);
        check("1m 30s", 90_000);
        check("1.5h", 5_400_000);
        check("1d", 86_400_000);
        check("0", 0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |text: &str| text.parse::<Period>().unwrap_err().to_string();
        assert_eq!(said("5"), "`5` has no unit; write `5s` for seconds or `5ms` for milliseconds");
        assert_eq!(said("5 sec"), "`sec` is not a unit of time; use ms, s, m, h or d");
        assert_eq!(
            said("soon"),
            "invalid duration `soon`; write for example `250ms`, `5s` or `1m30s`"
        );
        assert_eq!(said(""), "invalid duration ``; write for example `250ms`, `5s` or `1m30s`");
        assert_eq!(
            said("-5s"),
            "invalid duration `-5s`; write for example `250ms`, `5s` or `1m30s`"
        );
        assert_eq!(said("99999999999999999999d"), "`99999999999999999999d` is too long");
    }

    #[test]
    fn the_shortest_spelling_is_shown() {
        for text in ["0s", "250ms", "5s", "1m30s", "1h", "1d2h", "1s500ms"] {
            assert_eq!(text.parse::<Period>().map(|p| p.to_string()), Ok(text.to_owned()));
        }
    }
}
