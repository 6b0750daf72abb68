//! Reading a log back: which files count, and where the last one ends.
//!
//! Nothing is changed on the disk before all that counts has been read and found good.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
};

use tracing::error;

use super::{
    Directory, Entry, Error,
    frame::{Fault, Reader},
    segment::{self, Found, HEADER, Header, Kind, Listed},
    snapshot,
};

/// Takes in what is replayed.
pub(super) type Replay<'a> = &'a mut dyn FnMut(Entry<'_>) -> Result<(), String>;

/// Where the log goes on.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) header: Header,
    /// Where the last segment ends, whatever stands after that.
    pub(super) length: u64,
    /// Up to where there are zeros after that.
    pub(super) room: u64,
    /// The number of the next batch.
    pub(super) number: u64,
    /// The last segment, ready to be written to; nothing if there is no segment.
    pub(super) file: Option<File>,
    /// Bytes of the batches that were replayed.
    pub(super) replayed: u64,
}

/// The header of the very first segment.
const FIRST: Header = Header { kind: Kind::Segment, sequence: 1, previous: 0, number: 0 };

/// The files that count.
struct Plan {
    snapshot: Option<Found>,
    segments: Vec<Found>,
}

/// Replays the log of a directory and makes it ready to be written to.
pub(super) fn replay(directory: &Directory, replay: Replay<'_>) -> Result<Tail, Error> {
    let Some(plan) = plan(directory)? else {
        remove_unfinished(directory)?;
        return Ok(Tail {
            header: FIRST,
            length: HEADER,
            room: HEADER,
            number: 0,
            file: None,
            replayed: 0,
        });
    };
    if let Some(found) = &plan.snapshot {
        snapshot::read(found, &mut |payload| {
            replay(Entry::Snapshot(payload))
                .map_err(|what| Error::Replay { path: found.path.clone(), what })
        })?;
    }
    let mut replayed = 0;
    let mut read = Read { last: None, end: HEADER, number: 0, torn: false };
    for (at, found) in plan.segments.iter().enumerate() {
        read = read_segment(found, plan.segments.get(at + 1), replay)?;
        replayed += read.end - HEADER;
    }
    let Some(last) = plan.segments.last() else { return Err(missing(directory, 1)) };
    let file = repair(directory, last, &read)?;
    remove_unfinished(directory)?;
    Ok(Tail {
        header: last.header,
        length: read.end,
        room: if read.torn { read.end } else { last.length },
        number: read.number,
        file: Some(file),
        replayed,
    })
}

fn missing(directory: &Directory, sequence: u64) -> Error {
    let path = directory.path.join(Kind::Segment.name(sequence));
    Error::Damaged { path, offset: 0, what: "the file is missing" }
}

/// Chooses the newest good snapshot and all segments after it; nothing if there is no log.
fn plan(directory: &Directory) -> Result<Option<Plan>, Error> {
    let segments = refuse(segment::find(&directory.path, Kind::Segment)?)?;
    let snapshots = refuse(segment::find(&directory.path, Kind::Snapshot)?)?;
    if segments.is_empty() && snapshots.is_empty() {
        return Ok(None);
    }
    let mut damage = None;
    for (_, found) in snapshots.into_iter().rev() {
        match found.and_then(|found| snapshot::read(&found, &mut |_| Ok(())).map(|()| found)) {
            Ok(found) => {
                let Header { sequence, number, .. } = found.header;
                let chosen = chain(directory, segments, sequence, number);
                return match (chosen, damage) {
                    (Ok(segments), _) => Ok(Some(Plan { snapshot: Some(found), segments })),
                    (Err(_), Some(damage)) | (Err(damage), None) => Err(damage),
                };
            }
            Err(problem @ Error::Io { .. }) => return Err(problem),
            Err(problem) => {
                error!(
                    error = &problem as &dyn std::error::Error,
                    "Snapshot damaged, the one before is used"
                );
                damage.get_or_insert(problem);
            }
        }
    }
    // Before the first snapshot, and until the second one is there, the segments are complete.
    match (chain(directory, segments, FIRST.sequence, FIRST.number), damage) {
        (Ok(segments), _) => Ok(Some(Plan { snapshot: None, segments })),
        (Err(_), Some(damage)) | (Err(damage), None) => Err(damage),
    }
}

