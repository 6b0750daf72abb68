//! HTTP/2 as far as a probe needs it (RFC 9113): its frames, and what those mean that belong to no
//! stream. Headers are in `hpack`.
//!
//! What a target may say is read strictly: a frame that breaks its form is `protocol`.

pub(super) mod hpack;
mod huffman;

use super::fault::Fault;
use crate::model::Reason;

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame before its payload.
pub(super) const HEAD_LEN: usize = 9;

/// The longest payload that may be sent to one whose SETTINGS do not allow more.
pub(super) const MAX_PAYLOAD: usize = 16_384;

/// Types of frames.
pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

/// Flags of frames.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITIZED: u8 = 0x20;

/// Settings.
pub(super) const HEADER_TABLE_SIZE: u16 = 0x1;
pub(super) const ENABLE_PUSH: u16 = 0x2;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// What a PING carries, and its answer repeats.
pub(super) type Opaque = [u8; 8];

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// What a frame says to the connection as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Nothing that matters.
    Nothing,
    /// The target's settings, which want an acknowledgement.
    Settings(&'a [u8]),
    /// A ping of the target's own, which wants one too.
    Ping(Opaque),
    /// The acknowledgement of a ping.
    Pong(Opaque),
    /// So many bytes more may be sent.
    Credit(u32),
    /// The target ends the connection.
    GoAway(GoAway<'a>),
    /// Nothing: it belongs to a stream.
    OfStream,
}

/// A refusal with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoAway<'a> {
    /// The last stream that the target has looked at, or will.
    pub(super) last: u32,
    /// Why; 0 is for no fault of ours.
    pub(super) code: u32,
    text: &'a [u8],
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD_LEN]) -> Result<Self, Fault> {
        if bytes.starts_with(b"HTTP/") {
            return Err(protocol("the target speaks HTTP/1, not HTTP/2"));
        }
        let [high, middle, low, kind, flags, stream @ ..] = bytes;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > MAX_PAYLOAD {
            return Err(protocol(format!(
                "a frame of {length} bytes; at most {MAX_PAYLOAD} may be"
            )));
        }
        Ok(Self { length, kind, flags, stream: without_first_bit(stream) })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What the frame says, whose payload this is, unless it belongs to a stream.
    pub(super) fn meaning(self, payload: &[u8]) -> Result<Meaning<'_>, Fault> {
        let is_ack = self.has(ACK);
        match (self.kind, self.stream) {
            (SETTINGS, 0) if is_ack && payload.is_empty() => Ok(Meaning::Nothing),
            (SETTINGS, 0) if !is_ack && payload.len().is_multiple_of(6) => {
                Ok(Meaning::Settings(payload))
            }
            (PING, 0) => {
                let opaque =
                    payload.try_into().map_err(|_| protocol("a PING that is not of 8 bytes"))?;
                Ok(if is_ack { Meaning::Pong(opaque) } else { Meaning::Ping(opaque) })
            }
            (GOAWAY, 0) => GoAway::parse(payload).map(Meaning::GoAway),
            (WINDOW_UPDATE, 0) => match payload.try_into().map(without_first_bit) {
                Ok(credit @ 1..) => Ok(Meaning::Credit(credit)),
                Ok(0) | Err(_) => Err(self.misplaced()),
            },
            // May name a stream that does not exist yet.
            (PRIORITY, 1..) if payload.len() == 5 => Ok(Meaning::Nothing),
            // Extensions: whoever does not know them passes them over.
            (kind, _) if kind > CONTINUATION => Ok(Meaning::Nothing),
            (DATA | HEADERS | RST_STREAM | WINDOW_UPDATE | CONTINUATION, 1..) => {
                Ok(Meaning::OfStream)
            }
            (_, _) => Err(self.misplaced()),
        }
    }

    /// A frame in a place, or of a form, that the protocol does not know.
    pub(super) fn misplaced(self) -> Fault {
        let Self { length, kind, stream, .. } = self;
        protocol(format!(
            "a frame that cannot be here: type {kind:#x}, stream {stream}, {length} bytes"
        ))
    }

    /// The payload without padding and without what HEADERS say of priorities.
    pub(super) fn content(self, payload: &[u8]) -> Result<&[u8], Fault> {
        let mut content = payload;
        if self.has(PADDED) {
            let (padding, rest) = content.split_first().ok_or_else(|| self.misplaced())?;
            let length = rest.len().checked_sub(usize::from(*padding));
            let length = length.ok_or_else(|| protocol("a frame with more padding than bytes"))?;
            content = &rest[..length];
        }
        if self.kind == HEADERS && self.has(PRIORITIZED) {
            content = content.get(5..).ok_or_else(|| self.misplaced())?;
        }
        Ok(content)
    }
}

