//! The functions `match` and `search` of a `JSONPath` (RFC 9535, 2.4.6 and 2.4.7), with regular
//! expressions as RFC 9485 has them, whose bounds are kept.
//!
//! An expression that stands in a path is compiled once by each thread. One that comes from the body
//! is the target's word: small, and few of them are compiled in one evaluation.

use std::{cell::RefCell, collections::HashMap};

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use serde_json_path::functions::{LogicalType, ValueType};

/// Most memory that an expression of a path may take when compiled.
const LITERAL_LIMIT: usize = 1 << 20;

/// The same for one of a body.
const FOREIGN_LIMIT: usize = 1 << 16;

/// Most expressions of bodies that are compiled in one evaluation.
const MAX_FOREIGN: u32 = 16;

/// Most expressions of paths that are kept compiled, of all that a thread comes across.
const MAX_KEPT: usize = 256;

/// Where in a text an expression has to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Whole,
    Anywhere,
}

/// What a thread has compiled.
#[derive(Default)]
struct Compiled {
    /// Nothing stands for a text that is no expression.
    kept: HashMap<(Place, String), Option<Regex>>,
    /// How many of a body have been asked for in this evaluation.
    foreign: u32,
}

thread_local! {
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

/// Evaluates, and says whether all expressions that it came across could be compiled within bounds.
pub(super) fn within_bounds<T>(evaluate: impl FnOnce() -> T) -> (T, bool) {
    COMPILED.with_borrow_mut(|compiled| compiled.foreign = 0);
    let result = evaluate();
    (result, COMPILED.with_borrow(|compiled| compiled.foreign <= MAX_FOREIGN))
}

#[serde_json_path::function(name = "match")]
fn whole(text: ValueType, expression: ValueType) -> LogicalType {
    finds(&text, &expression, Place::Whole).into()
}

#[serde_json_path::function(name = "search")]
fn anywhere(text: ValueType, expression: ValueType) -> LogicalType {
    finds(&text, &expression, Place::Anywhere).into()
}

fn finds(text: &ValueType<'_>, expression: &ValueType<'_>, place: Place) -> bool {
    let (Some(Value::String(text)), Some(Value::String(written))) =
        (text.as_value(), expression.as_value())
    else {
        return false;
    };
    let is_foreign = matches!(expression, ValueType::Node(_));
    COMPILED.with_borrow_mut(|compiled| {
        if is_foreign {
            compiled.foreign(written, place).is_some_and(|regex| regex.is_match(text))
        } else {
            compiled.literal(written, place).is_some_and(|regex| regex.is_match(text))
        }
    })
}

impl Compiled {
    fn foreign(&mut self, written: &str, place: Place) -> Option<Regex> {
        self.foreign += 1;
        if self.foreign > MAX_FOREIGN {
            return None;
        }
        compile(written, place, FOREIGN_LIMIT)
    }

    fn literal(&mut self, written: &str, place: Place) -> Option<&Regex> {
        if self.kept.len() >= MAX_KEPT {
            self.kept.clear();
        }
        let key = (place, written.to_owned());
        let regex = self.kept.entry(key).or_insert_with(|| compile(written, place, LITERAL_LIMIT));
        regex.as_ref()
    }
}

/// What is no regular expression matches nothing (RFC 9535, 2.4.6).
fn compile(written: &str, place: Place, limit: usize) -> Option<Regex> {
    let expression = match place {
        Place::Whole => format!(r"\A(?:{written})\z"),
        Place::Anywhere => written.to_owned(),
    };
    // A dot stands for any character but those that end a line, of which there are two (RFC 9485, 5.3).
    let mut builder = RegexBuilder::new(&expression);
    builder.crlf(true).size_limit(limit).dfa_size_limit(LITERAL_LIMIT).build().ok()
}
