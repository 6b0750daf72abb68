//! Snapshots: a whole state in a file, which makes what was logged before it superfluous.
//!
//! A header, frames as those of a segment, and a footer with the number of payloads. It gets its
//! name only when all of it is on the disk.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tracing::warn;

use super::{
    Directory, Error,
    frame::{Fault, Frame, Reader, u32_at, u64_at},
    segment::{self, Found, HEADER, Header, Kind, UNFINISHED},
};

const END: &[u8; 8] = b"rollcend";
const FOOTER: usize = 20;

/// When a frame is written.
const FRAME: usize = 256 << 10;

/// How much is written between syncs: what is not on the disk yet makes the commits of the log,
/// on the same file system, wait for it.
const SYNC: u64 = 4 << 20;

/// Writes a snapshot. It may be sent to another thread while the log goes on; dropped before
/// [`SnapshotWriter::finish`], it leaves everything as it was.
#[derive(Debug)]
pub struct SnapshotWriter {
    directory: Arc<Directory>,
    header: Header,
    unfinished: PathBuf,
    file: File,
    frame: Frame,
    frames: u64,
    payloads: u64,
    offset: u64,
    synced: u64,
    /// What the log had written when the snapshot was begun, and where it learns of the end.
    began: u64,
    finished: Arc<AtomicU64>,
}

impl SnapshotWriter {
    pub(super) fn create(
        directory: &Arc<Directory>,
        header: Header,
        began: u64,
        finished: &Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let unfinished =
            directory.path.join(format!("{}{UNFINISHED}", header.kind.name(header.sequence)));
        let create = || -> io::Result<File> {
            let file = directory.disk.create(&unfinished)?;
            directory.disk.write(&file, &header.encode(), 0)?;
            Ok(file)
        };
        let file = create().map_err(Error::io("create", &unfinished))?;
        Ok(Self {
            directory: Arc::clone(directory),
            header,
            unfinished,
            file,
            frame: Frame::new(),
            frames: 0,
            payloads: 0,
            offset: HEADER,
            synced: 0,
            began,
            finished: Arc::clone(finished),
        })
    }

    /// Adds a payload; replay hands them out in the same order.
    pub fn put(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.frame.push(0, payload);
        self.payloads += 1;
        if self.frame.body() < FRAME { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let size = self.frame.body();
        let bytes = self.frame.seal(self.frames).ok_or(Error::TooLarge { size })?;
        self.directory
            .disk
            .write(&self.file, bytes, self.offset)
            .map_err(Error::io("write", &self.unfinished))?;
        self.offset += bytes.len() as u64;
        self.frames += 1;
        self.frame.clear();
        if self.offset - self.synced >= SYNC {
            self.synced = self.offset;
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.directory.disk.sync(&self.file).map_err(Error::io("sync", &self.unfinished))
    }

    /// Makes the snapshot the one to start from, and deletes what is older than the one before:
    /// that one is kept with its segments, for when this one turns out damaged.
    ///
    /// After an error the older snapshot is still there; the new one may be there as well.
    pub fn finish(mut self) -> Result<(), Error> {
        if !self.frame.is_empty() {
            self.flush()?;
        }
        let mut footer = END.to_vec();
        footer.extend_from_slice(&self.payloads.to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(&footer).to_le_bytes());
        let Directory { path, handle, disk } = &*self.directory;
        disk.write(&self.file, &footer, self.offset)
            .map_err(Error::io("write", &self.unfinished))?;
        self.sync()?;
        let finished = path.join(self.header.kind.name(self.header.sequence));
        disk.rename(&self.unfinished, &finished)
            .and_then(|()| disk.sync_names(handle))
            .map_err(Error::io("finish", &finished))?;
        self.finished.fetch_max(self.began, Relaxed);
        if let Err(error) = remove_older(&self.directory, self.header.sequence) {
            warn!(error = &error as &dyn std::error::Error, "Old log files not deleted");
        }
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // Nothing depends on it: what is left behind is deleted when the log is next opened.
        drop(fs::remove_file(&self.unfinished));
    }
}

/// Deletes what is older than the snapshot before this one.
fn remove_older(directory: &Directory, sequence: u64) -> Result<(), Error> {
    let snapshots = segment::list(&directory.path, Kind::Snapshot)?;
    let older = snapshots.iter().map(|(found, _)| *found).filter(|found| *found < sequence);
    let Some(previous) = older.max() else { return Ok(()) };
    let segments = segment::list(&directory.path, Kind::Segment)?;
    for (_, path) in snapshots.into_iter().chain(segments).filter(|(found, _)| *found < previous) {
        directory.disk.remove(&path).map_err(Error::io("delete", &path))?;
    }
    Ok(())
}

/// Reads a snapshot from start to end.
pub(super) fn read(
    found: &Found,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Found { path, length, .. } = found;
    let damaged = |offset, what| Error::Damaged { path: path.clone(), offset, what };
    let end = length.saturating_sub(FOOTER as u64);
    let expected = footer(path, end)
        .map_err(Error::io("read", path))?
        .ok_or_else(|| damaged(end, "the snapshot does not end as it should"))?;
    let mut frames = Reader::open(path, HEADER..end, 0).map_err(Error::io("read", path))?;
    let mut payloads = 0;
    loop {
        let offset = frames.offset();
        match frames.next() {
            Ok(Some(records)) => {
                for (_, payload) in records {
                    payloads += 1;
                    each(payload)?;
                }
            }
            Ok(None) if payloads == expected => return Ok(()),
            Ok(None) => return Err(damaged(offset, "the snapshot is not complete")),
            Err(Fault::Io(source)) => return Err(Error::io("read", path)(source)),
            Err(Fault::Bad(what)) => return Err(damaged(offset, what)),
        }
    }
}

/// The number of payloads in the footer; nothing if it is damaged.
fn footer(path: &Path, at: u64) -> io::Result<Option<u64>> {
    let mut bytes = [0; FOOTER];
    match File::open(path)?.read_exact_at(&mut bytes, at) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let good = bytes.starts_with(END) && u32_at(&bytes, 16) == crc32fast::hash(&bytes[..16]);
    Ok(good.then(|| u64_at(&bytes, 8)))
}