impl<'a> GoAway<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, Fault> {
        let Some(([last @ .., _, _, _, _], _)) = payload.split_first_chunk::<8>() else {
            return Err(protocol("a GOAWAY of less than 8 bytes"));
        };
        let (head, text) = payload.split_at(8);
        let code = head[4..].try_into().map_or(0, u32::from_be_bytes);
        Ok(Self { last: without_first_bit(*last), code, text })
    }

    pub(super) fn fault(self) -> Fault {
        let text = String::from_utf8_lossy(self.text);
        let separator = if text.is_empty() { "" } else { ": " };
        let code = self.code;
        protocol(format!("the target sent GOAWAY with the error code {code}{separator}{text}"))
    }
}

/// A number of 31 bits: the first bit is reserved and means nothing.
pub(super) fn without_first_bit(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

/// The frame at the beginning of what has been read, if it is whole.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, Fault> {
    let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let head = Head::parse(*head)?;
    Ok(rest.get(..head.length).map(|payload| (head, payload)))
}

/// The settings in a payload.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|[a, b, value @ ..]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value)))
}

/// Writes a frame of at most [`MAX_PAYLOAD`] bytes.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    write_head(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

fn write_head(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    debug_assert!(length <= MAX_PAYLOAD, "a frame is too long");
    let [.., high, middle, low] = length.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Writes encoded headers, in as many frames as it takes; the stream goes on.
pub(super) fn write_headers(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    let mut kind = HEADERS;
    let mut rest = block;
    loop {
        let (part, more) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        let flags = if more.is_empty() { END_HEADERS } else { 0 };
        write(out, kind, flags, stream, part);
        if more.is_empty() {
            return;
        }
        (kind, rest) = (CONTINUATION, more);
    }
}

pub(super) fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, kind, flags, stream, payload);
        bytes
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = read(PING, ACK, 0, b"12345678");
        let (head, payload) = first(&bytes).unwrap().unwrap();
        assert_eq!(head.meaning(payload).unwrap(), Meaning::Pong(*b"12345678"));
        for cut in 0..bytes.len() {
            assert_eq!(first(&bytes[..cut]).unwrap(), None);
        }
    }

    #[test]
    fn headers_that_are_long_go_on_in_further_frames() {
        let block = vec![7; 2 * MAX_PAYLOAD + 1];
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        write_headers(&mut bytes, 3, &block);
        let mut rest = &bytes[..];
        while let Some((head, payload)) = first(rest).unwrap() {
            seen.push((head.kind, head.flags, head.stream, head.length));
            rest = &rest[HEAD_LEN + payload.len()..];
        }
        let full = MAX_PAYLOAD;
        let expected =
            [(HEADERS, 0, 3, full), (CONTINUATION, 0, 3, full), (CONTINUATION, END_HEADERS, 3, 1)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn padding_and_priorities_are_taken_off() {
        let content = |kind, flags, payload: &[u8]| {
            let head = Head { length: payload.len(), kind, flags, stream: 1 };
            head.content(payload).map(<[u8]>::to_vec).map_err(|fault| fault.detail)
        };
        assert_eq!(content(DATA, 0, b"\x02abc").unwrap(), b"\x02abc");
        assert_eq!(content(DATA, PADDED, b"\x02abc").unwrap(), b"a");
        assert_eq!(content(DATA, PADDED, b"\x03abc").unwrap(), b"");
        assert_eq!(content(HEADERS, PADDED | PRIORITIZED, b"\x0112345ab").unwrap(), b"a");
        assert_eq!(content(DATA, PRIORITIZED, b"abc").unwrap(), b"abc");
        for (kind, flags, payload) in [
            (DATA, PADDED, &b"\x04abc"[..]),
            (DATA, PADDED, b""),
            (HEADERS, PRIORITIZED, b"1234"),
            (HEADERS, PADDED | PRIORITIZED, b"\x0512345"),
        ] {
            assert!(content(kind, flags, payload).is_err(), "{payload:?}");
        }
    }

    #[test]
    fn settings_are_pairs() {
        let payload = b"\0\x01\0\0\0\0\0\x04\0\x01\0\0";
        let read: Vec<_> = settings(payload).collect();
        assert_eq!(read, [(HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, 65_536)]);
    }
}
