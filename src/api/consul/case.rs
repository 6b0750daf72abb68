//! Bodies of requests, read as leniently as Consul reads them, onto structs with its names.
//!
//! The type that is asked for tells what a key is: the fields of a struct are found in any case
//! and with or without underscores (`serviceid`, `ServiceID`, `service_id`), its serde aliases
//! too; the keys of a map are the client's own and stay as they are; and so does all that is read
//! as plain JSON. Keys that no field has are passed over, since clients newer than we send them.
//! `null` is as if it were not there, and of several values for one field the last one counts: both
//! as in Go, whose client sends nulls for all it does not set. Structs therefore have to be
//! `#[serde(default)]`; what serde buffers (`flatten`, `untagged`) is not found leniently.
//!
//! How deep a body may be nested is bounded by `serde_json`, at 128.

use std::{fmt, vec};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess,
        SeqAccess, Unexpected, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Number;

use crate::api::router::Refusal;

#[cfg(test)]
mod tests;

/// Reads a body; what it cannot be read as is refused with 400, the field named.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let refused =
        |error: &dyn fmt::Display| Refusal::bad(format!("Request decode failed: {error}"));
    let tree: Tree = serde_json::from_slice(body).map_err(|error| refused(&error))?;
    T::deserialize(tree).map_err(|error| refused(&error))
}

/// JSON with the keys in their order, and as often as they were written.
#[derive(Debug)]
enum Tree {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    fn is_there(&self) -> bool {
        !matches!(self, Self::Null)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Planter)
    }
}

struct Planter;

impl<'de> Visitor<'de> for Planter {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
        let number = Number::from_f64(number);
        number.map(Tree::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Tree>()? {
            list.push(item);
        }
        list.retain(Tree::is_there);
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry::<String, Tree>()? {
            map.push(entry);
        }
        map.retain(|(_, value)| value.is_there());
        Ok(Tree::Map(map))
    }
}

impl<'de> Deserializer<'de> for Tree {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Flag(flag) => visitor.visit_bool(flag),
            Self::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (None, Some(number), _) => visitor.visit_i64(number),
                (None, None, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Self::Text(text) => visitor.visit_string(text),
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Self::Map(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Map(entries) => visitor.visit_map(Fields::new(entries, fields)),
            Self::Null => visitor.visit_map(Fields::new(Vec::new(), fields)),
            // Derived structs would take a list as their fields in order.
            Self::List(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            Self::Flag(_) | Self::Number(_) | Self::Text(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_there() { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Text(text) => visitor.visit_enum(text.into_deserializer()),
            Self::Null | Self::Flag(_) | Self::Number(_) | Self::List(_) | Self::Map(_) => {
                self.deserialize_any(visitor)
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// What a body says of a struct, each field at most once and under its own name.
struct Fields {
    entries: vec::IntoIter<(&'static str, Tree)>,
    value: Option<(&'static str, Tree)>,
}

impl Fields {
    fn new(entries: Vec<(String, Tree)>, fields: &'static [&'static str]) -> Self {
        let mut known: Vec<(&'static str, Tree)> = Vec::new();
        for (key, value) in entries {
            let Some(name) = fields.iter().copied().find(|name| is_same(name, &key)) else {
                continue;
            };
            match known.iter_mut().find(|(other, _)| *other == name) {
                Some((_, earlier)) => *earlier = value,
                None => known.push((name, value)),
            }
        }
        Self { entries: known.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self.entries.next();
        let name = self.value.as_ref().map(|(name, _)| *name);
        name.map(|name| seed.deserialize(name.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.value.take().ok_or_else(|| Error::custom("no value"))?;
        seed.deserialize(value).map_err(|error| Error::custom(format!("{name}: {error}")))
    }
}

/// Whether a key means a field.
fn is_same(field: &str, key: &str) -> bool {
    folded(field).eq(folded(key))
}

fn folded(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(|b| *b != b'_').map(|b| b.to_ascii_lowercase())
}
