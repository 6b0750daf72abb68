//! What a JSON body is expected to say at the places a `JSONPath` (RFC 9535) leads to.
//!
//! Paths are evaluated on the thread that runs all probes and cannot be interrupted there. So a
//! path is read only if it is cheap on any body: what would multiply the work (a second `..`, a
//! filter in a filter, a comparison with the whole document) is refused, and so are the functions
//! `match` and `search`, which would compile an expression for every value.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::probe::{fault::printable, pattern::Pattern};

/// Most bytes of a value, of a path or of what was expected that are shown.
const SHOWN: usize = 60;

/// Longest path.
const MAX_PATH: usize = 256;

/// Most nested or repeated parentheses of a path; the parser's stack grows with them.
const MAX_PARENTHESES: usize = 8;

/// Most selectors that can fan out: on the largest body, a path takes some milliseconds then.
const MAX_WEIGHT: usize = 16;

/// Each comma can double what is selected, so that it weighs more than a wildcard.
const WEIGHT_OF_COMMA: usize = 3;

/// A `JSONPath`, as `$.checks[*].status`.
#[derive(Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct JsonPath {
    text: Box<str>,
    path: serde_json_path::JsonPath,
}

/// A text that is not a [`JsonPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    /// Not in the language of RFC 9535; the problem in the parser's words.
    #[error("not a JSONPath (RFC 9535): {0}")]
    Syntax(String),
    /// The path could keep other probes waiting.
    #[error(
        "the path may take too long on a large body: use at most one `..`, one `?` and one `$`, \
         few of `,` `*` `:` and comparisons, and 256 characters; several paths do as well"
    )]
    Costly,
    /// Functions that are not offered.
    #[error("the functions `match` and `search` are not offered; use `matches` beside the path")]
    Function,
}

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
    /// The path (RFC 9535, without the functions `match` and `search`), as `$.status`. At most one
    /// `..` and one filter, so that it is quick on any body. Required.
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
    match serde_json::from_slice(body) {
        Ok(body) => expected.iter().find_map(|expectation| expectation.unmet(&body)),
        Err(error) => Some(format!("the body is not JSON: {error}")),
    }
}

impl JsonExpectation {
    fn unmet(&self, body: &Value) -> Option<String> {
        let selected = self.path.path.query(body).all();
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
        let path = printable(self.path.text.as_bytes(), SHOWN);
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

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, JsonPathError> {
        let bare = without_strings(text);
        if ["match(", "search("].iter().any(|name| bare.contains(name)) {
            return Err(JsonPathError::Function);
        }
        if text.len() > MAX_PATH || is_costly(&bare) {
            return Err(JsonPathError::Costly);
        }
        let path = serde_json_path::JsonPath::parse(text)
            .map_err(|error| JsonPathError::Syntax(error.to_string()))?;
        Ok(Self { text: text.into(), path })
    }
}

impl TryFrom<String> for JsonPath {
    type Error = JsonPathError;

    fn try_from(text: String) -> Result<Self, JsonPathError> {
        text.parse()
    }
}

impl fmt::Debug for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
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

fn is_match(pattern: &Pattern, value: &Value) -> bool {
    match value {
        Value::String(text) => pattern.is_match(text.as_bytes()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            pattern.is_match(value.to_string().as_bytes())
        }
    }
}

/// The path without the insides of its string literals.
fn without_strings(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => _ = characters.next(),
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) => bare.push(character),
        }
    }
    bare
}

