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
    future::Future,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    thread,
};

use tokio::sync::{broadcast, oneshot, watch};

mod counts;
mod history;
mod journal;
pub mod kv;
pub mod log;
mod replay;
pub mod row;
pub mod session;
mod tables;
mod topic;
mod tx;
mod wire;

#[cfg(test)]
mod tests;

use self::{
    counts::Counts,
    history::History,
    journal::{Leftovers, Queue},
    topic::Topics,
    tx::Done,
};
pub use self::{
    counts::{COMMIT_BUCKETS, Commits, Totals},
    row::{Index, Key, Row},
    tables::{Change, Rows, Seen, Tables, folded},
    topic::{Listener, Topic},
    tx::Tx,
};
use crate::clock;

/// A store begins with this index at least, as Consul's do.
const FIRST_INDEX: Index = 10;

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

impl Unwritten {
    /// Why, for people.
    pub fn cause(&self) -> String {
        with_causes(&*self.0)
    }
}

/// An error with all that has caused it, for people.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |error| (*error).source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The store is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is closed")]
pub struct Closed;

/// A change that this one rests on could not be put on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what it rests on could not be put on disk")]
pub struct TakenBack;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its files cannot be used.
    #[error("cannot open the store")]
    Log(#[from] log::Error),
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes the store")]
    Thread(#[source] io::Error),
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
    history: Mutex<History>,
    deltas: broadcast::Sender<Arc<Delta>>,
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    /// Whether changes are put on disk.
    is_durable: bool,
    /// Whether no change can be written.
    #[cfg(test)]
    is_failing: std::sync::atomic::AtomicBool,
}

/// Keeps the store on disk. Dropped, it lets the store be written to no more and waits until what
/// was written is on disk.
#[derive(Debug)]
pub struct Keeper {
    queue: Arc<Queue>,
    thread: Option<thread::JoinHandle<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Keeper {
    /// Resolves when the store can be written to no more, which must not be while this is held.
    /// Can be asked once.
    pub fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        let ended = self.ended.take();
        async move {
            match ended {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.queue.end();
        if let Some(thread) = self.thread.take() {
            // It has said why if it panicked.
            drop(thread.join());
        }
    }
}

impl Store {
    /// An empty store that keeps nothing on disk.
    pub fn in_memory() -> Self {
        Self::of(Tables::default(), false)
    }

    /// Opens the store in a directory, made if it is absent, and starts the thread that writes.
    pub fn open(directory: &Path) -> Result<(Arc<Self>, Keeper), OpenError> {
        let (log, tables) =
            replay::open(|each| log::open(directory, log::Options::default(), each))?;
        Self::on(log, tables, journal::SNAPSHOT_AFTER)
    }

    /// The store that a log has led to.
    fn on(
        log: log::Log,
        mut tables: Tables,
        snapshot_after: u64,
    ) -> Result<(Arc<Self>, Keeper), OpenError> {
        // Some clients take small indexes for none at all.
        tables.index = tables.index.max(FIRST_INDEX);
        tables.forget_history();
        let store = Arc::new(Self::of(tables, true));
        store.counts.log_is(log.bytes_since_snapshot());
        let (queue, weak) = (Arc::clone(&store.queue), Arc::downgrade(&store));
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            // Dropped also by a panic, which tells who waits for the end.
            let _end: oneshot::Sender<()> = end;
            journal::run((&weak, &queue), log, snapshot_after);
        });
        let keeper = Keeper {
            queue: Arc::clone(&store.queue),
            thread: Some(thread.map_err(OpenError::Thread)?),
            ended: Some(ended),
        };
        Ok((store, keeper))
    }

    fn of(tables: Tables, is_durable: bool) -> Self {
        Self {
            settled: watch::Sender::new(Settled { index: tables.index(), reverts: 0 }),
            tables: RwLock::new(tables),
            topics: Topics::default(),
            history: Mutex::default(),
            deltas: broadcast::Sender::new(SUBSCRIBER_DEPTH),
            queue: Arc::default(),
            counts: Arc::default(),
            is_durable,
            #[cfg(test)]
            is_failing: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Lets every write fail from now on, or none.
    #[cfg(test)]
    pub(crate) fn fail(&self, is_failing: bool) {
        self.is_failing.store(is_failing, std::sync::atomic::Ordering::Relaxed);
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
        let (value, written) = {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            let mut tx = Tx::new(&mut tables, clock::now());
            match change(&mut tx) {
                #[cfg(test)]
                Ok(_) if self.is_failing.load(std::sync::atomic::Ordering::Relaxed) => {
                    tx.abandon();
                    return Err(Unwritten(Arc::new(Closed)).into());
                }
                Ok(value) => (value, self.enter(tx.finish())),
                Err(error) => {
                    tx.abandon();
                    return Err(error);
                }
            }
        };
        match written {
            None if !self.is_durable => Ok(value),
            None => {
                // What it saw, and left as it was, may be on its way to the disk still.
                let seen = self.read().seen();
                if self.settled(seen).await {
                    return Ok(value);
                }
                Err(Unwritten(Arc::new(TakenBack)).into())
            }
            Some(written) => match written.await {
                Ok(Ok(leftovers)) => {
                    drop(leftovers);
                    Ok(value)
                }
                Ok(Err(unwritten)) => Err(unwritten.into()),
                Err(_) => Err(Unwritten(Arc::new(Closed)).into()),
            },
        }
    }

    /// Has a change written. Nothing if that has been done. To be called while the tables are held.
    fn enter(&self, done: Done) -> Option<oneshot::Receiver<Result<Leftovers, Unwritten>>> {
        if done.delta.changes.is_empty() {
            return None;
        }
        if !self.is_durable {
            drop(self.publish(vec![done]));
            return None;
        }
        let (written, result) = oneshot::channel();
        self.queue.push(journal::Entry { done, written });
        Some(result)
    }

    /// Takes changes back that could not be written, with all that came after them.
    fn take_back(&self, entries: &mut Vec<journal::Entry>, unwritten: &Unwritten) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        self.queue.take(entries);
        let index = self.settled.borrow().index;
        let mut touched = Vec::new();
        for entry in entries.iter().rev() {
            touched.append(&mut tables.revert(index, &entry.done.delta.changes));
        }
        // Nobody has been told of the indexes they had.
        tables.index = index;
        tables.reverts += 1;
        let reverts = tables.reverts;
        self.settled.send_modify(|settled| settled.reverts = reverts);
        drop(tables);
        self.topics.wake(&touched);
        for entry in entries.drain(..) {
            // Whoever wrote may have gone away.
            drop(entry.written.send(Err(unwritten.clone())));
        }
    }

    /// Waits until what was seen is on disk. `false` if writes had to be taken back since: what was
    /// read must be read again.
    pub async fn settled(&self, seen: Seen) -> bool {
        let mut settled = self.settled.subscribe();
        let is_decided = |now: &Settled| now.index >= seen.index || now.reverts != seen.reverts;
        match settled.wait_for(is_decided).await {
            Ok(now) => now.reverts == seen.reverts,
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
        let last = self.settled.borrow().index;
        let past = history.after(after, last).ok_or(Gone)?;
        Ok(Subscription { past, future: self.deltas.subscribe() })
    }

    /// The deltas from now on.
    pub fn subscribe_now(&self) -> Subscription {
        Subscription { past: VecDeque::new(), future: self.deltas.subscribe() }
    }

    /// Tells of changes that are on disk, in order. Returns what is left of each.
    fn publish(&self, batch: Vec<Done>) -> Vec<Leftovers> {
        let Some(last) = batch.last().map(|done| done.delta.index) else { return Vec::new() };
        let leftovers: Vec<_> = {
            let mut history = self.history();
            let tell = |Done { delta, touched }| {
                let forgotten = history.push(Arc::clone(&delta));
                // Sent under the lock, so that nobody subscribes between the two. Nobody listening
                // is no fault.
                drop(self.deltas.send(delta));
                Leftovers { touched, forgotten }
            };
            batch.into_iter().map(tell).collect()
        };
        self.settled.send_modify(|settled| settled.index = last);
        self.counts.changed(leftovers.len() as u64);
        self.topics.wake(leftovers.iter().flat_map(|left| &left.touched));
        leftovers
    }

    /// What has been done so far.
    pub fn totals(&self) -> Totals {
        self.counts.totals()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
