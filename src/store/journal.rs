//! The thread that puts changes on disk, many at once.
//!
//! Writers leave their changes in the queue, in order, while they hold the tables; the thread
//! takes all that wait, writes them with one sync, and only then are they told of and
//! acknowledged. While it syncs, the next batch gathers. What could not be written is taken back,
//! with everything after it, and its writers are told so.

use std::{
    error::Error,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

use tokio::sync::oneshot;
use tracing::{debug, error};

use super::{
    Store, Unwritten,
    log::{self, Log, SnapshotWriter},
    row::{Index, Row},
    tx::Done,
    wire,
};

/// Bytes of log after which a new snapshot is worth its while at least.
pub(super) const SNAPSHOT_AFTER: u64 = 64 << 20;

/// Rows in one entry of a snapshot.
const SNAPSHOT_ROWS: usize = 1000;

/// Most changes written with one sync: with the largest of values they fit into a batch still.
const BATCH: usize = 256;

/// A change that waits to be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) done: Done,
    pub(super) written: oneshot::Sender<Result<(), Unwritten>>,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: Vec<Entry>,
    is_over: bool,
}

impl Queue {
    /// Leaves a change. To be called while the tables are held, so that changes stay in order.
    /// After the end it is dropped, which tells its writer.
    pub(super) fn push(&self, entry: Entry) {
        let mut waiting = self.lock();
        if !waiting.is_over {
            waiting.entries.push(entry);
            self.called.notify_one();
        }
    }

    /// Puts changes back before all that wait.
    fn put_back(&self, mut entries: Vec<Entry>) {
        let mut waiting = self.lock();
        entries.append(&mut waiting.entries);
        waiting.entries = entries;
        self.called.notify_one();
    }

    /// Lets the thread end when it has written what waits.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.called.notify_one();
    }

    /// Takes all that wait.
    pub(super) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.lock().entries)
    }

    /// Waits for changes and takes them; nothing when there will be none.
    fn wait(&self) -> Option<Vec<Entry>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.entries.is_empty() {
                let some = waiting.entries.len().min(BATCH);
                let rest = waiting.entries.split_off(some);
                return Some(std::mem::replace(&mut waiting.entries, rest));
            }
            if waiting.is_over {
                return None;
            }
            waiting = self.called.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until it is told that no more will come.
pub(super) fn run((store, queue): (&Weak<Store>, &Queue), mut log: Log, least: u64) {
    let mut snapshot: Option<thread::JoinHandle<()>> = None;
    let mut snapshot_after = least;
    while let Some(entries) = queue.wait() {
        let Some(store) = store.upgrade() else { break };
        if let Err((entries, unwritten)) = commit(&store, &mut log, entries) {
            store.take_back(entries, &unwritten);
        }
        let is_idle = snapshot.as_ref().is_none_or(thread::JoinHandle::is_finished);
        if is_idle && log.bytes_since_snapshot() > snapshot_after {
            snapshot_after = least;
            match begin_snapshot(&store, &mut log) {
                Ok(started) => snapshot = Some(started),
                Err(error) => {
                    error!(error = &*error, "Snapshot not begun; the log goes on growing");
                    snapshot_after += log.bytes_since_snapshot();
                }
            }
        }
    }
    if let Some(snapshot) = snapshot {
        // Its failure has been told.
        drop(snapshot.join());
    }
}

/// Puts changes on disk, tells of them and acknowledges them; gives them back if they could not be
/// written.
fn commit(
    store: &Store,
    log: &mut Log,
    entries: Vec<Entry>,
) -> Result<(), (Vec<Entry>, Unwritten)> {
    for entry in &entries {
        log.append(entry.done.index, &wire::encode(&entry.done.changes));
    }
    if let Err(error) = log.commit() {
        error!(error = &error as &dyn Error, "Changes not written");
        return Err((entries, Unwritten(Arc::new(error))));
    }
    for Entry { done, written } in entries {
        store.publish(done);
        // Whoever wrote may have gone away.
        drop(written.send(Ok(())));
    }
    Ok(())
}

/// Begins a snapshot of what is on disk now; a thread of its own writes it.
fn begin_snapshot(
    store: &Store,
    log: &mut Log,
) -> Result<thread::JoinHandle<()>, Box<dyn Error + Send + Sync>> {
    let (writer, rows, index) = {
        // While the tables are held nobody changes them: what waits is all that is not on disk.
        let tables = store.read();
        if let Err((entries, unwritten)) = commit(store, log, store.queue.take()) {
            store.queue.put_back(entries);
            return Err(unwritten.into());
        }
        (log.begin_snapshot()?, tables.rows(), tables.index())
    };
    let written = move || {
        let count = rows.len();
        match write_snapshot(writer, &rows, index) {
            Ok(()) => debug!(rows = count, index, "Snapshot written"),
            Err(error) => {
                error!(
                    error = &error as &dyn Error,
                    "Snapshot not written; the log goes on growing"
                );
            }
        }
    };
    Ok(thread::Builder::new().name("snapshot".to_owned()).spawn(written)?)
}

fn write_snapshot(
    mut writer: SnapshotWriter,
    rows: &[Row],
    index: Index,
) -> Result<(), log::Error> {
    writer.put(&wire::encode_index(index))?;
    for some in rows.chunks(SNAPSHOT_ROWS) {
        writer.put(&wire::encode_rows(some))?;
    }
    writer.finish()
}
