//! A `JSONPath` (RFC 9535), and the most that it can cost on a body.
//!
//! Paths are evaluated on the thread that runs all probes and cannot be interrupted there, and what
//! they are evaluated on is the target's word. So any path of the language can be configured, but
//! before it is evaluated its cost on this body is bounded from above, and one that could hold the
//! thread up is not evaluated at all.

use std::{cell::Cell, fmt, str::FromStr};

use serde_json::Value;

use super::regexp;

/// Longest path.
const MAX_PATH: usize = 256;

/// Most parentheses, and most filters, of a path: the time its parser takes doubles with each that is
/// nested.
const MAX_NESTED: usize = 8;

/// Most steps of all paths of a check on one body: some milliseconds, some tens of them at worst.
const MAX_STEPS: u64 = 4_000_000;

/// Bytes of a text that are looked at in one step.
const BYTES_A_STEP: usize = 32;

/// Values that the library passes up from one level to the next in the time of a step: a `..` does so
/// with all that it has found below.
const PASSED_A_STEP: u64 = 8;

/// A `JSONPath`, as `$.checks[*].status`.
#[derive(Clone, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", inline)]
pub struct JsonPath {
    text: Box<str>,
    path: serde_json_path::JsonPath,
    cost: Cost,
}

/// A text that is not a [`JsonPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    /// Not in the language of RFC 9535; the problem in the parser's words.
    #[error("not a JSONPath (RFC 9535): {0}")]
    Syntax(String),
    /// A text in it that is not closed, on which its parser fails badly.
    #[error("not a JSONPath (RFC 9535): a quote is opened and not closed")]
    Open,
    /// Reading the path could take long.
    #[error("a path has at most 256 characters, 8 of `(` and 8 of `?`; several paths do as well")]
    TooLong,
}

/// A body, how large it is, and what the paths that were evaluated on it can have cost.
pub(super) struct Document {
    root: Value,
    size: Size,
    spent: Cell<u64>,
}

/// How large a body is.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Values within it, itself among them; a long text counts for more than one.
    values: u64,
    /// Values on the longest way down.
    depth: u64,
}

/// What decides on the cost of a path. Each of its parts looks at each value at most once, but a
/// value can be reached on several ways: on as many as selectors stand between commas, and from all
/// values above it where a `..` follows another, or comparisons of whole values do. What begins at
/// the root in a filter begins anew for each value, and within that again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    parts: u64,
    ways: u64,
    descents: u32,
    compares: bool,
    /// How many filters there are within one another in which something begins at the root.
    roots: u32,
}

impl JsonPath {
    /// The path as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// What the path selects, or why it was not evaluated, in words. What is `written` out of it, text
    /// within text, is a part of its cost.
    pub(super) fn select<'b>(
        &self,
        body: &'b Document,
        is_written: bool,
    ) -> Result<Vec<&'b Value>, String> {
        let again = if is_written { body.size.depth } else { 1 };
        let steps = self.cost.steps(body.size).saturating_mul(again);
        let spent = body.spent.get().saturating_add(steps);
        if spent > MAX_STEPS {
            let Size { values, depth } = body.size;
            return Err(format!(
                "would take up to {steps} steps on a body of this size ({values} values, {depth} \
                 deep); at most {MAX_STEPS} are allowed for all paths"
            ));
        }
        body.spent.set(spent);
        let selected = self.path.query(&body.root).all();
        if regexp::is_within_bounds() {
            Ok(selected)
        } else {
            Err("would have too much text looked at by regular expressions, or too many of the \
                 body's own"
                .to_owned())
        }
    }
}

impl Document {
    /// Reads a body, the one that paths are evaluated on from now on.
    pub(super) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        let root = serde_json::from_slice(body)?;
        regexp::begin();
        Ok(Self { size: Size::of(&root), root, spent: Cell::new(0) })
    }
}

impl Size {
    /// The parser of JSON allows no more than 128 values on the way down.
    fn of(value: &Value) -> Self {
        let text = |text: &str| 1 + to_u64(text.len() / BYTES_A_STEP);
        let (own, below) = match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => (1, Self { values: 0, depth: 0 }),
            Value::String(string) => (text(string), Self { values: 0, depth: 0 }),
            Value::Array(values) => (1, values.iter().map(Self::of).fold(Self::NONE, Self::and)),
            Value::Object(members) => {
                let names = members.keys().map(|name| text(name) - 1).sum::<u64>();
                (1 + names, members.values().map(Self::of).fold(Self::NONE, Self::and))
            }
        };
        Self { values: own + below.values, depth: 1 + below.depth }
    }

    const NONE: Self = Self { values: 0, depth: 0 };

    /// The size of both beside each other.
    fn and(self, other: Self) -> Self {
        Self { values: self.values + other.values, depth: self.depth.max(other.depth) }
    }
}

