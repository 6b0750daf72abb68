//! YAML and JSON as a tree in which every key and value knows its place in the file.
//!
//! Scalars are read by the core schema of YAML 1.2: `true` and `false` are the only truth values,
//! `no` and `on` are text. Aliases are replaced by copies of what they name, within a budget, so
//! that a few lines cannot become gigabytes. JSON is read by the same code, since every JSON text
//! is YAML.

use std::{ops::Range, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::{
    HashMap,
    diagnostic::{Place, Problem, Source},
};

/// Most levels of nesting, by limit of the parser and again where aliases are put in.
const MAX_DEPTH: usize = 64;

/// Most nodes that may come from aliases and the anchors they name.
const MAX_COPIES: usize = 1_000_000;

/// Bytes of the file.
pub type Span = Range<usize>;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it is written; of an alias, the alias.
    pub span: Span,
}

/// What can be written in YAML or JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(Box<str>),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order written; its keys differ.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Box<str>,
    /// Where the key is written.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        if let Value::Seq(items) = &self.value { items } else { &[] }
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The entry of a key, if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// The value of a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Takes a key out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries().iter().position(|entry| &*entry.key == key)?;
        if let Value::Map(entries) = &mut self.value { Some(entries.remove(at)) } else { None }
    }

    /// The same without places. What JSON cannot say (infinity, not a number) becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::String(value) => (**value).into(),
            Value::Seq(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|e| (e.key.to_string(), e.value.to_json())).collect(),
            ),
        }
    }

    /// How many nodes and how many levels there are; never deep, see [`MAX_DEPTH`].
    fn size(&self) -> (usize, usize) {
        let values = self.entries().iter().map(|entry| &entry.value);
        let (count, depth) = self
            .items()
            .iter()
            .chain(values)
            .map(Self::size)
            .fold((0, 0), |(count, deepest), (n, depth)| (count + n, deepest.max(depth)));
        (count + 1, depth + 1)
    }
}

/// Reads one YAML or JSON document. A file without one is an empty value. The tree is absent when
/// the text cannot be read to its end; with problems it may lack what they point at.
pub fn parse(source: &Arc<Source>) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder::new(source);
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
    };
    for event in Parser::new_from_str_with_options(source.text(), options) {
        let step = match event {
            Ok((event, span)) => {
                builder.tag = span.tag_span().and_then(|span| span.byte_range());
                builder.take(event, span.byte_range().unwrap_or_default())
            }
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(source.text().len());
                Err(builder
                    .problem(at..next_char(source.text(), at), "this cannot be read as YAML")
                    .with_label(&error.info())
                    .into())
            }
        };
        if let Err(problem) = step {
            builder.problems.push(*problem);
            return (None, builder.problems);
        }
    }
    let empty = Node { value: Value::Null, span: 0..0 };
    (Some(builder.root.unwrap_or(empty)), builder.problems)
}

fn next_char(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |c| at + c.len_utf8())
}

impl Problem {
    fn with_label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }
}

/// A list or mapping that has been opened and not yet closed.
struct Frame {
    open: Open,
    start: usize,
    anchor: usize,
}

enum Open {
    Seq(Vec<Node>),
    /// The entries, where each key was first, and the key that waits for its value.
    Map(Vec<Entry>, HashMap<Box<str>, Span>, Key),
}

/// What the next value of a mapping belongs to.
enum Key {
    /// The next node is a key.
    Wanted,
    /// The next node is the value of this key.
    Known(Box<str>, Span),
    /// The next node is the value of a key that was refused.
    Refused,
}

/// One step of reading; an error ends it. Boxed, since every step returns one.
type Step = Result<(), Box<Problem>>;

