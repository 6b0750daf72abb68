//! What is expected of a text: a regular expression, compiled when the configuration is read and bounded
//! in size; and, of an answer in bytes, a part as well.

use std::{fmt, str::FromStr};

use regex::bytes::{Regex, RegexBuilder};

use super::tcp::Bytes;

/// Most memory one compiled expression may take, and again its cache.
const SIZE_LIMIT: usize = 1 << 20;

/// A regular expression in the syntax of Rust's `regex` crate (RE2's, without backtracking), matched
/// anywhere in the text.
#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct Pattern(Regex);

/// A text that is not a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The compiled expression would be too large.
    #[error("the expression is too large when compiled; shorten its counted repetitions")]
    TooLarge,
    /// The text is not a regular expression; the problem in the parser's words.
    #[error("not a regular expression: {0}")]
    Syntax(String),
}

impl Pattern {
    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the expression is found in `text`.
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// Where the expression ends that is found first in `text`.
    fn end_in(&self, text: &[u8]) -> Option<usize> {
        self.0.find(text).map(|found| found.end())
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let compiled =
            RegexBuilder::new(text).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build();
        match compiled {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooLarge),
            // The parser draws a picture; its last line says what is wrong.
            Err(error) => {
                let text = error.to_string();
                let line = text.lines().last().unwrap_or_default();
                let line = line.strip_prefix("error: ").unwrap_or(line);
                Err(PatternError::Syntax(line.to_owned()))
            }
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

/// Whether `needle` is found in `text`; the empty needle always is.
pub(super) fn contains(text: &[u8], needle: &[u8]) -> bool {
    end_of(needle, text).is_some()
}

/// Where `needle` ends that is found first in `text`; the empty needle is found at once.
fn end_of(needle: &[u8], text: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    let start = text.windows(needle.len()).position(|window| window == needle)?;
    Some(start + needle.len())
}

/// What an answer in bytes must hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation<'a> {
    pub(super) text: Option<&'a Bytes>,
    pub(super) pattern: Option<&'a Pattern>,
}

impl Expectation<'_> {
    /// Whether an answer is as expected.
    pub(super) fn is_met(&self, answer: &[u8]) -> bool {
        self.text.is_none_or(|text| contains(answer, text.as_slice()))
            && self.pattern.is_none_or(|pattern| pattern.is_match(answer))
    }

    /// Where that ends in an answer which makes it as expected; nothing if it is not.
    pub(super) fn end_in(&self, answer: &[u8]) -> Option<usize> {
        let text = self.text.map_or(Some(0), |text| end_of(text.as_slice(), answer))?;
        let pattern = self.pattern.map_or(Some(0), |pattern| pattern.end_in(answer))?;
        Some(text.max(pattern))
    }
}

/// For people: `"PONG" and /^\+/`.
impl fmt::Display for Expectation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.text, self.pattern) {
            (Some(text), Some(pattern)) => write!(f, "\"{text}\" and {pattern:?}"),
            (Some(text), None) => write!(f, "\"{text}\""),
            (None, Some(pattern)) => write!(f, "{pattern:?}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_expression_is_refused_in_one_line() {
        let error = "a(b".parse::<Pattern>().unwrap_err();
        assert_eq!(error.to_string(), "not a regular expression: unclosed group");
        assert_eq!("(a{1000}){1000}".parse::<Pattern>(), Err(PatternError::TooLarge));
    }
}
