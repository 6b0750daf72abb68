//! A list that most often holds one.

use std::{mem, ops::Deref, slice};

/// A list that most often holds nothing or one, which then costs no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Few<T> {
    /// Nothing.
    #[default]
    None,
    /// One.
    One(T),
    /// More than one, or less after some have gone.
    Many(Box<Vec<T>>),
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(one) => slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl<T> Few<T> {
    /// Puts one where it belongs by a key, in place of the one that has this key already.
    pub fn put<K: Ord + ?Sized>(&mut self, one: T, key: impl Fn(&T) -> &K) {
        let place = self.binary_search_by(|held| key(held).cmp(key(&one)));
        match (place, &mut *self) {
            (_, Self::None) => *self = Self::One(one),
            (Ok(place), Self::Many(many)) => many[place] = one,
            (Err(place), Self::Many(many)) => many.insert(place, one),
            (Ok(_), Self::One(held)) => *held = one,
            (Err(place), Self::One(_)) => {
                let Self::One(held) = mem::take(self) else { return };
                let mut both = vec![held];
                both.insert(place, one);
                *self = Self::Many(Box::new(both));
            }
        }
    }

    /// Keeps those alone that this is true of.
    pub fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        match self {
            Self::None => {}
            Self::One(one) => {
                let mut is_kept = is_kept;
                if !is_kept(one) {
                    *self = Self::None;
                }
            }
            Self::Many(many) => {
                many.retain(is_kept);
                if many.len() < 2 {
                    *self = many.pop().map_or(Self::None, Self::One);
                }
            }
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut all: Vec<T>) -> Self {
        if all.len() < 2 {
            return all.pop().map_or(Self::None, Self::One);
        }
        all.shrink_to_fit();
        Self::Many(Box::new(all))
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn of(texts: &[&str]) -> Few<String> {
        let mut few = Few::default();
        for text in texts {
            few.put((*text).to_owned(), String::as_str);
        }
        few
    }

    #[test]
    fn it_keeps_its_order_whatever_comes_first() {
        assert_eq!(*of(&["b", "a", "c", "a"]), ["a", "b", "c"]);
        assert_eq!(*of(&["a", "b", "b"]), ["a", "b"]);
        assert_eq!(*of(&["b", "b"]), ["b"]);
        assert_eq!(*of(&[]), [""; 0]);
    }

    #[test]
    fn what_goes_leaves_one_or_none_without_an_allocation() {
        let mut few = of(&["a", "b", "c"]);
        few.retain(|text| text == "b");
        assert_eq!(few, Few::One("b".to_owned()));
        few.retain(|_| true);
        assert_eq!(few, of(&["b"]));
        few.retain(|_| false);
        assert!(matches!(few, Few::None) && few.is_empty());
        let mut many = of(&["a", "b"]);
        many.retain(|_| false);
        assert_eq!(many, Few::None);
    }

    #[test]
    fn a_list_becomes_the_same() {
        for texts in [&[][..], &["a"], &["a", "b"]] {
            let list: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(Few::from(list), of(texts));
        }
    }

    #[test]
    fn it_takes_two_words() {
        assert_eq!(size_of::<Few<Arc<u8>>>(), 16);
    }
}
