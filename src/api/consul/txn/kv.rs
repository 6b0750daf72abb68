//! Operations on keys within a transaction.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    api::consul::kv::KvPair,
    store::{Tx, kv::Entry, row},
};

/// What is done to a key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Op {
    verb: String,
    key: Arc<str>,
    #[serde(deserialize_with = "base64")]
    value: Arc<[u8]>,
    flags: u64,
    index: u64,
    session: Arc<str>,
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Into::into).map_err(D::Error::custom)
}

impl Op {
    /// Whether it changes nothing, whatever becomes of it.
    pub(super) fn is_read(&self) -> bool {
        matches!(
            &*self.verb,
            "get"
                | "get-or-empty"
                | "get-tree"
                | "check-index"
                | "check-session"
                | "check-not-exists"
        )
    }

    /// Does it; the pairs it gives back, or why it cannot be done.
    pub(super) fn apply(&self, tx: &mut Tx<'_>) -> Result<Vec<KvPair>, String> {
        let verb = &*self.verb;
        if self.key.is_empty() && !matches!(verb, "get-tree" | "delete-tree") {
            return Err("Must provide key".to_owned());
        }
        match verb {
            "set" | "cas" | "lock" | "unlock" => self.put(tx),
            "delete" | "delete-tree" | "delete-cas" => self.delete(tx).map(|()| Vec::new()),
            _ if self.is_read() => self.read(tx),
            _ => Err(format!("unknown KV verb {verb:?}")),
        }
    }

    fn put(&self, tx: &mut Tx<'_>) -> Result<Vec<KvPair>, String> {
        let Self { key, session, .. } = self;
        let entry =
            Entry { key: Arc::clone(key), value: Arc::clone(&self.value), flags: self.flags };
        let (done, failed) = match &*self.verb {
            "cas" => (tx.cas(entry, self.index), format!("set key {key:?}, index is stale")),
            "lock" if tx.delayed_until(key).is_some() => {
                (false, format!("lock key {key:?} due to lock delay"))
            }
            "lock" => {
                let done = tx.acquire(entry, session).map_err(|error| error.to_string())?;
                (done, format!("lock key {key:?}, lock is already held"))
            }
            "unlock" => {
                let why = "lock isn't held, or is held by another session";
                (tx.release(entry, session), format!("unlock key {key:?}, {why}"))
            }
            _ => {
                tx.set(entry);
                (true, String::new())
            }
        };
        if !done {
            return Err(format!("failed to {failed}"));
        }
        Ok(tx.pair(key).map(|pair| KvPair::from(&**pair).without_value()).into_iter().collect())
    }

    fn delete(&self, tx: &mut Tx<'_>) -> Result<(), String> {
        let key = &self.key;
        match &*self.verb {
            "delete-tree" => tx.delete_tree(key),
            "delete-cas" if !tx.delete_cas(key, self.index) => {
                return Err(format!("failed to delete key {key:?}, index is stale"));
            }
            "delete-cas" => {}
            _ => drop(tx.delete(row::Key::Pair(Arc::clone(key)))),
        }
        Ok(())
    }

    fn read(&self, tx: &Tx<'_>) -> Result<Vec<KvPair>, String> {
        let key = &self.key;
        if self.verb == "get-tree" {
            return Ok(tx.pairs(key).map(|pair| KvPair::from(&**pair)).collect());
        }
        match (&*self.verb, tx.pair(key)) {
            ("get" | "get-or-empty", Some(pair)) => Ok(vec![KvPair::from(&**pair)]),
            ("get-or-empty", None) => {
                let empty = row::Pair { key: Arc::clone(key), ..row::Pair::default() };
                Ok(vec![KvPair::from(&empty)])
            }
            ("check-not-exists", None) => Ok(Vec::new()),
            ("check-not-exists", Some(_)) => Err(format!("key {key:?} exists")),
            ("get", None) => Err(format!("key {key:?} doesn't exist")),
            ("check-index", None) => {
                Err(format!("failed to check index, key {key:?} doesn't exist"))
            }
            (_, None) => Err(format!("failed to check session, key {key:?} doesn't exist")),
            ("check-index", Some(pair)) if pair.stamp.modify != self.index => {
                let (at, index) = (pair.stamp.modify, self.index);
                let what = format!("current modify index {at} != {index}");
                Err(format!("failed index check for key {key:?}, {what}"))
            }
            ("check-session", Some(pair)) if pair.session != self.session => {
                let what = format!("current session {:?} != {:?}", pair.session, self.session);
                Err(format!("failed session check for key {key:?}, {what}"))
            }
            (_, Some(pair)) => Ok(vec![KvPair::from(&**pair).without_value()]),
        }
    }
}
