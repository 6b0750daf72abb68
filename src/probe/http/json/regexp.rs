//! The functions `match` and `search` of a `JSONPath` (RFC 9535, 2.4.6 and 2.4.7), with regular
//! expressions as RFC 9485 has them, whose bounds are kept.
//!
//! An expression that stands in a path is compiled once by each thread. One that comes from the body
//! is the target's word: small, and few of them are compiled in one evaluation.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use serde_json_path::functions::{LogicalType, ValueType};

/// Most memory that a compiled expression may take, in KiB: what is tried in turn, so that it is known
/// how large one is. The time to look at a text grows with both.
const SIZES: [usize; 5] = [4, 16, 64, 256, 1024];

/// Most KiB of expressions times bytes of texts that are looked at for one body: a tenth of a second
/// where the worst expression meets the worst text, and some hundred times less as a rule.
const MAX_WORK: usize = 1 << 20;

/// What a look costs beside the bytes of its text, in bytes.
const LOOK: usize = 16;

/// Longest expression of a body. They are parsed before their size is known.
const MAX_FOREIGN_LEN: usize = 64;

/// The same in KiB, compiled.
const MAX_FOREIGN_SIZE: usize = 64;

/// Most expressions of a body that are compiled.
const MAX_FOREIGN: usize = 4;

/// Most expressions of paths that are kept compiled, of all that a thread comes across.
const MAX_KEPT: usize = 256;

/// Where in a text an expression has to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Whole,
    Anywhere,
}

/// An expression that is compiled, and how large it is in KiB.
struct Sized {
    regex: Regex,
    size: usize,
}

/// What a thread has compiled, and what has been taken of the bounds for the body at hand.
#[derive(Default)]
struct Compiled {
    /// Nothing stands for a text that is no expression.
    kept: HashMap<(Place, String), Option<Rc<Sized>>>,
    foreign: usize,
    work: usize,
}

thread_local! {
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

/// From here on the bounds are those of another body.
pub(super) fn begin() {
    COMPILED.with_borrow_mut(|compiled| (compiled.foreign, compiled.work) = (0, 0));
}

/// Whether all expressions that were come across for this body were within bounds. If not, some have
/// not been looked for.
pub(super) fn is_within_bounds() -> bool {
    COMPILED.with_borrow(|compiled| compiled.foreign <= MAX_FOREIGN && compiled.work <= MAX_WORK)
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
        if compiled.work > MAX_WORK {
            return false;
        }
        let found = if is_foreign {
            compiled.foreign(written, place)
        } else {
            compiled.literal(written, place)
        };
        found.is_some_and(|found| {
            compiled.work = compiled.work.saturating_add(found.size * (LOOK + text.len()));
            compiled.work <= MAX_WORK && found.regex.is_match(text)
        })
    })
}

impl Compiled {
    fn foreign(&mut self, written: &str, place: Place) -> Option<Rc<Sized>> {
        self.foreign += 1;
        if written.len() > MAX_FOREIGN_LEN {
            self.foreign = MAX_FOREIGN + 1;
        }
        if self.foreign > MAX_FOREIGN {
            return None;
        }
        compile(written, place, MAX_FOREIGN_SIZE).map(Rc::new)
    }

    fn literal(&mut self, written: &str, place: Place) -> Option<Rc<Sized>> {
        if self.kept.len() >= MAX_KEPT {
            self.kept.clear();
        }
        let key = (place, written.to_owned());
        let kept = self.kept.entry(key);
        kept.or_insert_with(|| compile(written, place, SIZES[SIZES.len() - 1]).map(Rc::new)).clone()
    }
}

/// What is no regular expression matches nothing (RFC 9535, 2.4.6).
fn compile(written: &str, place: Place, most: usize) -> Option<Sized> {
    let within = |expression: &str, size: usize| {
        // A dot stands for any character but those that end a line, of which there are two
        // (RFC 9485, 5.3).
        let mut builder = RegexBuilder::new(expression);
        builder.crlf(true).size_limit(size << 10).dfa_size_limit(1 << 20).build()
    };
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        match (within(written, size), place) {
            (Ok(regex), Place::Anywhere) => return Some(Sized { regex, size }),
            // By itself it is one: what is put around it cannot be taken for a part of it.
            (Ok(_), Place::Whole) => {
                let regex = within(&format!(r"\A(?:{written})\z"), size * 2).ok()?;
                return Some(Sized { regex, size });
            }
            (Err(regex::Error::CompiledTooBig(_)), _) => {}
            (Err(_), _) => return None,
        }
    }
    None
}
