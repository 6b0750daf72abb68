//! What serde says is wrong, in the words of somebody who writes YAML, and where it is.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::config::{
    diagnostic::{Place, Problem, counted, nearest},
    tree::{Node, Span, Value},
};

/// What is written, for people.
pub(super) fn describe(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Int(value) => format!("the number {value}"),
        Value::Float(value) => format!("the number {value}"),
        Value::String(text) if text.is_empty() => "an empty text".to_owned(),
        Value::String(text) => format!("the text `{}`", shortened(text)),
        Value::Seq(items) => format!("a list of {}", counted(items.len(), "item")),
        Value::Map(entries) => format!("a mapping of {}", counted(entries.len(), "key")),
    }
}

fn shortened(text: &str) -> String {
    let dots = if text.chars().count() > 40 { "..." } else { "" };
    let kept = if dots.is_empty() { 40 } else { 37 };
    text.chars().take(kept).flat_map(char::escape_debug).chain(dots.chars()).collect()
}

/// What kind of thing went wrong, as far as reading on depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unknown,
    Missing,
    Other,
}

/// An error of one attempt to read.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    message: String,
    label: String,
    help: Vec<String>,
    pub(super) span: Option<Span>,
    /// The way from the root to the node, as positions; collected from the node upwards and then
    /// turned round.
    pub(super) path: Vec<usize>,
}

impl Fault {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            label: String::new(),
            help: Vec::new(),
            span: None,
            path: Vec::new(),
        }
    }

    pub(super) fn into_problem(self, place: Place) -> Problem {
        let mut problem = Problem::error(self.message).at(place, self.label);
        problem.help = self.help;
        problem
    }
}

#[derive(Debug)]
pub(super) struct Error(pub(super) Box<Fault>);

impl Error {
    /// Names the innermost node that the error arose at, unless a deeper one has.
    pub(super) fn at(mut self, node: &Node) -> Self {
        let fault = &mut *self.0;
        if fault.span.is_none() {
            // A long mapping that lacks something is shown by its first key.
            let long = fault.kind == Kind::Missing && node.span.len() > 80;
            let head = node.entries().first().filter(|_| long).map(|entry| &entry.key_span);
            fault.span = Some(head.unwrap_or(&node.span).clone());
            if fault.label.is_empty() && fault.kind != Kind::Missing {
                fault.label = format!("found {}", describe(node));
            }
            advise(fault, node);
        }
        self
    }

    pub(super) fn within(mut self, index: usize) -> Self {
        self.0.path.insert(0, index);
        self
    }
}

/// YAML's best known traps: a key whose value was forgotten, a version read as a number, and the
/// truth values of YAML 1.1.
fn advise(fault: &mut Fault, node: &Node) {
    let scalar = matches!(node.value, Value::Bool(_) | Value::Int(_) | Value::Float(_));
    let advice = match node.as_str().map(str::to_lowercase).as_deref() {
        None if node.value == Value::Null => "give the key a value, or leave it out",
        None if scalar && fault.message == "expected a text" => "put it in quotes",
        Some(_) if fault.message != "expected `true` or `false`" => return,
        Some("yes" | "on" | "y") => "write `true`",
        Some("no" | "off" | "n") => "write `false`",
        Some("true" | "false") => "leave out the quotes",
        None | Some(_) => return,
    };
    fault.help.push(advice.to_owned());
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let mut fault = Fault::new(Kind::Other, message);
        if fault.message == "invalid socket address syntax" {
            "expected an address and a port".clone_into(&mut fault.message);
            fault.help.push("write for example \"127.0.0.1:8500\" or \"[::1]:8500\"".to_owned());
        }
        Self(Box::new(fault))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(Box::new(Fault::new(Kind::Other, expectation(&expected.to_string()))))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Fault::new(Kind::Unknown, format!("unknown key `{field}`"));
        "not a key here".clone_into(&mut fault.label);
        fault.help = suggestions(field, expected, "the keys here are");
        Self(Box::new(fault))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Fault::new(Kind::Other, format!("unknown value `{variant}`"));
        "not a value of this key".clone_into(&mut fault.label);
        fault.help = suggestions(variant, expected, "the values are");
        Self(Box::new(fault))
    }

    fn missing_field(field: &'static str) -> Self {
        let mut fault = Fault::new(Kind::Missing, format!("the key `{field}` is missing"));
        fault.label = format!("has no `{field}`");
        Self(Box::new(fault))
    }
}

fn suggestions(word: &str, expected: &[&'static str], intro: &str) -> Vec<String> {
    let near = nearest(word, expected.iter().copied());
    let all: Vec<_> =
        expected.iter().filter(|key| !key.is_empty()).map(|key| format!("`{key}`")).collect();
    near.map(|near| format!("did you mean `{near}`?"))
        .into_iter()
        .chain((!all.is_empty()).then(|| format!("{intro} {}", all.join(", "))))
        .collect()
}

/// serde's words for what it wants, in the words of somebody who writes YAML.
fn expectation(expected: &str) -> String {
    let wanted = match expected {
        "a string" | "a borrowed string" | "string" => "a text",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "u16" => "a whole number from 0 to 65535",
        "u8" | "u32" | "u64" | "usize" => "a whole number, not below zero",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u8" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number above zero"
        }
        "f32" | "f64" => "a number",
        "socket address" => "an address and a port, such as \"127.0.0.1:8500\"",
        "path string" => "a path",
        other if other.starts_with("struct ") => "a mapping",
        other if other.starts_with("enum ") => "one of the names this key takes",
        other => other,
    };
    format!("expected {wanted}")
}
