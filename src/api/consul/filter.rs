//! `?filter=`: which objects of an answer to show, in Consul's expressions.
//!
//! An expression is read once, against the [`Fields`] of the objects it is for: a field that does
//! not exist, an operator that does not suit one and a value that is no number where one is needed
//! are refused before any object is looked at, so that matching cannot fail. The language and what
//! it means are those of go-bexpr 0.1, which Consul uses (its `grammar.peg`, `validate.go` and
//! `evaluate.go`):
//!
//! - the key a map does not have is equal to nothing, in nothing, matched by nothing and empty;
//! - a field inside of a list's objects is compared with that of each, and one that holds is
//!   enough, for `!=` too;
//! - a field that is left out of the JSON because it is empty is compared as empty.
//!
//! Beyond Consul, quotes can be escaped in quoted texts, texts can be asked for emptiness, and a
//! field can be named by a JSON pointer, as later versions of go-bexpr allow.

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use field::Fields;

pub(super) mod field;
mod parse;
mod scan;
#[cfg(test)]
mod tests;

/// Longest expression that is read, in bytes.
const MAX_LENGTH: usize = 8192;

/// Which objects to show.
#[derive(Debug)]
pub(super) struct Filter(Option<Expression>);

/// Why an expression is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}")]
pub(super) struct Error {
    at: usize,
    problem: String,
}

/// What has to hold of an object.
#[derive(Debug)]
enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    Match(Match),
}

/// What has to hold of one field.
#[derive(Debug)]
struct Match {
    path: Vec<String>,
    test: Test,
    wanted: Wanted,
    /// Whether the test holds if there is no such field.
    absent: bool,
}

#[derive(Debug)]
enum Test {
    Equals(Value),
    /// An item, a key, or a part of a text.
    Holds(String),
    Matches(Regex),
    IsEmpty,
}

/// Whether a test is to hold or to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Holds,
    Fails,
}

impl Filter {
    /// Reads an expression on objects with these fields; the empty one matches everything.
    pub(super) fn parse(text: &str, fields: Fields) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        if text.len() > MAX_LENGTH {
            let problem = format!("a filter has at most {MAX_LENGTH} bytes");
            return Err(Error { at: 1, problem });
        }
        parse::parse(text, fields).map(|expression| Self(Some(expression)))
    }

    /// Whether everything matches.
    pub(super) fn is_blank(&self) -> bool {
        self.0.is_none()
    }

    /// Whether to show an object. Costs a conversion to JSON unless everything matches.
    pub(super) fn matches(&self, object: &impl Serialize) -> bool {
        let Some(expression) = &self.0 else { return true };
        let object =
            serde_json::to_value(object).expect("texts and numbers under string keys are JSON");
        expression.holds(&object)
    }
}

impl Expression {
    fn holds(&self, object: &Value) -> bool {
        match self {
            Self::Any(terms) => terms.iter().any(|term| term.holds(object)),
            Self::All(terms) => terms.iter().all(|term| term.holds(object)),
            Self::Not(term) => !term.holds(object),
            Self::Match(found) => found.holds(Some(object), &found.path),
        }
    }
}

impl Match {
    fn holds(&self, value: Option<&Value>, path: &[String]) -> bool {
        match (value, path) {
            (None | Some(Value::Null), _) => self.wanted.is(self.absent),
            (Some(value), []) => self.wanted.is(self.test.holds(value)),
            (Some(Value::Array(items)), path) => {
                items.iter().any(|item| self.holds(Some(item), path))
            }
            (Some(value), [step, rest @ ..]) => self.holds(value.get(step), rest),
        }
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Equals(wanted) => value == wanted,
            Self::Matches(regex) => value.as_str().is_some_and(|text| regex.is_match(text)),
            Self::Holds(part) => match value {
                Value::String(text) => text.contains(part),
                Value::Array(items) => items.iter().any(|item| item.as_str() == Some(part)),
                Value::Object(map) => map.contains_key(part),
                Value::Null | Value::Bool(_) | Value::Number(_) => false,
            },
            Self::IsEmpty => match value {
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::Null => true,
                Value::Bool(_) | Value::Number(_) => false,
            },
        }
    }
}

impl Wanted {
    fn is(self, holds: bool) -> bool {
        holds == (self == Self::Holds)
    }
}
