//! JSON as it was written, with texts borrowed from the body: what [`decode_json`](super::decode_json)
//! looks through for its fields, and faster to make than `serde_json::Value`.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A value.
#[derive(Debug, PartialEq)]
pub(super) enum Node<'b> {
    Null,
    Bool(bool),
    Natural(u64),
    Negative(i64),
    Fraction(f64),
    Text(Cow<'b, str>),
    List(Vec<Self>),
    Object(Members<'b>),
}

/// The members of an object by their keys, each once: the last one that was written.
pub(super) type Members<'b> = Vec<(Cow<'b, str>, Node<'b>)>;

impl Node<'_> {
    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// Members that most objects have no more of: room that need not grow.
const FEW: usize = 8;

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'de>, E> {
        Ok(Node::Natural(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'de>, E> {
        Ok(Node::Negative(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node<'de>, E> {
        Ok(Node::Fraction(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'de>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Node::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node<'de>, A::Error> {
        let mut all = Members::with_capacity(FEW);
        while let Some((Key(key), value)) = members.next_entry()? {
            all.push((key, value));
        }
        // The sort is stable, so the last of equal keys is the first from the end.
        all.sort_by(|(a, _), (b, _)| b.cmp(a));
        all.reverse();
        all.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Ok(Node::Object(all))
    }
}

/// A key, borrowed where it can be.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'b>(#[serde(borrow)] Cow<'b, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Node<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn members_are_in_order_and_of_equal_keys_the_last_counts() {
        let Node::Object(members) = read(r#"{"b":1,"a":2,"b":3,"B":-4,"a":null,"b":"5"}"#) else {
            panic!("no object")
        };
        let expected = [
            ("B".into(), Node::Negative(-4)),
            ("a".into(), Node::Null),
            ("b".into(), Node::Text("5".into())),
        ];
        assert_eq!(members, expected);
    }

    #[test]
    fn a_text_is_borrowed_unless_it_is_written_with_escapes() {
        let body = r#"["plain","\u0061"]"#;
        let Node::List(items) = read(body) else { panic!("no list") };
        assert!(matches!(&items[0], Node::Text(Cow::Borrowed("plain"))), "{items:?}");
        assert!(matches!(&items[1], Node::Text(Cow::Owned(text)) if text == "a"), "{items:?}");
    }
}