/// Fails if a file cannot be read, or is of a newer format.
fn refuse(listed: Vec<Listed>) -> Result<Vec<Listed>, Error> {
    let keep = |(sequence, found)| match found {
        Err(fatal @ (Error::Newer { .. } | Error::Io { .. })) => Err(fatal),
        found => Ok((sequence, found)),
    };
    listed.into_iter().map(keep).collect()
}

/// The segments from one on, none missing and all with good headers.
fn chain(
    directory: &Directory,
    segments: Vec<Listed>,
    first: u64,
    number: u64,
) -> Result<Vec<Found>, Error> {
    let mut chosen = Vec::new();
    for (sequence, found) in segments.into_iter().filter(|(sequence, _)| *sequence >= first) {
        let expected = first + chosen.len() as u64;
        if sequence != expected {
            return Err(missing(directory, expected));
        }
        chosen.push(found?);
    }
    match chosen.first() {
        None => Err(missing(directory, first)),
        Some(found) if found.header.number == number => Ok(chosen),
        Some(found) => Err(Error::Damaged {
            path: found.path.clone(),
            offset: 0,
            what: "the segment does not follow the snapshot",
        }),
    }
}

/// What was found in a segment.
struct Read {
    /// Where its last batch stands.
    last: Option<Range<u64>>,
    /// Where its good batches end.
    end: u64,
    /// The number of the batch after them.
    number: u64,
    /// Whether an unfinished write stands after them.
    torn: bool,
}

fn read_segment(found: &Found, next: Option<&Found>, replay: Replay<'_>) -> Result<Read, Error> {
    let Found { path, header, length } = found;
    let damaged = |offset, what| Err(Error::Damaged { path: path.clone(), offset, what });
    let end = match next {
        Some(next) => next.header.previous,
        None => segment::end_of_data(path).map_err(Error::io("read", path))?,
    };
    if end < HEADER || end > *length {
        return damaged(*length, "the segment does not end where the next one says");
    }
    let mut frames =
        Reader::open(path, HEADER..end, header.number).map_err(Error::io("read", path))?;
    let mut last = None;
    let torn = loop {
        let offset = frames.offset();
        match frames.next() {
            Ok(Some(records)) => {
                for (index, payload) in records {
                    replay(Entry::Record { index, payload })
                        .map_err(|what| Error::Replay { path: path.clone(), what })?;
                }
            }
            Ok(None) => break false,
            Err(Fault::Io(source)) => return Err(Error::io("read", path)(source)),
            Err(Fault::Bad(what)) if next.is_some() => return damaged(offset, what),
            Err(Fault::Bad(what)) => {
                let (number, torn) = (frames.number(), frames.stops_torn());
                if torn.map_err(Error::io("read", path))? {
                    return Ok(Read { last, end: offset, number, torn: true });
                }
                return damaged(offset, what);
            }
        }
        last = Some(offset..frames.offset());
    };
    let number = frames.number();
    if next.is_some_and(|next| next.header.number != number) {
        return damaged(end, "the next segment does not follow this one");
    }
    Ok(Read { last, end, number, torn })
}

/// Makes what was read of the last segment durable, and nothing else stand in it.
fn repair(directory: &Directory, found: &Found, read: &Read) -> Result<File, Error> {
    let disk = &directory.disk;
    let repair = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(&found.path)?;
        if read.torn {
            disk.truncate(&file, read.end)?;
        } else if let Some(last) = &read.last {
            // The process before this one may have ended between writing and syncing it, or after
            // a sync that failed: then it is in memory only, and just a new write makes it dirty.
            let mut bytes = vec![0; usize::try_from(last.end - last.start).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, last.start)?;
            disk.write(&file, &bytes, last.start)?;
            disk.sync(&file)?;
        }
        disk.sync_names(&directory.handle)?;
        Ok(file)
    };
    repair().map_err(Error::io("repair", &found.path))
}

fn remove_unfinished(directory: &Directory) -> Result<(), Error> {
    for path in segment::unfinished(&directory.path)? {
        directory.disk.remove(&path).map_err(Error::io("delete", &path))?;
    }
    Ok(())
}
