//! From a tree with places to the structs of the sections, reporting all that is wrong at once.
//!
//! serde stops at the first error. So [`Reader::read`] reads, notes the error with the place of
//! the innermost value that it arose at, takes that value out of the tree, and reads again, until
//! nothing is wrong or what is left lacks something it needs. The structs stay the only
//! description of what may be written; the JSON Schema is derived from the same ones.
//!
//! Two dialects are read. Ours is strict: unknown keys are errors, and a key without a value is
//! not the same as no key. Consul's takes any case of a key, with or without underscores, passes
//! over keys it does not know, and takes `null` for absent.
//!
//! `flatten` and untagged enums make serde buffer values and lose their places; the structs of the
//! configuration avoid the first, and an error within the second is reported for the whole value.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize,
    de::{
        self, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    diagnostic::{Place, Problem, Source, counted, nearest},
    tree::{Entry, Node, Span, Value},
};

/// How a file spells things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Our own: every key is known and means something.
    Strict,
    /// Consul's service definitions.
    Consul,
}

/// What came out of a tree.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// The value, with defaults in place of what was wrong.
    pub value: T,
    /// Whether defaults stand in place of what was wrong.
    pub fidelity: Fidelity,
}

/// Whether a value is what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fidelity {
    /// It is.
    Whole,
    /// Something was wrong and has been left out.
    Lossy,
}

/// Reads the trees of one file and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// The file.
    pub source: &'a Arc<Source>,
    /// How it spells things.
    pub dialect: Dialect,
    /// What is wrong so far, over all files.
    pub problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// A place in the file.
    pub(super) fn place(&self, span: &Span) -> Place {
        Place::new(self.source, span.clone())
    }

    /// Notes a problem.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reads a value; none if it cannot even be read with defaults in place of what is wrong.
    pub(super) fn read<T: for<'de> Deserialize<'de>>(
        &mut self,
        mut node: Node,
    ) -> Option<Reading<T>> {
        let mut removed: Vec<Span> = Vec::new();
        let mut fidelity = Fidelity::Whole;
        loop {
            let fault = match T::deserialize(De { node: &node, dialect: self.dialect }) {
                Ok(value) => return Some(Reading { value, fidelity }),
                Err(fault) => *fault.0,
            };
            let span = fault.span.clone().unwrap_or_else(|| node.span.clone());
            // What lacks a key because that key was wrong has been reported already.
            let follows = fault.kind == Kind::Missing
                && removed.iter().any(|gone| span.start <= gone.start && gone.end <= span.end);
            if fault.kind != Kind::Unknown {
                fidelity = Fidelity::Lossy;
            }
            let path = fault.path.clone();
            if !follows {
                self.report(fault.into_problem(self.place(&span)));
            }
            removed.push(remove(&mut node, &path)?);
        }
    }

    /// Finds a key of a mapping in the spelling of the dialect; in Consul's, `null` is no value.
    pub(super) fn find<'n>(&self, node: &'n Node, key: &str) -> Option<&'n Entry> {
        match self.dialect {
            Dialect::Strict => node.entry(key),
            Dialect::Consul => node
                .entries()
                .iter()
                .find(|entry| same_key(key, &entry.key) && entry.value.value != Value::Null),
        }
    }

    /// Takes a key out of a mapping, as [`Self::find`] finds it.
    pub(super) fn take(&self, node: &mut Node, key: &str) -> Option<Entry> {
        let found = self.find(node, key)?.key.clone();
        node.take(&found)
    }

    /// Takes a list out of a mapping so that its items can be read one by one. An empty value is
    /// an empty list.
    pub(super) fn take_list(&mut self, node: &mut Node, key: &str) -> Vec<Node> {
        let Some(entry) = node.take(key) else { return Vec::new() };
        match entry.value.value {
            Value::Seq(items) => items,
            Value::Null => Vec::new(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Map(_) => {
                let found = format!("found {}", describe(&entry.value));
                let place = self.place(&entry.value.span);
                self.report(Problem::error("expected a list").at(place, found));
                Vec::new()
            }
        }
    }
}

/// Takes the node at a path out of its tree, with its key. None for the root.
fn remove(root: &mut Node, path: &[usize]) -> Option<Span> {
    let (&last, above) = path.split_last()?;
    let mut node = root;
    for &step in above {
        node = match &mut node.value {
            Value::Seq(items) => items.get_mut(step)?,
            Value::Map(entries) => &mut entries.get_mut(step)?.value,
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => {
                return None;
            }
        };
    }
    match &mut node.value {
        Value::Seq(items) if last < items.len() => Some(items.remove(last).span),
        Value::Map(entries) if last < entries.len() => Some(entries.remove(last).key_span),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Seq(_)
        | Value::Map(_) => None,
    }
}

