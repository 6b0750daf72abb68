//! Keys with values, and the locks on them.
//!
//! A lock is a pair with a session in it: whoever holds it has acquired the key with that session.
//! What fails changes nothing and says `false`.

use std::sync::Arc;

use super::{
    row::{Index, Key, Pair, Stamp},
    tx::Tx,
};

/// What is to be put under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The value.
    pub value: Arc<[u8]>,
    /// The client's own.
    pub flags: u64,
}

/// Nothing can be acquired with a session that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSession {
    /// None is named.
    #[error("missing session")]
    Missing,
    /// There is none of this id.
    #[error("invalid session {0:?}")]
    Unknown(Arc<str>),
}

impl Tx<'_> {
    /// Puts a value under a key, whoever holds it.
    pub fn set(&mut self, entry: Entry) {
        let now = self.pair_or_new(&entry.key);
        self.put(Pair { value: entry.value, flags: entry.flags, ..now });
    }

    /// The same if the key was last changed at `index`; with 0, if it is not there.
    pub fn cas(&mut self, entry: Entry, index: Index) -> bool {
        let is_so = self.modified_at(&entry.key) == index;
        if is_so {
            self.set(entry);
        }
        is_so
    }

    /// Acquires a key for a session, unless another one holds it or a lock-delay is on it.
    pub fn acquire(&mut self, entry: Entry, session: &str) -> Result<bool, InvalidSession> {
        let Some(session) = self.session(session) else {
            return Err(match session {
                "" => InvalidSession::Missing,
                unknown => InvalidSession::Unknown(unknown.into()),
            });
        };
        let session = Arc::clone(&session.id);
        if self.delayed_until(&entry.key).is_some() {
            return Ok(false);
        }
        let now = self.pair_or_new(&entry.key);
        let lock_index = match &*now.session {
            "" => now.lock_index + 1,
            holder if *holder == *session => now.lock_index,
            _ => return Ok(false),
        };
        self.put(Pair { value: entry.value, flags: entry.flags, session, lock_index, ..now });
        Ok(true)
    }

    /// Releases a key that this session holds.
    pub fn release(&mut self, entry: Entry, session: &str) -> bool {
        let holds = |pair: &&Arc<Pair>| !session.is_empty() && *pair.session == *session;
        let Some(held) = self.pair(&entry.key).filter(holds) else { return false };
        let now = Pair::clone(held);
        self.put(Pair { value: entry.value, flags: entry.flags, session: "".into(), ..now });
        true
    }

    /// Deletes a key if it was last changed at `index`, or if it is not there.
    pub fn delete_cas(&mut self, key: &str, index: Index) -> bool {
        let Some(pair) = self.pair(key) else { return true };
        let is_so = pair.stamp.modify == index;
        if is_so {
            self.delete(Key::Pair(key.into()));
        }
        is_so
    }

    /// Deletes all keys that begin so.
    pub fn delete_tree(&mut self, prefix: &str) {
        let keys: Vec<_> = self.pairs(prefix).map(|pair| Arc::clone(&pair.key)).collect();
        for key in keys {
            self.delete(Key::Pair(key));
        }
    }

    fn pair_or_new(&self, key: &Arc<str>) -> Pair {
        let new = || Pair { key: Arc::clone(key), stamp: Stamp::default(), ..Pair::default() };
        self.pair(key).map_or_else(new, |pair| Pair::clone(pair))
    }

    /// The change that changed a key last; 0 if it is not there.
    fn modified_at(&self, key: &str) -> Index {
        self.pair(key).map_or(0, |pair| pair.stamp.modify)
    }
}