fn is_costly(bare: &str) -> bool {
    let count = |part: &str| bare.matches(part).count();
    let fan: usize = ["*", ":", "=", "<", ">"].into_iter().map(count).sum();
    count("..") > 1
        || count("?") > 1
        || count("$") > 1
        || count("(") > MAX_PARENTHESES
        || fan + WEIGHT_OF_COMMA * count(",") > MAX_WEIGHT
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    fn read(expectation: Value) -> Result<JsonExpectation, serde_json::Error> {
        serde_json::from_value(expectation)
    }

    #[track_caller]
    fn check(expectation: Value, body: &Value) -> Option<String> {
        unmet(&[read(expectation).unwrap()], body.to_string().as_bytes())
    }

    #[test]
    fn every_selected_value_must_be_as_expected() {
        let body = json!({ "up": [{ "n": "a", "s": 1 }, { "n": "b", "s": 1.0 }], "none": null });
        for met in [
            json!({ "path": "$.up[*].s", "equals": 1 }),
            json!({ "path": "$.up[?@.n == 'b'].s", "equals": 1 }),
            json!({ "path": "$.none", "equals": null }),
            json!({ "path": "$.up[0]", "equals": { "s": 1, "n": "a" } }),
            json!({ "path": "$..n", "matches": "^[ab]$" }),
            json!({ "path": "$.up[0]", "matches": "\"s\":1" }),
            json!({ "path": "$.up[?length(@.n) == 1]" }),
            json!({ "path": "$.none", "exists": true }),
            json!({ "path": "$.down", "exists": false }),
        ] {
            assert_eq!(check(met.clone(), &body), None, "{met}");
        }
        for (unmet, said) in [
            (json!({ "path": "$.up[*].n", "equals": "a" }), "$.up[*].n is \"b\"; expected \"a\""),
            (json!({ "path": "$.down", "equals": "a" }), "$.down is missing; expected \"a\""),
            (json!({ "path": "$..n", "matches": "^a" }), "$..n is \"b\"; expected /^a/"),
            (json!({ "path": "$.down" }), "$.down is missing; expected a value"),
            (json!({ "path": "$.none", "exists": false }), "$.none is null; expected none"),
        ] {
            assert_eq!(check(unmet, &body).unwrap(), said);
        }
        let long = json!({ "a": "x".repeat(9000) });
        assert!(check(json!({ "path": "$.a", "equals": 1 }), &long).unwrap().len() < 100);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let error = |expectation| read(expectation).unwrap_err().to_string();
        let both = json!({ "path": "$", "equals": 1, "exists": true });
        assert!(error(both).starts_with("only one of"));
        assert!(error(json!({ "path": "status" })).starts_with("not a JSONPath (RFC 9535): at"));
        assert!(error(json!({ "path": "$[?match(@.a, 'b')]" })).contains("use `matches` beside"));
        assert!(error(json!({ "equals": 1 })).starts_with("missing field `path`"));
    }

    #[test]
    fn a_path_that_could_take_long_is_refused() {
        for path in [
            "$..a..b",
            "$[?@[?@.a]]",
            "$[?@.a == $.b]",
            "$[0,0][0,0][0,0][0,0][0,0][0,0]",
            &format!("${}", ".*".repeat(17)),
            &format!("$[?{}@.a{}]", "(".repeat(9), ")".repeat(9)),
            &format!("$.{}", "a".repeat(300)),
        ] {
            assert_eq!(path.parse::<JsonPath>(), Err(JsonPathError::Costly), "{path}");
        }
        assert!("$['..', '\\'..?$']['$?']".parse::<JsonPath>().is_ok());
    }

    #[test]
    fn a_path_that_is_accepted_is_quick_on_the_worst_body() {
        let deep = |leaves: &str| format!("{}{leaves}{}", "[".repeat(120), "]".repeat(120));
        let flat = vec!["1"; 32_000].join(",");
        let nested = vec!["[[[[1]]]]"; 6_000].join(",");
        for body in [flat.as_str(), nested.as_str()].map(deep) {
            for path in [
                "$..[*,*,*]",
                "$..[?@ == @ || @ == @ || @ == @]",
                "$..[?@.*.*.*.*.*.*.*]",
                "$[*,*][*,*][*,*]",
                "$..[?count(@.*) > 1 && count(@.*.*) > 1]",
            ] {
                let started = Instant::now();
                assert!(check_raw(path, &body).is_none_or(|said| said.len() < 200));
                // Some milliseconds in a release build.
                assert!(started.elapsed() < Duration::from_secs(3), "{path}");
            }
        }
    }

    fn check_raw(path: &str, body: &str) -> Option<String> {
        unmet(&[read(json!({ "path": path, "exists": false })).unwrap()], body.as_bytes())
    }
}