struct Builder<'a> {
    source: &'a Arc<Source>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    copies: usize,
    /// Where the tag of the event in hand is, if it has one.
    tag: Option<Span>,
    root: Option<Node>,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a Arc<Source>) -> Self {
        Self {
            source,
            frames: Vec::new(),
            anchors: HashMap::default(),
            copies: 0,
            tag: None,
            root: None,
            problems: Vec::new(),
        }
    }

    fn place(&self, span: Span) -> Place {
        Place::new(self.source, span)
    }

    fn problem(&self, span: Span, message: &str) -> Problem {
        Problem::error(message).at(self.place(span), "")
    }

    /// Takes in one event; an error ends the reading.
    fn take(&mut self, event: Event<'_>, span: Span) -> Step {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(self
                .problem(span, "a file holds one document")
                .with_label("a second one starts here")
                .help("put it in a file of its own")
                .into()),
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), &span);
                self.node(Node { value, span }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &span);
                self.open(Open::Seq(Vec::new()), span.start, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &span);
                self.open(
                    Open::Map(Vec::new(), HashMap::default(), Key::Wanted),
                    span.start,
                    anchor,
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(&span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..)
            | Event::UnresolvedAlias(_)
            | _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, start: usize, anchor: usize) -> Step {
        if let Some(Frame { open: Open::Map(_, _, Key::Wanted), .. }) = self.frames.last() {
            return Err(self
                .problem(start..start + 1, "a key is a text")
                .with_label("a list or mapping as a key")
                .into());
        }
        self.frames.push(Frame { open, start, anchor });
        Ok(())
    }

    fn close(&mut self, end: &Span) -> Step {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let (value, last) = match frame.open {
            Open::Seq(items) => {
                let last = items.last().map(|item| item.span.end);
                (Value::Seq(items), last)
            }
            Open::Map(entries, ..) => {
                let last = entries.last().map(|entry| entry.value.span.end.max(entry.key_span.end));
                (Value::Map(entries), last)
            }
        };
        // The end of a block collection is only noticed at the next token.
        let end = if end.is_empty() { last.unwrap_or(end.end) } else { end.end };
        self.node(Node { value, span: frame.start..end.max(frame.start) }, frame.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Step {
        let Some(known) = self.anchors.get(&anchor) else {
            return Err(self
                .problem(span, "an alias cannot stand within what it names")
                .with_label("refers to a value that is not complete here")
                .into());
        };
        let (nodes, depth) = known.size();
        self.copies += nodes;
        if self.copies > MAX_COPIES || self.frames.len() + depth > MAX_DEPTH {
            return Err(self.too_much(span).into());
        }
        let value = known.value.clone();
        self.node(Node { value, span }, 0)
    }

    fn too_much(&self, span: Span) -> Problem {
        self.problem(span, "the file's aliases stand for too much")
            .with_label("the limit is passed here")
            .help(format!(
                "together they may stand for {MAX_COPIES} values, {MAX_DEPTH} levels deep"
            ))
    }

    /// Puts a finished node where it belongs.
    fn node(&mut self, node: Node, anchor: usize) -> Step {
        if anchor != 0 {
            self.copies += node.size().0;
            if self.copies > MAX_COPIES {
                return Err(self.too_much(node.span).into());
            }
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.open {
            Open::Seq(items) => items.push(node),
            Open::Map(entries, _, waiting) => match std::mem::replace(waiting, Key::Wanted) {
                Key::Known(key, key_span) => entries.push(Entry { key, key_span, value: node }),
                Key::Refused => {}
                Key::Wanted => return self.key(node),
            },
        }
        Ok(())
    }

    fn key(&mut self, node: Node) -> Step {
        let source = self.source;
        let Some(text) = key_text(&node, source.text()) else {
            return Err(self.problem(node.span, "a key is a text").into());
        };
        let Some(Frame { open: Open::Map(_, known, waiting), .. }) = self.frames.last_mut() else {
            return Ok(());
        };
        let first = known.get(&text).cloned();
        if text.as_ref() == "<<" {
            *waiting = Key::Refused;
            let problem = self
                .problem(node.span, "merge keys are not part of YAML 1.2")
                .with_label("merges another mapping")
                .help("write the keys out; what checks have in common goes into `check_defaults`");
            self.problems.push(problem);
        } else if let Some(first) = first {
            *waiting = Key::Refused;
            let problem = self
                .problem(node.span, &format!("the key `{text}` is given twice"))
                .with_label("given again")
                .related(self.place(first), "it is given first here");
            self.problems.push(problem);
        } else {
            known.insert(text.clone(), node.span.clone());
            *waiting = Key::Known(text, node.span);
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if tag.is_some() {
            let problem = self
                .problem(
                    self.tag.as_ref().unwrap_or(span).clone(),
                    "tags are not used in this file",
                )
                .with_label("is a tag")
                .help("leave the tag out, or put a text in quotes");
            self.problems.push(problem);
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Value {
        let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        if !is_text {
            self.refuse_tag(tag, span);
        }
        if style == ScalarStyle::Plain && !is_text {
            plain(text)
        } else {
            Value::String(text.into())
        }
    }
}

/// The key as it is written: `1`, `true` and `null` are texts here.
fn key_text(node: &Node, text: &str) -> Option<Box<str>> {
    match &node.value {
        Value::String(key) => Some(key.clone()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            text.get(node.span.clone()).map(Into::into)
        }
        Value::Seq(_) | Value::Map(_) => None,
    }
}

/// An unquoted scalar by YAML 1.2, 10.3.2.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::String(text.into())),
    }
}

fn number(text: &str) -> Option<Value> {
    let radix = |prefix, radix| {
        text.strip_prefix(prefix).and_then(|digits: &str| {
            (!digits.starts_with(['+', '-'])).then(|| i64::from_str_radix(digits, radix).ok())?
        })
    };
    if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Some(Value::Int(value));
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match digits {
        ".inf" | ".Inf" | ".INF" => {
            let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
            return Some(Value::Float(f64::INFINITY * sign));
        }
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || !digits.contains(|c: char| c.is_ascii_digit())
        || digits
            .contains(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | 'e' | 'E' | '+' | '-'))
    {
        return None;
    }
    match text.parse::<i64>() {
        Ok(value) => Some(Value::Int(value)),
        Err(_) => text.parse::<f64>().ok().map(Value::Float),
    }
}
