//! Keys and locks against a model: whatever is done in whatever order, the store answers as the
//! model does, holds what it holds, and its index moves when and only when something changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    clock::Timestamp,
    store::{
        Key, Tables, Tx,
        kv::{Entry, InvalidSession},
        row::{Behavior, Node, Session},
    },
};

const KEYS: &[&str] = &["a", "a/1", "a/2", "b", ""];
const SESSIONS: &[&str] = &["s1", "s2", "s3", ""];

#[derive(Debug, Clone)]
enum Op {
    Set(&'static str, u8),
    Cas(&'static str, u8, u64),
    Acquire(&'static str, u8, &'static str),
    Release(&'static str, u8, &'static str),
    Delete(&'static str),
    DeleteCas(&'static str, u64),
    DeleteTree(&'static str),
    Create(&'static str, Behavior, bool),
    Destroy(&'static str),
}

/// How an operation ended: `None` if it failed for want of a session.
type Answer = Option<bool>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    value: u8,
    session: &'static str,
    lock_index: u64,
    create: u64,
    modify: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    pairs: BTreeMap<&'static str, Held>,
    /// With what becomes of their locks, and whether these are delayed.
    sessions: BTreeMap<&'static str, (Behavior, bool)>,
    delayed: BTreeSet<&'static str>,
}

impl Model {
    fn modify(&self, key: &str) -> u64 {
        self.pairs.get(key).map_or(0, |held| held.modify)
    }

    /// Puts a value, with the lock as it is to be.
    fn put(&mut self, next: u64, key: &'static str, value: u8, lock: Option<(&'static str, u64)>) {
        let new = Held { value, session: "", lock_index: 0, create: next, modify: next };
        let before = self.pairs.get(key).cloned();
        let mut held = before.clone().unwrap_or_else(|| new.clone());
        held.value = value;
        if let Some((session, lock_index)) = lock {
            (held.session, held.lock_index) = (session, lock_index);
        }
        if before.as_ref() != Some(&held) {
            held.modify = next;
        }
        self.pairs.insert(key, held);
    }

    fn acquire(&mut self, next: u64, key: &'static str, value: u8, by: &'static str) -> Answer {
        if !self.sessions.contains_key(by) {
            return None;
        }
        let (holder, count) =
            self.pairs.get(key).map_or(("", 0), |held| (held.session, held.lock_index));
        if self.delayed.contains(key) || !["", by].contains(&holder) {
            return Some(false);
        }
        self.put(next, key, value, Some((by, count + u64::from(holder.is_empty()))));
        Some(true)
    }

    fn release(&mut self, next: u64, key: &'static str, value: u8, by: &str) -> bool {
        match self.pairs.get(key) {
            Some(held) if !by.is_empty() && held.session == by => {
                let lock_index = held.lock_index;
                self.put(next, key, value, Some(("", lock_index)));
                true
            }
            _ => false,
        }
    }

    fn destroy(&mut self, next: u64, id: &str) {
        let Some((behavior, delays)) = self.sessions.remove(id) else { return };
        let held: Vec<_> =
            self.pairs.iter().filter(|(_, held)| held.session == id).map(|(key, _)| *key).collect();
        for key in held {
            if delays {
                self.delayed.insert(key);
            }
            match (behavior, self.pairs.get_mut(key)) {
                (Behavior::Release, Some(held)) => (held.session, held.modify) = ("", next),
                _ => drop(self.pairs.remove(key)),
            }
        }
    }

    fn apply(&mut self, next: u64, op: &Op) -> Answer {
        match *op {
            Op::Set(key, value) => self.put(next, key, value, None),
            Op::Cas(key, value, index) => {
                let is_so = self.modify(key) == index;
                if is_so {
                    self.put(next, key, value, None);
                }
                return Some(is_so);
            }
            Op::Acquire(key, value, by) => return self.acquire(next, key, value, by),
            Op::Release(key, value, by) => return Some(self.release(next, key, value, by)),
            Op::Delete(key) => drop(self.pairs.remove(key)),
            Op::DeleteCas(key, index) => {
                let is_so = !self.pairs.contains_key(key) || self.modify(key) == index;
                if is_so {
                    self.pairs.remove(key);
                }
                return Some(is_so);
            }
            Op::DeleteTree(prefix) => self.pairs.retain(|key, _| !key.starts_with(prefix)),
            Op::Create(id, behavior, delays) => drop(self.sessions.insert(id, (behavior, delays))),
            Op::Destroy(id) => self.destroy(next, id),
        }
        Some(true)
    }
}

fn apply(tx: &mut Tx<'_>, op: &Op) -> Answer {
    let entry = |key: &str, value: u8| Entry { key: key.into(), value: [value].into(), flags: 9 };
    match *op {
        Op::Set(key, value) => tx.set(entry(key, value)),
        Op::Cas(key, value, index) => return Some(tx.cas(entry(key, value), index)),
        Op::Acquire(key, value, by) => match tx.acquire(entry(key, value), by) {
            Ok(done) => return Some(done),
            Err(InvalidSession::Missing) if by.is_empty() => return None,
            Err(error) => {
                let unknown = || InvalidSession::Unknown(by.into());
                let expected = if by.is_empty() { InvalidSession::Missing } else { unknown() };
                assert_eq!(error, expected);
                return None;
            }
        },
        Op::Release(key, value, by) => return Some(tx.release(entry(key, value), by)),
        Op::Delete(key) => {
            tx.delete(Key::Pair(key.into()));
        }
        Op::DeleteCas(key, index) => return Some(tx.delete_cas(key, index)),
        Op::DeleteTree(prefix) => tx.delete_tree(prefix),
        Op::Create(id, behavior, delays) => {
            let lock_delay = if delays { 15_000_000_000 } else { 0 };
            let (id, node) = (id.into(), "n".into());
            tx.create_session(Session { id, node, lock_delay, behavior, ..Session::default() })
                .unwrap();
        }
        Op::Destroy(id) => tx.destroy_session(id),
    }
    Some(true)
}

/// What the tables hold, as the model would hold it.
fn shown(tables: &Tables) -> Model {
    let known = |names: &[&'static str], name: &str| *names.iter().find(|n| **n == name).unwrap();
    let pairs = tables.pairs("").map(|pair| {
        let held = Held {
            value: pair.value[0],
            session: known(SESSIONS, &pair.session),
            lock_index: pair.lock_index,
            create: pair.stamp.create,
            modify: pair.stamp.modify,
        };
        (known(KEYS, &pair.key), held)
    });
    let sessions = tables
        .sessions()
        .map(|session| (known(SESSIONS, &session.id), (session.behavior, session.lock_delay > 0)));
    let delayed = tables.notes("delay/").map(|note| known(KEYS, &note.name["delay/".len()..]));
    Model { pairs: pairs.collect(), sessions: sessions.collect(), delayed: delayed.collect() }
}

fn op() -> impl Strategy<Value = Op> {
    let (key, by) = (|| select(KEYS), || select(SESSIONS));
    let (value, index) = (|| 0..3_u8, || 0..30_u64);
    let behavior = select(vec![Behavior::Release, Behavior::Delete]);
    prop_oneof![
        2 => (key(), value()).prop_map(|(key, value)| Op::Set(key, value)),
        2 => (key(), value(), index()).prop_map(|(key, value, at)| Op::Cas(key, value, at)),
        6 => (key(), value(), by()).prop_map(|(key, value, by)| Op::Acquire(key, value, by)),
        3 => (key(), value(), by()).prop_map(|(key, value, by)| Op::Release(key, value, by)),
        1 => key().prop_map(Op::Delete),
        2 => (key(), index()).prop_map(|(key, at)| Op::DeleteCas(key, at)),
        1 => key().prop_map(Op::DeleteTree),
        3 => (select(&SESSIONS[..3]), behavior, any::<bool>())
            .prop_map(|(id, behavior, delays)| Op::Create(id, behavior, delays)),
        1 => by().prop_map(Op::Destroy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_store_does_as_the_model_does(ops in vec(op(), 1..40)) {
        let mut tables = Tables::default();
        let now = Timestamp::from_seconds(100);
        let mut tx = Tx::new(&mut tables, now);
        tx.put(Node { name: "n".into(), ..Node::default() });
        tx.finish();
        let mut model = Model::default();
        for op in &ops {
            let (before, index) = (model.clone(), tables.index());
            let expected = model.apply(index + 1, op);
            let mut tx = Tx::new(&mut tables, now);
            let answer = apply(&mut tx, op);
            tx.finish();
            prop_assert_eq!(answer, expected, "{:?}", op);
            prop_assert_eq!(&shown(&tables), &model, "{:?}", op);
            for id in SESSIONS.iter().filter(|id| !id.is_empty()) {
                let held = tables.held_by(id).map(|pair| &*pair.key).collect::<Vec<_>>();
                let holds = |held: &Held| held.session == *id;
                let holding = model.pairs.iter().filter(|(_, held)| holds(held));
                prop_assert_eq!(held, holding.map(|(key, _)| *key).collect::<Vec<_>>());
            }
            let changed = before.pairs != model.pairs || before.sessions != model.sessions;
            prop_assert_eq!(tables.index(), index + u64::from(changed), "{:?}", op);
        }
    }
}