/// What is written, for people.
fn describe(node: &Node) -> String {
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
enum Kind {
    Unknown,
    Missing,
    Other,
}

/// An error of one attempt to read.
#[derive(Debug)]
struct Fault {
    kind: Kind,
    message: String,
    label: String,
    help: Vec<String>,
    span: Option<Span>,
    /// The way from the root to the node, as positions; collected from the node upwards and then
    /// turned round.
    path: Vec<usize>,
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

    fn into_problem(self, place: Place) -> Problem {
        let mut problem = Problem::error(self.message).at(place, self.label);
        problem.help = self.help;
        problem
    }
}

#[derive(Debug)]
struct Error(Box<Fault>);

impl Error {
    /// Names the innermost node that the error arose at, unless a deeper one has.
    fn at(mut self, node: &Node) -> Self {
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

    fn within(mut self, index: usize) -> Self {
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
    let all: Vec<_> = expected.iter().map(|key| format!("`{key}`")).collect();
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

/// serde's view of a node.
#[derive(Clone, Copy)]
struct De<'t> {
    node: &'t Node,
    dialect: Dialect,
}

impl<'t> De<'t> {
    fn child(self, node: &'t Node) -> Self {
        Self { node, ..self }
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        entries: &'t [Entry],
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { de: self, all: entries, next: 0, fields })
    }
}

impl<'de> de::Deserializer<'de> for De<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Seq(items) => visitor.visit_seq(Items { de: self, all: items, next: 0 }),
            Value::Map(entries) => self.map(entries, &[], visitor),
        }
        .map_err(|error| error.at(self.node))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // `null` is not "absent": a key without a value is a slip, or an empty mapping or list.
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.value != Value::Null {
            return self.deserialize_any(visitor);
        }
        visitor
            .visit_seq(Items { de: self, all: &[], next: 0 })
            .map_err(|error| error.at(self.node))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Null => self.map(&[], fields, visitor),
            Value::Map(entries) => self.map(entries, fields, visitor),
            // serde would take a list for the fields of a struct in their order.
            Value::Seq(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => {
                return self.deserialize_any(visitor);
            }
        }
        .map_err(|error| error.at(self.node))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self).map_err(|error| error.at(self.node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entry = match self.node.entries() {
            [] if self.node.as_str().is_some() => None,
            [entry] => Some(entry),
            _ => return self.deserialize_any(visitor),
        };
        visitor.visit_enum(Variant { de: self, entry }).map_err(|error| error.at(self.node))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct Items<'t> {
    de: De<'t>,
    all: &'t [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(item) = self.all.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(self.de.child(item))
            .map(Some)
            .map_err(|error| error.at(item).within(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.all.len() - self.next)
    }
}

struct Entries<'t> {
    de: De<'t>,
    all: &'t [Entry],
    next: usize,
    /// The keys of the struct that is read; none if it is a map.
    fields: &'static [&'static str],
}

impl Entries<'_> {
    /// The key as the struct spells it.
    fn spelling<'k>(&self, key: &'k str) -> &'k str {
        match self.de.dialect {
            Dialect::Strict => key,
            Dialect::Consul => {
                self.fields.iter().copied().find(|field| same_key(field, key)).unwrap_or(key)
            }
        }
    }
}

/// Consul reads `DisableRedirects`, `disableredirects` and `disable_redirects` as one key.
fn same_key(a: &str, b: &str) -> bool {
    let letters = |text: &'_ str| {
        text.bytes().filter(|&b| b != b'_').map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    letters(a) == letters(b)
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.de.dialect == Dialect::Consul {
            while self.all.get(self.next).is_some_and(|e| e.value.value == Value::Null) {
                self.next += 1;
            }
        }
        let Some(entry) = self.all.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = self.spelling(&entry.key).into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mut error| {
            error.0.span.get_or_insert_with(|| entry.key_span.clone());
            error.within(self.next)
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let index = self.next;
        self.next += 1;
        let node = &self.all[index].value;
        seed.deserialize(self.de.child(node)).map_err(|error| error.at(node).within(index))
    }
}

/// An enum: a name alone, or a mapping of one name to what belongs to it.
struct Variant<'t> {
    de: De<'t>,
    entry: Option<&'t Entry>,
}

impl<'de, 't> EnumAccess<'de> for Variant<'t> {
    type Error = Error;
    type Variant = Content<'t>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'t>), Error> {
        let content = Content(self.entry.map(|entry| self.de.child(&entry.value)));
        let value = match self.entry {
            None => seed.deserialize(self.de)?,
            Some(entry) => {
                let key: StrDeserializer<'_, Error> = (&*entry.key).into_deserializer();
                seed.deserialize(key).map_err(|mut error| {
                    error.0.span.get_or_insert_with(|| entry.key_span.clone());
                    error
                })?
            }
        };
        Ok((value, content))
    }
}

struct Content<'t>(Option<De<'t>>);

impl<'t> Content<'t> {
    fn some(self) -> Result<De<'t>, Error> {
        self.0.ok_or_else(|| de::Error::custom("this name needs a value"))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(de::Error::custom("this name takes no value")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.some()?).map_err(|error| error.within(0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_seq(self.some()?, visitor).map_err(|error| error.within(0))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_struct(self.some()?, "", fields, visitor)
            .map_err(|error| error.within(0))
    }
}
