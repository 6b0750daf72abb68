//! Rows of any kind, and how they are named.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Check, Coordinate, Node, Note, Pair, Service, Session, Stamp, Tombstone};

/// Names a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// A node by its name.
    Node(Arc<str>),
    /// An instance by its node and id.
    Service(Arc<str>, Arc<str>),
    /// A check by its node and id.
    Check(Arc<str>, Arc<str>),
    /// A pair by its key.
    Pair(Arc<str>),
    /// A session by its id.
    Session(Arc<str>),
    /// A deregistered instance by its id.
    Tombstone(Arc<str>),
    /// A note by its name.
    Note(Arc<str>),
    /// Where a node is, by the node and a network segment.
    Coordinate(Arc<str>, Arc<str>),
}

/// A row of any kind, shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Row {
    /// A machine.
    Node(Arc<Node>),
    /// An instance.
    Service(Arc<Service>),
    /// A check.
    Check(Arc<Check>),
    /// A key with its value.
    Pair(Arc<Pair>),
    /// A lease.
    Session(Arc<Session>),
    /// A deregistered instance.
    Tombstone(Arc<Tombstone>),
    /// A fact of the daemon's own.
    Note(Arc<Note>),
    /// Where a node is.
    Coordinate(Arc<Coordinate>),
}

macro_rules! each {
    ($row:expr, $bound:ident => $body:expr) => {
        match $row {
            Row::Node($bound) => $body,
            Row::Service($bound) => $body,
            Row::Check($bound) => $body,
            Row::Pair($bound) => $body,
            Row::Session($bound) => $body,
            Row::Tombstone($bound) => $body,
            Row::Note($bound) => $body,
            Row::Coordinate($bound) => $body,
        }
    };
}

impl Row {
    /// Its name.
    pub fn key(&self) -> Key {
        match self {
            Self::Node(row) => Key::Node(Arc::clone(&row.name)),
            Self::Service(row) => Key::Service(Arc::clone(&row.node), Arc::clone(&row.id)),
            Self::Check(row) => Key::Check(Arc::clone(&row.node), Arc::clone(&row.id)),
            Self::Pair(row) => Key::Pair(Arc::clone(&row.key)),
            Self::Session(row) => Key::Session(Arc::clone(&row.id)),
            Self::Tombstone(row) => Key::Tombstone(Arc::clone(&row.service.id)),
            Self::Note(row) => Key::Note(Arc::clone(&row.name)),
            Self::Coordinate(row) => {
                Key::Coordinate(Arc::clone(&row.node), Arc::clone(&row.segment))
            }
        }
    }

    /// When it was made and last changed.
    pub fn stamp(&self) -> Stamp {
        each!(self, row => row.stamp)
    }

    /// The same row made and changed at other times.
    #[must_use]
    pub fn stamped(mut self, stamp: Stamp) -> Self {
        each!(&mut self, row => Arc::make_mut(row).stamp = stamp);
        self
    }
}

macro_rules! into_row {
    ($($kind:ident),+) => {
        $(impl From<$kind> for Row {
            fn from(row: $kind) -> Self {
                Self::$kind(Arc::new(row))
            }
        })+
    };
}

into_row!(Node, Service, Check, Pair, Session, Tombstone, Note, Coordinate);
