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
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tracing::{debug, error};

use super::{
    Delta, Store, Unwritten,
    log::{self, Log, SnapshotWriter},
    row::{Index, Row},
    topic::Topic,
    tx::Done,
    wire, with_causes,
};

/// Bytes of log after which a new snapshot is worth its while at least.
pub(super) const SNAPSHOT_AFTER: u64 = 64 << 20;

/// Rows in one entry of a snapshot.
const SNAPSHOT_ROWS: usize = 1000;

/// Most changes written with one sync: with the largest of values they fit into a batch still.
const BATCH: usize = 256;

/// So many changes in one batch say that many write at once.
const MANY: usize = 8;

/// How long those who write at once are given at most to join the next batch, and never longer than the
/// last sync took: a sync costs the same for few, and `PostgreSQL` has `commit_delay` for this. Few who
/// write do not wait so.
const GATHER: Duration = Duration::from_micros(200);

/// Most bytes of room kept for the next change to be written in.
const MAX_ROOM: usize = 1 << 20;

/// A change that waits to be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) done: Done,
    pub(super) written: oneshot::Sender<Result<Leftovers, Unwritten>>,
}

/// What is of no more use once a change is on disk and told of. The writer drops it, on the thread
/// that has made such things: allocators take a lock to free what another thread's part of the heap
/// holds, and this thread would wait for writers, and they for it, with every change.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub(super) touched: Vec<Topic>,
    #[expect(dead_code, reason = "dropped is all it is")]
    pub(super) forgotten: Option<Arc<Delta>>,
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
    /// Whether the thread sleeps: only then is there anybody to wake, which takes a system call.
    is_idle: bool,
}

impl Waiting {
    fn fill(&mut self, batch: &mut Vec<Entry>) {
        let some = self.entries.len().min(BATCH.saturating_sub(batch.len()));
        batch.extend(self.entries.drain(..some));
    }
}

impl Queue {
    /// Leaves a change. To be called while the tables are held, so that changes stay in order.
    /// After the end it is dropped, which tells its writer.
    pub(super) fn push(&self, entry: Entry) {
        let mut waiting = self.lock();
        if !waiting.is_over {
            waiting.entries.push(entry);
            self.wake(waiting);
        }
    }

    /// Puts changes back before all that wait.
    fn put_back(&self, entries: &mut Vec<Entry>) {
        self.lock().entries.splice(..0, entries.drain(..));
    }

    /// Lets the thread end when it has written what waits.
    pub(super) fn end(&self) {
        let mut waiting = self.lock();
        waiting.is_over = true;
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let is_idle = std::mem::take(&mut waiting.is_idle);
        drop(waiting);
        if is_idle {
            self.called.notify_one();
        }
    }

    /// Takes all that wait.
    pub(super) fn take(&self, into: &mut Vec<Entry>) {
        into.append(&mut self.lock().entries);
    }

    /// Takes of what waits as many as make a batch.
    fn fill(&self, batch: &mut Vec<Entry>) {
        self.lock().fill(batch);
    }

    /// Waits for changes and takes them; `false` when there will be none.
    fn wait(&self, into: &mut Vec<Entry>) -> bool {
        let mut waiting = self.lock();
        loop {
            if !waiting.entries.is_empty() {
                waiting.fill(into);
                return true;
            }
            if waiting.is_over {
                return false;
            }
            waiting.is_idle = true;
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
    let mut batch = Batch::default();
    while queue.wait(&mut batch.entries) {
        if !batch.gather.is_zero() && batch.entries.len() < BATCH {
            thread::sleep(batch.gather);
            queue.fill(&mut batch.entries);
        }
        let Some(store) = store.upgrade() else { break };
        if let Err(unwritten) = batch.commit(&store, &mut log) {
            store.take_back(&mut batch.entries, &unwritten);
        }
        store.counts.log_is(log.bytes_since_snapshot());
        let is_idle = snapshot.as_ref().is_none_or(thread::JoinHandle::is_finished);
        if is_idle && log.bytes_since_snapshot() > snapshot_after {
            snapshot_after = least;
            match begin_snapshot(&store, &mut log, &mut batch) {
                Ok(started) => snapshot = Some(started),
                Err(error) => {
                    store.counts.snapshot(false);
                    error!(
                        error = with_causes(&*error),
                        "Snapshot not begun; the log goes on growing"
                    );
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

/// Changes that are written together, and room to write them in.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// How long more of them are waited for the next time.
    gather: Duration,
}

impl Batch {
    /// Puts the changes on disk, tells of them and acknowledges them; keeps them if they could not
    /// be written.
    fn commit(&mut self, store: &Store, log: &mut Log) -> Result<(), Unwritten> {
        if self.entries.is_empty() {
            return Ok(());
        }
        for Entry { done, .. } in &self.entries {
            wire::encode(&done.delta.changes, &mut self.bytes);
            log.append(done.delta.index, &self.bytes);
        }
        self.bytes.clear();
        self.bytes.shrink_to(MAX_ROOM);
        let started = Instant::now();
        if let Err(error) = log.commit() {
            store.counts.failed();
            let unwritten = Unwritten(Arc::new(error));
            error!(error = unwritten.cause(), "Changes not written");
            return Err(unwritten);
        }
        let took = started.elapsed();
        store.counts.committed(took);
        let are_many = self.entries.len() >= MANY;
        self.gather = if are_many { took.min(GATHER) } else { Duration::ZERO };
        let (done, writers): (Vec<_>, Vec<_>) =
            self.entries.drain(..).map(|Entry { done, written }| (done, written)).unzip();
        for (leftovers, written) in store.publish(done).into_iter().zip(writers) {
            // Whoever wrote may have gone away.
            drop(written.send(Ok(leftovers)));
        }
        Ok(())
    }
}

/// Begins a snapshot of what is on disk now; a thread of its own writes it.
fn begin_snapshot(
    store: &Store,
    log: &mut Log,
    batch: &mut Batch,
) -> Result<thread::JoinHandle<()>, Box<dyn Error + Send + Sync>> {
    let (writer, rows, index) = {
        // While the tables are held nobody changes them: what waits is all that is not on disk.
        let tables = store.read();
        store.queue.take(&mut batch.entries);
        if let Err(unwritten) = batch.commit(store, log) {
            store.queue.put_back(&mut batch.entries);
            return Err(unwritten.into());
        }
        (log.begin_snapshot()?, tables.rows(), tables.index())
    };
    let counts = Arc::clone(&store.counts);
    let written = move || {
        let count = rows.len();
        let result = write_snapshot(writer, &rows, index);
        counts.snapshot(result.is_ok());
        match result {
            Ok(()) => debug!(rows = count, index, "Snapshot written"),
            Err(error) => {
                error!(
                    error = with_causes(&error),
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
    let mut bytes = Vec::new();
    wire::encode_index(index, &mut bytes);
    writer.put(&bytes)?;
    for some in rows.chunks(SNAPSHOT_ROWS) {
        wire::encode_rows(some, &mut bytes);
        writer.put(&bytes)?;
    }
    writer.finish()
}
