//! Texts under names, in as little room as they take.

use std::{collections::BTreeMap, fmt, ops::Index, slice, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

type Pair = (Arc<str>, Arc<str>);

/// Texts under names, by name. It is made once and read: a map of two pairs takes 64 bytes, where
/// the leaf of a tree takes 384.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Pairs(Box<[Pair]>);

impl Pairs {
    /// The text under a name.
    pub fn get(&self, name: &str) -> Option<&Arc<str>> {
        let place = self.0.binary_search_by(|(held, _)| (**held).cmp(name)).ok()?;
        Some(&self.0[place].1)
    }

    /// Whether there is a text under a name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, by name.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }

    /// All texts, to be exchanged for the same elsewhere.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut Arc<str>> {
        self.0.iter_mut().flat_map(|(name, text)| [name, text])
    }
}

/// The pairs by name.
#[derive(Debug, Clone)]
pub struct Iter<'a>(slice::Iter<'a, Pair>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Arc<str>, &'a Arc<str>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, text)| (name, text))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Pairs {
    type Item = (&'a Arc<str>, &'a Arc<str>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Index<&str> for Pairs {
    type Output = Arc<str>;

    fn index(&self, name: &str) -> &Arc<str> {
        self.get(name).expect("whoever indexes knows that the name is there")
    }
}

/// Of several texts under one name the last stays.
impl FromIterator<Pair> for Pairs {
    fn from_iter<I: IntoIterator<Item = Pair>>(pairs: I) -> Self {
        let mut all: Vec<Pair> = pairs.into_iter().collect();
        if !all.is_sorted_by(|one, next| one.0 < next.0) {
            // Stable, and from the end: the last of a name comes first, and the others go.
            all.reverse();
            all.sort_by(|one, other| one.0.cmp(&other.0));
            all.dedup_by(|other, one| other.0 == one.0);
        }
        Self(all.into())
    }
}

impl<const N: usize> From<[Pair; N]> for Pairs {
    fn from(pairs: [Pair; N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl From<BTreeMap<Arc<str>, Arc<str>>> for Pairs {
    fn from(map: BTreeMap<Arc<str>, Arc<str>>) -> Self {
        map.into_iter().collect()
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts under names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut all = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    all.push(pair);
                }
                Ok(all.into_iter().collect())
            }
        }

        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_tree_holds(given in prop::collection::vec(("[a-c]{0,2}", "[xy]?"), 0..8)) {
            let shared = given.iter().map(|(name, text)| (name.as_str().into(), text.as_str().into()));
            let tree: BTreeMap<Arc<str>, Arc<str>> = shared.clone().collect();
            let pairs: Pairs = shared.collect();
            prop_assert!(pairs.iter().eq(tree.iter()));
            prop_assert_eq!(pairs.len(), tree.len());
            for (name, text) in &tree {
                prop_assert_eq!(pairs.get(name), Some(text));
            }
            prop_assert_eq!(pairs.get("none"), None);
            let text = serde_json::to_string(&pairs).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&tree).unwrap());
            prop_assert_eq!(serde_json::from_str::<Pairs>(&text).unwrap(), pairs);
        }
    }

    #[test]
    fn what_is_no_map_of_texts_is_refused() {
        for text in ["[]", "{\"a\":1}", "null"] {
            assert!(serde_json::from_str::<Pairs>(text).is_err(), "{text}");
        }
    }
}
