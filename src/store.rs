//! The state that the daemon answers for: nodes, instances, checks, pairs, sessions, under one
//! index that only grows.
//!
//! Reads are from memory. A write is one function that reads and puts what it will, all or
//! nothing; it is acknowledged when it is on disk, and no reader is told of it before. What a
//! write has changed goes out as a [`Delta`] under its index, and wakes those who listen to the
//! topics it touched.
//!
//! The index, the stamps of the rows and the deltas are what etcd has as revisions, and a write
//! is a transaction that compares what it has read: what lies above asks for nothing more, so the
//! rows may as well be kept by etcd.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use tokio::sync::{broadcast, watch};

pub mod kv;
pub mod row;
pub mod session;
mod tables;
mod topic;
mod tx;
mod wire;

#[cfg(test)]
mod tests;

pub use self::{
    row::{Index, Key, Row},
    tables::{Change, Tables, folded},
    topic::{Listener, Topic},
    tx::Tx,
};
use self::{topic::Topics, tx::Done};
use crate::clock;

/// Deltas remembered for those who come back.
const HISTORY: usize = 4096;

/// How many deltas a subscriber may lag behind before it must read everything anew.
const SUBSCRIBER_DEPTH: usize = 1024;

/// A write has not been made: it could not be put on disk. The store is as it was before.
#[derive(Debug, Clone)]
pub struct Unwritten(pub Arc<dyn Error + Send + Sync>);

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the change could not be put on disk and has not been made")
    }
}

impl Error for Unwritten {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// What one write has changed.
#[derive(Debug, Clone)]
pub struct Delta {
    /// The store's index after it.
    pub index: Index,
    /// In order.
    pub changes: Vec<Change>,
}

/// Too much has changed since the index asked for: read everything anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the changes since then are not remembered any more")]
pub struct Gone;

/// Deltas from some index on: those that were, and those that will be.
#[derive(Debug)]
pub struct Subscription {
    past: VecDeque<Arc<Delta>>,
    future: broadcast::Receiver<Arc<Delta>>,
}

impl Subscription {
    /// The next delta. `Err` if some were missed: read everything anew and subscribe again.
    pub async fn next(&mut self) -> Result<Arc<Delta>, Gone> {
        match self.past.pop_front() {
            Some(delta) => Ok(delta),
            None => self.future.recv().await.map_err(|_| Gone),
        }
    }
}

/// How far what is in memory is on disk too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settled {
    index: Index,
    /// How often writes had to be taken back.
    reverts: u64,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    tables: RwLock<Tables>,
    topics: Topics,
    settled: watch::Sender<Settled>,
    history: Mutex<VecDeque<Arc<Delta>>>,
    deltas: broadcast::Sender<Arc<Delta>>,
}

impl Store {
    /// An empty store that keeps nothing on disk.
    pub fn in_memory() -> Self {
        Self {
            tables: RwLock::default(),
            topics: Topics::default(),
            settled: watch::Sender::new(Settled { index: 0, reverts: 0 }),
            history: Mutex::default(),
            deltas: broadcast::Sender::new(SUBSCRIBER_DEPTH),
        }
    }

    /// The rows as they are now. Held for as short as can be: writers wait. What is read may not
    /// be on disk yet; before it is told to anybody outside, [`Store::settled`] must have returned
    /// for its index.
    pub fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change: all that `change` puts and deletes, or nothing if it fails. Returns when it
    /// is on disk.
    pub async fn write<T, E: From<Unwritten>>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let value = {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            let mut tx = Tx::new(&mut tables, clock::now());
            match change(&mut tx) {
                Ok(value) => {
                    let done = tx.finish();
                    self.publish(done);
                    value
                }
                Err(error) => {
                    tx.abandon();
                    return Err(error);
                }
            }
        };
        Ok(value)
    }

    /// Waits until everything up to this index is on disk. `false` if writes had to be taken back
    /// meanwhile: what was read must be read again.
    pub async fn settled(&self, index: Index) -> bool {
        let mut settled = self.settled.subscribe();
        let before = settled.borrow_and_update().reverts;
        match settled.wait_for(|now| now.index >= index || now.reverts != before).await {
            Ok(now) => now.reverts == before,
            Err(_) => false,
        }
    }

    /// Listens to topics from now on.
    pub fn listen(&self, topics: &[Topic]) -> Listener {
        self.topics.listen(topics)
    }

    /// The deltas after an index. `Err` if they are not remembered any more.
    pub fn subscribe(&self, after: Index) -> Result<Subscription, Gone> {
        let history = self.history();
        let oldest = history.front().map_or(after, |delta| delta.index.saturating_sub(1));
        let last = history.back().map_or_else(|| self.settled.borrow().index, |d| d.index);
        if after < oldest || after > last {
            return Err(Gone);
        }
        let past = history.iter().filter(|delta| delta.index > after).cloned().collect();
        Ok(Subscription { past, future: self.deltas.subscribe() })
    }

    /// Tells of a change that is on disk.
    fn publish(&self, done: Done) {
        let Done { index, changes, touched } = done;
        if changes.is_empty() {
            return;
        }
        let delta = Arc::new(Delta { index, changes });
        {
            let mut history = self.history();
            history.push_back(Arc::clone(&delta));
            if history.len() > HISTORY {
                history.pop_front();
            }
            // Sent under the lock, so that nobody subscribes between the two. Nobody listening is
            // no fault.
            drop(self.deltas.send(delta));
        }
        self.settled.send_modify(|settled| settled.index = index);
        self.topics.wake(&touched);
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<Arc<Delta>>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
