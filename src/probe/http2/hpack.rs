//! Compressed headers (HPACK, RFC 7541): all that a target may use is decoded, and nothing that we
//! send is compressed.
//!
//! The table that a target fills with what it has sent is as large as the standard lets it be if we
//! say nothing, 4 KiB; a list of headers is bounded when it is decoded, however small it came.

use std::collections::VecDeque;

use super::huffman;

/// The size of the table that both sides begin with, and the most we allow.
const MAX_TABLE: usize = 4096;

/// What an entry costs beside its name and value.
const OVERHEAD: usize = 32;

/// Header lists that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::probe) enum Error {
    /// It ends in the middle of a header.
    #[error("headers that end too early")]
    Short,
    /// A number that is larger than any that can be meant.
    #[error("headers with a number that is too large")]
    Number,
    /// An index that nothing is at.
    #[error("headers with an index that nothing is at")]
    Index,
    /// Bits that are no Huffman code.
    #[error("headers with a text that is no Huffman code")]
    Huffman,
    /// A change of the table's size that is too large, or in a wrong place.
    #[error("headers that change the table's size as they may not")]
    Table,
    /// More than is wanted.
    #[error("headers of more than {0} bytes")]
    Long(usize),
}

/// What a target has sent before on a connection, and may refer to.
#[derive(Debug)]
pub(in crate::probe) struct Decoder {
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

#[derive(Debug)]
struct Entry {
    /// Name and value, one after the other.
    text: Box<[u8]>,
    name_length: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: MAX_TABLE }
    }
}

impl Decoder {
    /// Decodes a list of headers of at most `limit` bytes (with 32 for each header), and hands over
    /// each with its name and value.
    pub(in crate::probe) fn decode(
        &mut self,
        mut block: &[u8],
        limit: usize,
        mut header: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Error> {
        let (mut left, mut is_first) = (limit, true);
        // Name and value of a header, decoded.
        let mut text = Vec::new();
        while let Some(first) = block.first().copied() {
            text.clear();
            if first & 0xe0 == 0x20 {
                let size = number(&mut block, 5)?;
                if !is_first || size > MAX_TABLE {
                    return Err(Error::Table);
                }
                self.resize(size);
                continue;
            }
            is_first = false;
            let (name_length, is_kept) = if first & 0x80 != 0 {
                let index = number(&mut block, 7)?;
                let (name, value) = self.at(index)?;
                text.extend_from_slice(name);
                text.extend_from_slice(value);
                (name.len(), false)
            } else {
                let is_kept = first & 0x40 != 0;
                match number(&mut block, if is_kept { 6 } else { 4 })? {
                    0 => string(&mut block, &mut text, left)?,
                    index => text.extend_from_slice(self.at(index)?.0),
                }
                let name_length = text.len();
                string(&mut block, &mut text, left)?;
                (name_length, is_kept)
            };
            left = left.checked_sub(text.len() + OVERHEAD).ok_or(Error::Long(limit))?;
            let (name, value) = text.split_at(name_length);
            header(name, value);
            if is_kept {
                self.keep(Entry { text: text.as_slice().into(), name_length });
            }
        }
        Ok(())
    }

    fn at(&self, index: usize) -> Result<(&[u8], &[u8]), Error> {
        let index = index.checked_sub(1).ok_or(Error::Index)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - STATIC.len()).ok_or(Error::Index)?;
        Ok(entry.text.split_at(entry.name_length))
    }

    fn keep(&mut self, entry: Entry) {
        let size = entry.size();
        if size > self.most {
            self.shrink(0);
            return;
        }
        self.shrink(self.most - size);
        self.size += size;
        self.entries.push_front(entry);
    }

    fn resize(&mut self, most: usize) {
        self.most = most;
        self.shrink(most);
    }

    /// Forgets the oldest entries, until what is left is no larger than this.
    fn shrink(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// Takes a number whose first byte has so many bits of it.
fn number(block: &mut &[u8], bits: u32) -> Result<usize, Error> {
    let mut take = || {
        let (first, rest) = block.split_first().ok_or(Error::Short)?;
        *block = rest;
        Ok(usize::from(*first))
    };
    let most = (1 << bits) - 1;
    let mut value = take()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14] {
        let byte = take()?;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::Number)
}

/// Takes a text of at most `limit` bytes, to the end of `out`.
fn string(block: &mut &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Error> {
    let is_coded = block.first().ok_or(Error::Short)? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Error::Short)?;
    *block = rest;
    // No code is shorter than 5 bits, so this also bounds what is decoded.
    if length > limit {
        return Err(Error::Long(limit));
    }
    if is_coded {
        return huffman::decode(text, out).ok_or(Error::Huffman);
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Writes a number whose first byte has so many bits of it, and these before them.
fn write_number(out: &mut Vec<u8>, before: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    let byte = |value: usize| u8::try_from(value).expect("masked");
    if value < most {
        return out.push(before | byte(value));
    }
    out.push(before | byte(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(byte(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(byte(rest));
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    write_number(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// Whether a header may be put into the table of a compression on its way, whose size tells what is
/// in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) enum Secrecy {
    Open,
    Secret,
}

/// Writes a header that the standard has an entry for, name and value.
pub(in crate::probe) fn write_known(out: &mut Vec<u8>, name: &str, value: &str) {
    match STATIC.iter().position(|known| *known == (name, value)) {
        Some(place) => write_number(out, 0x80, 7, place + 1),
        None => write_header(out, name, value, Secrecy::Open),
    }
}

/// Writes a header that is not to be put into the target's table.
pub(in crate::probe) fn write_header(out: &mut Vec<u8>, name: &str, value: &str, secrecy: Secrecy) {
    let before = match secrecy {
        Secrecy::Open => 0x00,
        Secrecy::Secret => 0x10,
    };
    if let Some(place) = STATIC.iter().position(|(known, _)| *known == name) {
        write_number(out, before, 4, place + 1);
    } else {
        out.push(before);
        write_string(out, name.as_bytes());
    }
    write_string(out, value.as_bytes());
}

/// The entries of the standard (appendix A), the first of which has the index 1.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests;
