//! serde's view of a tree: each error leaves with the place of the innermost node that it arose at.

use serde::{
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{Dialect, fault::Error};
use crate::{
    config::tree::{Entry, Node, Value},
    consul::same_key,
};

/// serde's view of a node.
#[derive(Clone, Copy)]
pub(super) struct De<'t> {
    pub(super) node: &'t Node,
    pub(super) dialect: Dialect,
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
