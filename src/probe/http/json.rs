//! What a JSON body is expected to say at the places a `JSONPath` (RFC 9535) leads to.

mod path;
mod regexp;

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use self::path::Document;
pub use self::path::{JsonPath, JsonPathError};
use crate::probe::{fault::printable, pattern::Pattern};

/// Most bytes of a value, of a path or of what was expected that are shown.
const SHOWN: usize = 60;

/// Most bytes that one expression looks at, of all values that a path selects: four bodies.
const MAX_MATCHED: usize = 256 << 10;

/// What is expected at the places a path leads to.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(try_from = "Written")]
pub struct JsonExpectation {
    path: JsonPath,
    want: Want,
}

#[derive(Debug, Clone, PartialEq)]
enum Want {
    Equals(Value),
    Matches(Pattern),
    Exists,
    Missing,
}

/// What is expected where a `JSONPath` leads to. `equals` and `matches` hold for every value that
/// the path selects, and it must select one; one of them is given, or `exists`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "JsonExpectation")]
pub(super) struct Written {
    /// The path (RFC 9535), as `$.status`; at most 256 characters, 8 of `(` and 8 of `?`. A path that
    /// could take many milliseconds on the body at hand, as several `..` on a large and deep one, is not
    /// evaluated there: the body is not as expected then. Required.
    path: JsonPath,
    /// The value; numbers are compared by their value, text in its case. Default: none.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<Value>")]
    equals: Option<Value>,
    /// Regular expression that a text, or the JSON of another value, must match somewhere.
    /// Default: none.
    #[serde(default)]
    matches: Option<Pattern>,
    /// Whether the path must select something, or must not. Default: true.
    #[serde(default)]
    exists: Option<bool>,
}

/// The first expectation that is not met, in words; nothing if all are.
pub(super) fn unmet(expected: &[JsonExpectation], body: &[u8]) -> Option<String> {
    match Document::read(body) {
        Ok(body) => expected.iter().find_map(|expectation| expectation.unmet(&body)),
        Err(error) => Some(format!("the body is not JSON: {error}")),
    }
}

impl JsonExpectation {
    fn unmet(&self, body: &Document) -> Option<String> {
        let path = printable(self.path.as_str().as_bytes(), SHOWN);
        let is_written = matches!(self.want, Want::Matches(_));
        let selected = match self.path.select(body, is_written) {
            Ok(selected) => selected,
            Err(refused) => return Some(format!("{path} {refused}")),
        };
        if let (Want::Matches(_), true) = (&self.want, written_len(&selected) > MAX_MATCHED) {
            return Some(format!("{path} selects more than {MAX_MATCHED} bytes"));
        }
        let wrong = match (&self.want, selected.first()) {
            (Want::Missing, None) | (Want::Exists, Some(_)) => return None,
            (Want::Missing, first) => first,
            (Want::Exists | Want::Equals(_) | Want::Matches(_), None) => None,
            (Want::Equals(expected), Some(_)) => {
                Some(selected.iter().find(|value| !is_same(value, expected))?)
            }
            (Want::Matches(pattern), Some(_)) => {
                Some(selected.iter().find(|value| !is_match(pattern, value))?)
            }
        };
        let seen = match wrong {
            Some(value) => printable(value.to_string().as_bytes(), SHOWN),
            None => "missing".to_owned(),
        };
        let expected = printable(self.want.to_string().as_bytes(), SHOWN);
        Some(format!("{path} is {seen}; expected {expected}"))
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(value) => write!(f, "{value}"),
            Self::Matches(pattern) => write!(f, "{pattern:?}"),
            Self::Exists => f.write_str("a value"),
            Self::Missing => f.write_str("none"),
        }
    }
}

impl TryFrom<Written> for JsonExpectation {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let want = match (written.equals, written.matches, written.exists) {
            (Some(value), None, None) => Want::Equals(value),
            (None, Some(pattern), None) => Want::Matches(pattern),
            (None, None, None | Some(true)) => Want::Exists,
            (None, None, Some(false)) => Want::Missing,
            _ => return Err("only one of `equals`, `matches` and `exists` can be given"),
        };
        Ok(Self { path: written.path, want })
    }
}

/// Also `null` is a value that can be expected.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn is_same(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            a.as_f64() == b.as_f64()
        }
        (value, expected) => value == expected,
    }
}

/// How many bytes of text they have at least, those within others counted with each.
fn written_len(values: &[&Value]) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 1,
            Value::String(text) => 2 + text.len(),
            Value::Array(values) => 2 + values.iter().map(of).sum::<usize>(),
            Value::Object(members) => {
                2 + members.iter().map(|(name, value)| 3 + name.len() + of(value)).sum::<usize>()
            }
        }
    }
    values.iter().map(|value| of(value)).sum()
}

fn is_match(pattern: &Pattern, value: &Value) -> bool {
    match value {
        Value::String(text) => pattern.is_match(text.as_bytes()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            pattern.is_match(value.to_string().as_bytes())
        }
    }
}

#[cfg(test)]
mod tests;
