//! Shared things in sets, by a key that they hold themselves.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// What is looked up by a text that it holds.
pub trait Keyed {
    /// The text.
    fn key(&self) -> &str;
}

/// A handle that is told from others, put in order and looked up by its key: a set of them is a map
/// that does not hold its keys a second time.
#[derive(Debug)]
pub struct ByKey<T>(pub Arc<T>);

/// A set of handles.
pub type Keys<T> = HashSet<ByKey<T>, foldhash::fast::RandomState>;

impl<T> Clone for ByKey<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Keyed> Borrow<str> for ByKey<T> {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}

impl<T: Keyed> Hash for ByKey<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl<T: Keyed> PartialEq for ByKey<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl<T: Keyed> Eq for ByKey<T> {}

impl<T: Keyed> PartialOrd for ByKey<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Keyed> Ord for ByKey<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for (String, u8) {
        fn key(&self) -> &str {
            &self.0
        }
    }

    #[test]
    fn a_set_of_handles_is_a_map_by_their_keys() {
        let mut set = Keys::default();
        let one = |key: &str, value| ByKey(Arc::new((key.to_owned(), value)));
        assert_eq!(set.replace(one("a", 1)), None);
        assert_eq!(set.replace(one("a", 2)).map(|held| held.0.1), Some(1));
        assert!(set.insert(one("b", 3)));
        assert_eq!(set.get("a").map(|held| held.0.1), Some(2));
        assert_eq!(set.take("b").map(|held| held.0.1), Some(3));
        assert!(!set.contains("b"));
        assert!(one("a", 9) < one("b", 1));
        assert_eq!(size_of::<ByKey<(String, u8)>>(), 8);
    }
}
