//! Request bodies as Consul takes them.
//!
//! Keys of the structs are taken in any case and with or without underscores, keys that are not
//! known are passed over, and `null` is absent, also within a list. Maps of free keys are taken as
//! they are. A key that is there twice counts once: an alias only where the field's own name is
//! absent, as Go's client sends an embedded check with both, and what Consul shows of a check in the
//! catalog has both.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess,
        SeqAccess, Unexpected, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::node::{Members, Node};

/// Second names with the first names that go before them.
const ALIASES: &[(&str, &str)] = &[
    ("check_id", "id"),
    ("script_args", "args"),
    ("IntervalDuration", "Interval"),
    ("TimeoutDuration", "Timeout"),
    ("DeregisterCriticalServiceAfterDuration", "DeregisterCriticalServiceAfter"),
];

/// A body that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The keys that lead to what is wrong, from the innermost outwards while it is made.
    path: Vec<String>,
    message: String,
}

impl DecodeError {
    /// The field that is wrong, as `checks[0].interval`; empty if it is the whole body.
    pub fn field(&self) -> String {
        let mut shown = String::new();
        for step in &self.path {
            if !shown.is_empty() && !step.starts_with('[') {
                shown.push('.');
            }
            shown.push_str(step);
        }
        shown
    }

    fn within(mut self, step: impl Into<String>) -> Self {
        self.path.insert(0, step.into());
        self
    }
}

/// As Consul says it, with the field.
impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request decode failed: ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.field())?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), message: message.to_string() }
    }
}

/// Reads a request body. Nesting is bounded: a body that goes deeper than 128 levels is refused.
pub fn decode_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let node: Node<'_> = serde_json::from_slice(body).map_err(DecodeError::custom)?;
    T::deserialize(De(&node))
}

/// Whether two keys are one to Consul: `DisableRedirects`, `disableredirects` and
/// `disable_redirects` are.
pub fn same_key(a: &str, b: &str) -> bool {
    let letters = |text| str::bytes(text).filter(|&b| b != b'_').map(|b| b.to_ascii_lowercase());
    letters(a).eq(letters(b))
}

/// The first letter of a key as a set of letters: two that share none are not the same key.
fn initial(key: &str) -> u32 {
    match key.bytes().next() {
        Some(letter) if letter.is_ascii_alphabetic() => 1 << (letter.to_ascii_lowercase() - b'a'),
        Some(_) | None => u32::MAX,
    }
}

/// serde's view of a value.
#[derive(Clone, Copy)]
struct De<'v>(&'v Node<'v>);

impl<'de> Deserializer<'de> for De<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Natural(value) => visitor.visit_u64(*value),
            Node::Negative(value) => visitor.visit_i64(*value),
            Node::Fraction(value) => visitor.visit_f64(*value),
            Node::Text(text) => visitor.visit_str(text),
            Node::List(items) => visitor.visit_seq(Items { all: items.iter(), next: 0 }),
            Node::Object(members) => visitor.visit_map(Entries::of_map(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Node::Object(members) => visitor.visit_map(Entries::of_struct(members, fields)),
            // serde would take a list for the fields of a struct in their order.
            Node::List(_) => Err(DecodeError::invalid_type(Unexpected::Seq, &visitor)),
            Node::Null
            | Node::Bool(_)
            | Node::Natural(_)
            | Node::Negative(_)
            | Node::Fraction(_)
            | Node::Text(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if let Node::Text(text) = self.0 {
            return visitor.visit_enum((&**text).into_deserializer());
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

struct Items<'v> {
    all: std::slice::Iter<'v, Node<'v>>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        for item in self.all.by_ref() {
            let index = self.next;
            self.next += 1;
            if !item.is_null() {
                let read = seed.deserialize(De(item)).map(Some);
                return read.map_err(|error| error.within(format!("[{index}]")));
            }
        }
        Ok(None)
    }
}

/// The keys of an object with their values, as they are to be read.
struct Entries<'v> {
    left: std::vec::IntoIter<(&'v str, &'v Node<'v>)>,
    value: Option<(&'v str, &'v Node<'v>)>,
}

/// The members that are not `null`.
fn present<'v>(members: &'v Members<'v>) -> impl Iterator<Item = (&'v str, &'v Node<'v>)> {
    let present = members.iter().filter(|(_, value)| !value.is_null());
    present.map(|(key, value)| (&**key, value))
}

impl<'v> Entries<'v> {
    fn of_map(members: &'v Members<'v>) -> Self {
        let all: Vec<_> = present(members).collect();
        Self { left: all.into_iter(), value: None }
    }

    fn of_struct(members: &'v Members<'v>, fields: &'static [&'static str]) -> Self {
        // Most fields of most structs are absent, and need not be looked for.
        let initials = present(members).fold(0, |set, (key, _)| set | initial(key));
        let find = |field: &str| {
            if initials & initial(field) == 0 {
                return None;
            }
            present(members).find_map(|(key, value)| same_key(key, field).then_some(value))
        };
        let doubled = |field: &str| {
            let first = ALIASES.iter().find(|(alias, _)| *alias == field);
            first.is_some_and(|(_, first)| fields.contains(first) && find(first).is_some())
        };
        let all: Vec<_> = fields
            .iter()
            .filter_map(|field| Some((*field, find(field)?)))
            .filter(|(field, _)| !doubled(field))
            .collect();
        Self { left: all.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        self.value = self.left.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        let spelt: StrDeserializer<'_, DecodeError> = key.into_deserializer();
        seed.deserialize(spelt).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        let (key, value) = self.value.take().ok_or_else(|| DecodeError::custom("no value"))?;
        seed.deserialize(De(value)).map_err(|error| error.within(key))
    }
}
