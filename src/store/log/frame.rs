//! Frames: what is written at once, with a checksum over all of it.
//!
//! ```text
//! magic 4 │ length 4 │ number 8 │ crc32 of the body 4 │ crc32 of the 20 bytes before 4 │ body │ end 1
//! body = records, each: length 4 │ index 8 │ payload
//! ```
//!
//! Numbers are little-endian. A frame is wholly there or not at all, so that its pages may reach
//! the disk in any order; its number tells a frame that is missing. The header has a checksum of
//! its own: a length can be trusted even where the body is damaged. The first byte and the last
//! one are never zero, which [`is_torn`] needs.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::Path,
};

/// Most bytes of the records of a frame.
pub(super) const MAX_BODY: usize = 256 << 20;

const MAGIC: [u8; 4] = *b"\xF2bat";
const END: u8 = 0x9B;
pub(super) const HEADER: usize = 24;
const RECORD_HEADER: usize = 12;

/// What a disk writes wholly or not at all: the smallest there is.
const SECTOR: usize = 512;

/// How much is read at once.
const READ: usize = 256 << 10;

/// A frame being filled.
#[derive(Debug)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn new() -> Self {
        Self(vec![0; HEADER])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body() == 0
    }

    /// Bytes of its records.
    pub(super) fn body(&self) -> usize {
        self.0.len() - HEADER
    }

    pub(super) fn push(&mut self, index: u64, payload: &[u8]) {
        // A payload longer than that makes a frame over the limit, which is never written.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(&index.to_le_bytes());
        self.0.extend_from_slice(payload);
    }

    /// The bytes to write; nothing if there are too many.
    pub(super) fn seal(&mut self, number: u64) -> Option<&[u8]> {
        let (header, body) = self.0.split_at_mut(HEADER);
        if body.len() > MAX_BODY {
            return None;
        }
        header.copy_from_slice(&encode(number, body)?);
        self.0.push(END);
        Some(&self.0)
    }

    /// Empties it; a large buffer is given back.
    pub(super) fn clear(&mut self) {
        self.0.truncate(HEADER);
        self.0.shrink_to(1 << 20);
    }
}

fn encode(number: u64, body: &[u8]) -> Option<[u8; HEADER]> {
    let length = u32::try_from(body.len()).ok()?;
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    header[16..20].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let check = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&check.to_le_bytes());
    Some(header)
}

struct Header {
    length: usize,
    number: u64,
    check: u32,
}

/// A little-endian number; zero if there are too few bytes, which no caller lets happen.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw))
}

/// As [`u32_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u64::from_le_bytes(*raw))
}

impl Header {
    /// Bytes of the whole frame.
    fn frame(&self) -> u64 {
        (HEADER + self.length + 1) as u64
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        if header[..4] != MAGIC || u32_at(header, 20) != crc32fast::hash(&header[..20]) {
            return None;
        }
        Some(Self {
            length: u32_at(header, 4) as usize,
            number: u64_at(header, 8),
            check: u32_at(header, 16),
        })
    }
}

/// Why there is no next frame.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    /// It is not as it was written.
    Bad(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads the frames of a file in order.
#[derive(Debug)]
pub(super) struct Reader {
    file: BufReader<File>,
    /// What is left to read: where the next frame starts, and where the last one ends.
    left: Range<u64>,
    number: u64,
    body: Vec<u8>,
}

impl Reader {
    /// Reads the frames that fill a part of a file, whose first one has this number.
    pub(super) fn open(path: &Path, part: Range<u64>, number: u64) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(READ, File::open(path)?);
        file.seek(SeekFrom::Start(part.start))?;
        Ok(Self { file, left: part, number, body: Vec::new() })
    }

    /// Where the next frame starts.
    pub(super) fn offset(&self) -> u64 {
        self.left.start
    }

    /// The number of the next frame.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The records of the next frame; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Records<'_>>, Fault> {
        let left = self.left.end.saturating_sub(self.left.start);
        if left == 0 {
            return Ok(None);
        }
        if left < HEADER as u64 {
            return Err(Fault::Bad("a batch is cut off"));
        }
        let mut bytes = [0; HEADER];
        self.file.read_exact(&mut bytes)?;
        let header = Header::decode(&bytes).ok_or(Fault::Bad("a batch has a damaged header"))?;
        if header.number != self.number {
            return Err(Fault::Bad("a batch is missing"));
        }
        if header.frame() > left {
            return Err(Fault::Bad("a batch is cut off"));
        }
        self.body.resize(header.length + 1, 0);
        self.file.read_exact(&mut self.body)?;
        let body = match self.body.split_last() {
            Some((&END, body)) if crc32fast::hash(body) == header.check => body,
            _ => return Err(Fault::Bad("a batch is not what was written")),
        };
        self.left.start += header.frame();
        self.number += 1;
        Ok(Some(Records(body)))
    }

    /// Whether what stands where [`Reader::next`] found a bad frame is the unfinished last write,
    /// and not damage.
    pub(super) fn stops_torn(mut self) -> io::Result<bool> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.left.start))?;
        self.file.take(self.left.end - self.left.start).read_to_end(&mut rest)?;
        Ok(is_torn(&rest, self.left.start, self.number))
    }
}

/// The records of a frame.
#[derive(Debug)]
pub(super) struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.0.split_at_checked(RECORD_HEADER)?;
        let (payload, rest) = rest.split_at_checked(u32_at(header, 0) as usize)?;
        self.0 = rest;
        Some((u64_at(header, 4), payload))
    }
}

/// Whether the bytes from a bad frame to the end of the file are what a power cut leaves of the
/// last write. That is so if the file ends within the frame, or if a part of it never reached the
/// disk and reads as zeros, and if nothing was written after it: a frame is synced before the next
/// one is written. A frame that is all there and wrong was damaged later. (etcd tells the two
/// apart in the same way: `isTornEntry` in `server/storage/wal/decoder.go`.)
fn is_torn(rest: &[u8], start: u64, number: u64) -> bool {
    if rest.len() < HEADER {
        return true;
    }
    match Header::decode(rest) {
        Some(header) if header.number != number => false,
        Some(header) => {
            let (there, frame) = (rest.len() as u64, header.frame());
            there < frame || (there == frame && sectors(rest, start).any(is_zero))
        }
        None => {
            // The header lies in one sector or in two.
            let sectors_of_header = if within_sector(start) + HEADER > SECTOR { 2 } else { 1 };
            sectors(rest, start).take(sectors_of_header).any(is_zero)
                && !holds_later_frame(rest, number)
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The bytes, which start at an offset of their file, cut at the bounds of sectors.
fn sectors(bytes: &[u8], start: u64) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = bytes.split_at(bytes.len().min(SECTOR - within_sector(start)));
    std::iter::once(first).chain(rest.chunks(SECTOR))
}

fn within_sector(offset: u64) -> usize {
    usize::try_from(offset % SECTOR as u64).unwrap_or_default()
}

fn holds_later_frame(rest: &[u8], number: u64) -> bool {
    let starts = rest.windows(HEADER).filter(|bytes| bytes[..4] == MAGIC);
    starts.filter_map(Header::decode).any(|header| header.number > number)
}