impl Cost {
    /// Of a path without the insides of its string literals.
    fn of(bare: &str) -> Self {
        let count = |part: &str| bare.matches(part).count();
        let has = |parts: &[&str]| parts.iter().any(|part| bare.contains(part));
        let parts: usize =
            [".", "[", "*", ":", "@", "$", "=", "<", ">", "("].into_iter().map(count).sum();
        let roots = bare.match_indices('$').skip(1).filter(|(at, _)| is_costly_root(bare, *at));
        let mut depths: Vec<_> = roots.map(|(at, _)| depth(&bare[..at])).collect();
        let beside = depths.len();
        depths.sort_unstable();
        depths.dedup();
        Self {
            parts: to_u64(parts * (1 + beside - depths.len())),
            ways: ways(bare),
            descents: to_u32(count("..")),
            compares: has(&["=", "<", ">"]),
            roots: to_u32(depths.len()),
        }
    }

    /// Most steps on a body of this size.
    fn steps(self, body: Size) -> u64 {
        let (above, passed) = match self.descents {
            0 => (0, 0),
            descents => (descents - 1 + u32::from(self.compares), body.depth / PASSED_A_STEP + 1),
        };
        let above = body.depth.saturating_pow(above);
        let anew = body.values.saturating_pow(self.roots);
        let parts = self.parts + passed;
        [parts, self.ways, above, anew].into_iter().fold(body.values, u64::saturating_mul)
    }
}

/// How many brackets are open at the end.
fn depth(bare: &str) -> usize {
    bare.matches('[').count().saturating_sub(bare.matches(']').count())
}

/// On how many ways a value can be reached by selectors beside each other.
fn ways(bare: &str) -> u64 {
    let (mut ways, mut open) = (1_u64, Vec::new());
    for character in bare.chars() {
        match character {
            '[' => open.push(Some(1)),
            '(' => open.push(None),
            ',' => {
                if let Some(Some(selectors)) = open.last_mut() {
                    *selectors += 1;
                }
            }
            ']' | ')' => ways = ways.saturating_mul(open.pop().flatten().unwrap_or(1)),
            _ => {}
        }
    }
    ways
}

/// Whether what begins at a root within a filter can take long, each time: it leads to many values, or
/// it is given to a function, which may look at all of it, or it is compared with what begins at the
/// root as well. With anything else only as much is compared as there is of that.
fn is_costly_root(bare: &str, at: usize) -> bool {
    let (before, rest) = (bare[..at].trim_end(), &bare[at + 1..]);
    let opened = before.strip_suffix('(').map(|name| name.ends_with(char::is_alphanumeric));
    if opened == Some(true) || before.ends_with(',') {
        return true;
    }
    match after_singular(rest) {
        None => true,
        Some(after) => {
            let other = after.trim_start_matches(['=', '!', '<', '>']);
            other.len() < after.len() && other.trim_start().starts_with('$')
        }
    }
}

/// What stands behind a query that goes on with names and indexes alone, so that it leads to one value
/// at most.
fn after_singular(mut rest: &str) -> Option<&str> {
    loop {
        rest = rest.trim_start();
        let (part, end) = match rest.chars().next() {
            Some('[') => match rest.split_once(']') {
                Some((part, end)) => (&part[1..], end),
                None => return None,
            },
            Some('.') => {
                let name = |c: char| c == '_' || c.is_alphanumeric() || !c.is_ascii();
                rest[1..].split_at(rest[1..].find(|c| !name(c)).unwrap_or(rest.len() - 1))
            }
            Some(_) | None => return Some(rest),
        };
        let is_name = rest.starts_with('.') && !part.is_empty();
        let is_index = rest.starts_with('[') && part.chars().all(|c| "-0123456789 ".contains(c));
        if !is_name && !is_index {
            return None;
        }
        rest = end;
    }
}

/// The path without the insides of its string literals; nothing if the last one is not closed.
fn without_strings(text: &str) -> Option<String> {
    let mut quote = None;
    let mut characters = text.chars();
    let mut bare = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => _ = characters.next(),
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) => bare.push(character),
        }
    }
    quote.is_none().then_some(bare)
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, JsonPathError> {
        let bare = without_strings(text).ok_or(JsonPathError::Open)?;
        let has_many = |part: char| bare.matches(part).count() > MAX_NESTED;
        if text.chars().count() > MAX_PATH || has_many('(') || has_many('?') {
            return Err(JsonPathError::TooLong);
        }
        let path = serde_json_path::JsonPath::parse(text)
            .map_err(|error| JsonPathError::Syntax(error.to_string()))?;
        Ok(Self { text: text.into(), path, cost: Cost::of(&bare) })
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

#[cfg(test)]
mod tests;
