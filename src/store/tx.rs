//! One change of the store: what it reads and what it puts, all or nothing.

use std::{ops::Deref, sync::Arc};

use super::{
    Delta,
    row::{Index, Key, Row, Session, Stamp},
    tables::{Change, Tables},
    topic::Topic,
};
use crate::clock::Timestamp;

/// A change in the making. Reads see what it has put so far.
#[derive(Debug)]
pub struct Tx<'a> {
    tables: &'a mut Tables,
    now: Timestamp,
    changes: Vec<Change>,
    touched: Vec<Topic>,
}

/// What a change did.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) delta: Arc<Delta>,
    pub(super) touched: Vec<Topic>,
}

impl Deref for Tx<'_> {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        self.tables
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(tables: &'a mut Tables, now: Timestamp) -> Self {
        Self { tables, now, changes: Vec::new(), touched: Vec::new() }
    }

    /// The index this change has if it changes anything.
    pub fn next_index(&self) -> Index {
        self.tables.index + 1
    }

    /// When this change is made.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Puts a row in the place of the one with the same key. A row that is the same but for its
    /// stamp changes nothing. Says whether anything changed.
    pub fn put(&mut self, row: impl Into<Row>) -> bool {
        let row = row.into();
        let key = row.key();
        let index = self.next_index();
        let before = self.tables.row(&key);
        let row = match &before {
            Some(before) => {
                let row = row.stamped(before.stamp());
                if *before == row {
                    return false;
                }
                row.stamped(Stamp { create: before.stamp().create, modify: index })
            }
            None => row.stamped(Stamp { create: index, modify: index }),
        };
        self.apply(key, Some(row));
        true
    }

    /// Deletes a row alone; says whether there was one.
    fn remove(&mut self, key: Key) -> bool {
        if self.tables.row(&key).is_none() {
            return false;
        }
        self.apply(key, None);
        true
    }

    /// Deletes a row with all that hangs on it: of a node its instances, checks and coordinates, of an
    /// instance its checks. Says whether there was one.
    pub fn delete(&mut self, key: Key) -> bool {
        match &key {
            Key::Node(name) => {
                let services: Vec<_> =
                    self.each_instance_on(name).map(|s| Arc::clone(&s.id)).collect();
                for id in services {
                    self.delete(Key::Service(Arc::clone(name), id));
                }
                let checks: Vec<_> = self.each_check_on(name).map(|c| Arc::clone(&c.id)).collect();
                for id in checks {
                    self.remove(Key::Check(Arc::clone(name), id));
                }
                let segments: Vec<_> =
                    self.coordinates_of(name).map(|c| Arc::clone(&c.segment)).collect();
                for segment in segments {
                    self.remove(Key::Coordinate(Arc::clone(name), segment));
                }
            }
            Key::Service(node, id) => {
                let checks: Vec<_> =
                    self.instance_checks(node, id).map(|c| Arc::clone(&c.id)).collect();
                for check in checks {
                    self.remove(Key::Check(Arc::clone(node), check));
                }
            }
            Key::Check(..)
            | Key::Pair(_)
            | Key::Session(_)
            | Key::Tombstone(_)
            | Key::Note(_)
            | Key::Coordinate(..) => {}
        }
        self.remove(key)
    }

    fn apply(&mut self, key: Key, after: Option<Row>) {
        let index = self.next_index();
        let is_put = after.is_some();
        let before = self.tables.apply(index, &key, after, &mut self.touched);
        // As it stands there: it shares what it can.
        let after = if is_put { self.tables.row(&key) } else { None };
        self.changes.push(Change { key, before, after });
    }

    /// The sessions that this change has made untenable: their node is gone, or a check they are
    /// bound to is gone or critical.
    fn untenable(&self) -> Vec<Arc<Session>> {
        let bears = |change: &Change| matches!(change.key, Key::Node(_) | Key::Check(..));
        if !self.changes.iter().any(bears) {
            return Vec::new();
        }
        let broken = |session: &&Arc<Session>| {
            let mut checks = session.node_checks.iter().chain(&session.service_checks);
            self.node(&session.node).is_none()
                || checks.any(|id| {
                    self.check(&session.node, id)
                        .is_none_or(|c| c.status == super::row::Health::Critical)
                })
        };
        self.sessions().filter(broken).cloned().collect()
    }

    /// Ends the change: it is kept.
    pub(super) fn finish(mut self) -> Done {
        for session in self.untenable() {
            self.end_session(&session);
        }
        let is_quiet = |change: &Change| matches!(change.key, Key::Note(_) | Key::Tombstone(_));
        if !self.changes.iter().all(is_quiet) {
            self.tables.index += 1;
        }
        let delta = Delta { index: self.tables.index, changes: self.changes };
        Done { delta: Arc::new(delta), touched: self.touched }
    }

    /// Ends the change: it has never been.
    pub(super) fn abandon(self) {
        let Self { tables, changes, .. } = self;
        let index = tables.index;
        tables.revert(index, &changes);
    }
}

impl Tables {
    /// Takes changes back, the last first. Returns the topics touched.
    pub(super) fn revert(&mut self, index: Index, changes: &[Change]) -> Vec<Topic> {
        let mut touched = Vec::new();
        for change in changes.iter().rev() {
            self.apply(index, &change.key, change.before.clone(), &mut touched);
        }
        touched
    }
}
