//! The files of the log: their names, and the header each starts with.
//!
//! ```text
//! magic 8 │ version 4 │ sequence 8 │ previous 8 │ number 8 │ crc32 of the 36 bytes before 4
//! ```
//!
//! A file gets its name only when its header is on the disk, so that a bad header is always damage.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    Directory, Error,
    frame::{u32_at, u64_at},
};

/// The format written, and the newest one understood.
pub(super) const VERSION: u32 = 1;

/// Bytes of a header.
pub(super) const HEADER: u64 = 40;
const CHECKED: usize = 36;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Batches.
    Segment,
    /// A state.
    Snapshot,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"rollcseg",
            Self::Snapshot => b"rollcsnp",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Segment => "segment-",
            Self::Snapshot => "snapshot-",
        }
    }

    /// The name of a file.
    pub(super) fn name(self, sequence: u64) -> String {
        format!("{}{sequence:020}", self.prefix())
    }

    fn sequence(self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix())?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    }
}

/// How the names of unfinished files end.
pub(super) const UNFINISHED: &str = ".tmp";

/// The start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Of a segment its place; of a snapshot, the place of the first segment after it.
    pub(super) sequence: u64,
    /// Where the segment before ends: what stands after that was never acknowledged.
    pub(super) previous: u64,
    /// The number of the first batch of the segment.
    pub(super) number: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.kind.magic().to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for field in [self.sequence, self.previous, self.number] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let check = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(kind: Kind, path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |what| Err(Error::Damaged { path: path.to_owned(), offset: 0, what });
        if !bytes.starts_with(kind.magic()) || bytes.len() <= CHECKED {
            return damaged("the header is not one of ours");
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(Error::Newer { path: path.to_owned(), version });
        }
        if version != VERSION || u32_at(bytes, CHECKED) != crc32fast::hash(&bytes[..CHECKED]) {
            return damaged("the header is not what was written");
        }
        let (sequence, previous, number) =
            (u64_at(bytes, 12), u64_at(bytes, 20), u64_at(bytes, 28));
        Ok(Self { kind, sequence, previous, number })
    }
}

/// A file of the log that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    /// Bytes of the file.
    pub(super) length: u64,
}

impl Found {
    fn read(kind: Kind, path: PathBuf, sequence: u64) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let read = |bytes: &mut Vec<u8>| -> io::Result<u64> {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.take(HEADER).read_to_end(bytes)?;
            Ok(length)
        };
        let length = read(&mut bytes).map_err(Error::io("read", &path))?;
        let header = Header::decode(kind, &path, &bytes)?;
        if header.sequence != sequence {
            let what = "the file has the name of another";
            return Err(Error::Damaged { path, offset: 0, what });
        }
        Ok(Self { path, header, length })
    }
}

/// Where what was written to a segment ends and the zeros after it begin: a batch ends with a byte
/// that is none.
pub(super) fn end_of_data(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut block = [0; 4096];
    while end > HEADER {
        let start = (end - 1) / block.len() as u64 * block.len() as u64;
        let read = &mut block[..usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(read, start)?;
        if let Some(last) = read.iter().rposition(|byte| *byte != 0) {
            return Ok((start + last as u64 + 1).max(HEADER));
        }
        end = start;
    }
    Ok(HEADER)
}

/// Lists the files of a kind in order, each as its sequence and its path.
pub(super) fn list(directory: &Path, kind: Kind) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut found = Vec::new();
    for name in names(directory)? {
        if let Some(sequence) = kind.sequence(&name) {
            found.push((sequence, directory.join(name)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Lists the files that were never finished.
pub(super) fn unfinished(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let ours = |name: &String| {
        name.strip_suffix(UNFINISHED).is_some_and(|name| {
            [Kind::Segment, Kind::Snapshot].iter().any(|kind| kind.sequence(name).is_some())
        })
    };
    Ok(names(directory)?.into_iter().filter(ours).map(|name| directory.join(name)).collect())
}

fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in directory.read_dir()? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    };
    read().map_err(Error::io("list", directory))
}

/// A file by its place, with what was found in it: a damaged one may not matter.
pub(super) type Listed = (u64, Result<Found, Error>);

/// Reads the headers of all files of a kind, in order.
pub(super) fn find(directory: &Path, kind: Kind) -> Result<Vec<Listed>, Error> {
    let read = |(sequence, path)| (sequence, Found::read(kind, path, sequence));
    Ok(list(directory, kind)?.into_iter().map(read).collect())
}

/// Creates a segment durably. One of the same name, which never held an acknowledged batch, is
/// replaced.
pub(super) fn create(directory: &Directory, header: &Header) -> Result<File, Error> {
    let name = header.kind.name(header.sequence);
    let unfinished = directory.path.join(format!("{name}{UNFINISHED}"));
    let disk = &directory.disk;
    let create = || -> io::Result<File> {
        let file = disk.create(&unfinished)?;
        disk.write(&file, &header.encode(), 0)?;
        disk.sync(&file)?;
        disk.rename(&unfinished, &directory.path.join(&name))?;
        disk.sync_names(&directory.handle)?;
        Ok(file)
    };
    create().map_err(Error::io("create", &directory.path.join(&name)))
}
